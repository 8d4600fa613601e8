"""Draws review frames, without torch: the process that draws need not import it."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages import files
from stages.appearance_file import load_appearance
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.config import Config, ReviewSettings
from tracker.frame_read import appearance_light, extrinsics
from tracker.frame_vertices import FrameVertices
from tracker.head.plain import PlainHead
from tracker.head_choice import load_plain_head
from tracker.render import View
from tracker.review_frame import ReviewFrame, ReviewHead, ReviewInput, compose, review_head
from tracker.sh_constants import SH_CONSTANTS
from tracker.shut_look import ShutLids


@dataclass(frozen=True, eq=False)
class Painter:
    """Draws one frame and writes it; used by several threads."""

    subject: Subject
    vertices: FrameVertices
    head: ReviewHead
    settings: ReviewSettings
    shut: ShutLids | None = None

    def draw(self, index: int, frame: dict[str, Any]) -> tuple[int, float | None]:
        """Writes video/<index>.jpg; returns the index and the overlay's PSNR, None where no face is seen."""
        drawn = compose(self.lidded(frame), self.shown(index, frame), self.settings.panel_px)
        files.write_image(self.subject.review_path(index), drawn.picture, self.settings.jpeg_quality)
        return index, round(drawn.psnr_db, 3) if math.isfinite(drawn.psnr_db) else None

    def lidded(self, frame: dict[str, Any]) -> ReviewHead:
        """The head with its lids looking as far closed as they are in a frame."""
        if self.shut is None:
            return self.head
        return replace(self.head, texture=self.shut.over(self.head.texture, frame["state"]["eyelids"]))

    def shown(self, index: int, frame: dict[str, Any]) -> ReviewInput:
        """What the review frame of a checkpoint shows; `frame` from `load_frame`.

        Raises:
            InputError: the checkpoint is of another head model.
        """
        subject = self.subject
        track = frame["track"]
        R, t, intrinsics = extrinsics(frame)
        image = files.read_image(subject.explained_path(index))
        dense, sparse = subject.load_kpt_dense(index), subject.load_kpt(index)
        return ReviewInput(
            index=index,
            image=image,
            vertices_head_m=self.vertices.of(frame),
            view=View(R, t, intrinsics, (image.shape[0], image.shape[1])),
            sh=appearance_light(frame),
            status=str(track["status"]),
            reprojection_px=float(track["reprojection_px"]),
            photometric_l1=float(track["photometric_l1"]),
            fitted478_px=np.asarray(track["landmarks478"], np.float64),
            detected478_px=dense if dense.any() else None,
            detected68_px=sparse if sparse.any() else None,
        )


def make_painter(subject: Subject, config: Config, model: PlainHead | None = None) -> Painter:
    """Loads what all frames share; the head model is loaded where none is given."""
    model = model or load_plain_head(config)
    look = load_appearance(subject.appearance_path)
    return Painter(subject, FrameVertices(model), review_head(model, look.albedo, look.valid), config.review, look.shut)


def rehearse(model: PlainHead) -> ReviewFrame:
    """Draws a grey head before a grey wall: afterwards all compiled kernels have been read from numba's cache."""
    side = 64
    size, camera = (2 * side, 2 * side), Intrinsics(4.0 * side, side, side)
    head = review_head(model, np.full((side, side, 3), 0.5, np.float32), np.ones((side, side), np.float32))
    level = np.eye(3)
    vertices = model.vertices(np.zeros(0), level, np.stack([level, level]), np.zeros(2))
    view = View(np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 0.5]), camera, size)
    light = np.zeros((9, 3))
    light[0] = 1 / SH_CONSTANTS[0]
    points = np.full((478, 2), float(side))
    wall = np.full((*size, 3), 128, np.uint8)
    shown = ReviewInput(0, wall, vertices, view, light, "ok", 0.0, 0.0, points, points, points[:68])
    return compose(head, shown, side)


class Rehearsal:
    """Makes drawing ready on a thread while something else runs: kernels and head model. Use as a context manager."""

    def __init__(self, config: Config) -> None:
        """Starts it."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rehearsal")
        self._work = self._pool.submit(_ready_model, config)

    def __enter__(self) -> "Rehearsal":
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(wait=True)

    def model(self) -> PlainHead:
        """The head model, when all is ready.

        Raises:
            InputError: the model's file is missing or damaged.
        """
        return self._work.result()


def _ready_model(config: Config) -> PlainHead:
    model = load_plain_head(config)
    rehearse(model)
    return model
