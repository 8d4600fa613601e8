"""Draws review frames; also in a process of its own, so that drawing does not hold the interpreter the solver needs.

`python -m stages.drawing CONFIG` reads frame numbers from its standard input, a line each, draws each frame, and
answers with a line of JSON. It ends with its input, so it does not outlive the run that started it, however that ends.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from stages import files
from stages.manifest import ROOT
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.config import Config, ReviewSettings
from tracker.errors import InputError, SubjectError, TrackerError
from tracker.frame_file import extrinsics, head_params, load_frame
from tracker.head.model import HeadModel
from tracker.head_choice import load_head_model
from tracker.render import View
from tracker.review_frame import ReviewFrame, ReviewHead, ReviewInput, compose, review_head
from tracker.shut_lids import ShutLids
from tracker.state import neutral_state


@dataclass(frozen=True, eq=False)
class Painter:
    """Draws one frame and writes it; used by several threads."""

    subject: Subject
    model: HeadModel
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
        """What the review frame of a checkpoint shows; `frame` from `load_frame`."""
        subject = self.subject
        track = frame["track"]
        R, t, intrinsics = extrinsics(frame)
        image = files.read_image(subject.explained_path(index))
        dense, sparse = subject.load_kpt_dense(index), subject.load_kpt(index)
        return ReviewInput(
            index=index,
            image=image,
            vertices_head_m=self.model.vertices(head_params(frame, self.model)).numpy(),
            view=View(R, t, intrinsics, (image.shape[0], image.shape[1])),
            sh=np.asarray(frame["flame"]["sh"])[0],
            status=str(track["status"]),
            reprojection_px=float(track["reprojection_px"]),
            photometric_l1=float(track["photometric_l1"]),
            fitted478_px=np.asarray(track["landmarks478"], np.float64),
            detected478_px=dense if dense.any() else None,
            detected68_px=sparse if sparse.any() else None,
        )


def make_painter(subject: Subject, config: Config, model: HeadModel | None = None) -> Painter:
    """Loads what all frames share; the head model is loaded where none is given."""
    model = model or load_head_model(config)
    albedo, valid = load_appearance(subject.appearance_path)
    shut = load_shut_lids(subject.appearance_path)
    return Painter(subject, model, review_head(model, albedo, valid), config.review, shut)


def rehearse(model: HeadModel) -> ReviewFrame:
    """Draws a grey head before a grey wall: afterwards all compiled kernels have been read from numba's cache."""
    side = 64
    size, camera = (2 * side, 2 * side), Intrinsics(4.0 * side, side, side)
    head = review_head(model, np.full((side, side, 3), 0.5, np.float32), np.ones((side, side), np.float32))
    state = neutral_state(model)
    vertices = model.vertices(model.neutral()).numpy()
    view = View(state.R.numpy(), state.t.numpy(), camera, size)
    points = np.full((478, 2), float(side))
    wall = np.full((*size, 3), 128, np.uint8)
    shown = ReviewInput(0, wall, vertices, view, state.light.numpy(), "ok", 0.0, 0.0, points, points, points[:68])
    return compose(head, shown, side)


def load_appearance(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (T, T, 3) and validity (T, T), float32."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            albedo, valid = archive["albedo"].astype(np.float32), archive["valid"].astype(np.float32)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the stage calibration first") from error
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise InputError(f"{path}: damaged ({error}); run the stage calibration again with --force") from error
    if albedo.ndim != 3 or albedo.shape != (*valid.shape, 3):
        raise InputError(f"{path}: albedo {albedo.shape} and valid {valid.shape} do not fit; run calibration again")
    return albedo, valid


def load_shut_lids(path: Path) -> ShutLids | None:
    """The look of shut lids of an appearance that `load_appearance` has read; None where no frame showed them."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if "shut_albedo" not in archive.files:
            return None
        return ShutLids(archive["shut_albedo"].astype(np.float32), archive["shut_mask"].astype(np.float32))


class DrawingProcess:
    """The process, seen from the run that feeds it."""

    def __init__(self, config_path: Path) -> None:
        """Starts it for the subject of a resolved config file."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stages.drawing", str(config_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def __enter__(self) -> "DrawingProcess":
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def draw(self, index: int) -> tuple[int, float | None]:
        """Draws one frame; its number and the overlay's PSNR.

        Raises:
            InputError: a file of the frame is missing or damaged.
            SubjectError: the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Where the process has gone, what it said last says why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{index}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SubjectError(
                f"review: the drawing process ended with code {self._process.wait()} at frame {index}; run again, it "
                "goes on there"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(str(answer["error"]))
        return index, answer["psnr_db"]


def answer_all(draw: Callable[[int], float | None]) -> None:
    """Answers every line of the standard input until it ends."""
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"psnr_db": draw(int(line))}
        except TrackerError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(config_path: Path) -> None:
    """Draws frames of a resolved config's subject."""
    from stages.config_file import load_config

    config, _ = load_config(config_path)
    subject = Subject.of(config)
    model = load_head_model(config)
    rehearse(model)
    painter = None

    def draw(index: int) -> float | None:
        nonlocal painter
        painter = painter or make_painter(subject, config, model)
        return painter.draw(index, load_frame(subject.checkpoint_path(index)))[1]

    answer_all(draw)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
