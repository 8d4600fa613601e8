"""The files of tracked frames, written without torch: by the tracking stage, or by the process that started its own.

What is to be written comes as jobs, in order: `KeptFrame` for a frame as it was tracked, `FinalFrame` for its final
state. Beside a solver that has a process of its own, the other process carries them out: a thread beside the solver
would keep it waiting for the interpreter.
"""

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages import files
from stages.subject import Subject
from tracker.config import Config
from tracker.frame_read import extrinsics
from tracker.frame_vertices import FrameVertices
from tracker.head.plain import PlainHead
from tracker.head_choice import load_plain_head
from tracker.mesh_files import depth_png, ply_bytes
from tracker.rasterizer import rasterize


@dataclass(frozen=True, eq=False)
class KeptFrame:
    """Job: keep a frame as it was tracked, for a run that goes on after a kill.

    Attributes:
        index: of the frame.
        arrays: of its record, by name.
    """

    index: int
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class FinalFrame:
    """Job: write the files of a frame in its final state.

    Attributes:
        frame: the checkpoint's dict.
        milliseconds: that the frame took.
    """

    frame: dict[str, Any]
    milliseconds: float


class FrameFiles:
    """Carries out jobs, one after another."""

    def __init__(self, subject: Subject, config: Config, load_model: Callable[[], PlainHead] | None = None) -> None:
        """For a subject that is being tracked.

        Args:
            subject: whose folders are written to.
            config: says which files are wanted.
            load_model: gives the head model, where something else has loaded it already.
        """
        self._subject = subject
        self._config = config
        self._load_model = load_model or (lambda: load_plain_head(config))
        self._vertices: FrameVertices | None = None
        self._forgotten = 0

    def do(self, job: KeptFrame | FinalFrame) -> None:
        """Carries out one job; the checkpoint is the last file written of a frame."""
        if isinstance(job, KeptFrame):
            write_npz(self._subject.raw_path(job.index), job.arrays)
            return
        index = int(job.frame["global_step"])
        self._write_surface(index, job.frame)
        subject = self._subject
        picture = subject.image_path(subject.number_of(index))
        files.write_atomic(subject.explained_path(index), lambda target: shutil.copyfile(picture, target))
        with subject.timings_path.open("a", newline="") as file:
            csv.writer(file).writerow([index, f"{job.milliseconds:.1f}"])
        files.save_torch_arrays(subject.checkpoint_path(index), job.frame)
        if self._config.smoother.enabled:
            self._forget(index + 1)

    def _write_surface(self, index: int, frame: dict[str, Any]) -> None:
        """Depth picture and mesh, where they are wanted."""
        if not (self._config.write_depth or self._config.write_meshes):
            return
        if self._vertices is None:
            self._vertices = FrameVertices(self._load_model())
        vertices, triangles = self._vertices.of(frame), self._vertices.model.triangles
        if self._config.write_depth:
            R, t, camera = extrinsics(frame)
            height, width = (int(side) for side in frame["img_size"])
            seen = rasterize(vertices @ R.T + t, triangles, camera, (height, width), weights=False)
            files.write_image(self._subject.depth_path(index), depth_png(seen))
        if self._config.write_meshes:
            files.write_bytes(self._subject.mesh_path(index), ply_bytes(vertices, triangles))

    def _forget(self, first: int) -> None:
        """Removes what was kept of frames that smoothing a frame and those after it does not look at."""
        settings = self._config.smoother
        needed_from = settings.window_start(first // settings.block)
        for index in range(self._forgotten, needed_from):
            files.remove(self._subject.raw_path(index))
        self._forgotten = max(needed_from, self._forgotten)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays to one .npz file, atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    files.write_atomic(path, write)
