"""Stage tracking: one checkpoint, mesh and depth picture a frame; report.json at the end.

A killed run goes on at the first missing checkpoint. The checkpoint is the last file written of a frame and holds the
solver's whole state in float64, so that a resumed track equals an uninterrupted one.
"""

import csv
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.ahead import in_order
from stages.clip_files import frame_input, has_sparse, load_clip, picture_inputs
from stages.context import StageContext
from stages.report import summarise, write_report
from stages.subject import Subject
from tracker.clip import held_unknowns
from tracker.config import Config
from tracker.frame_file import TrackRecord, encode_frame, load_frame, state_arrays, state_from_arrays
from tracker.frame_solver import FrameSolver
from tracker.head_choice import head_name, load_head_model, model_files
from tracker.mesh_files import depth_png, ply_bytes
from tracker.surface import depth_buffer, surface_view
from tracker.track import Past, TrackedFrame, track_frame

NAME = "tracking"
RESUMES = True

# Frames whose files may wait for the writer while the solver goes on.
_WRITES_IN_FLIGHT = 4


def config_part(config: Config) -> dict[str, Any]:
    """Head model, energy, per-frame settings; the calibration's own part reaches here through its record."""
    return {
        "head": head_name(config),
        "begin_frames": config.begin_frames,
        "end_frames": config.end_frames,
        "optimize_jaw": config.optimize_jaw,
        "energy": config.energy.model_dump(),
        "tracking": config.tracking.model_dump(),
        "write_meshes": config.write_meshes,
        "write_depth": config.write_depth,
    }


def inputs(subject: Subject, config: Config) -> list[Path]:
    """Pictures, landmarks, crop, calibration and the head model's files."""
    return [
        *picture_inputs(subject),
        subject.calibration_path,
        *model_files(config),
    ]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """Per-frame folders and the report."""
    return [
        subject.report_path,
        subject.checkpoint_dir,
        subject.mesh_dir,
        subject.depth_dir,
        subject.explained_dir,
        subject.timings_path,
    ]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Tracks the clip.

    Raises:
        InputError: the calibration or a picture is missing or damaged.
    """
    model = load_head_model(config)
    clip, record = load_clip(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held_unknowns(model, config.optimize_jaw))
    indices = subject.frame_indices()
    with_sparse = has_sparse(subject)
    first = _first_missing(subject, indices) if context.resume else 0
    if first:
        logger.info(f"tracking: {first} of {len(indices)} frames are there, going on with frame {first}")
    past = _past(subject, first)
    frames = in_order(lambda index: (index, frame_input(subject, index, with_sparse)), indices[first:], 1, 3)
    with context.scalars() as scalars, _Writer(subject, solver, config) as writer:
        for index, frame in context.progress(frames, len(indices) - first):
            started = time.perf_counter()
            tracked = track_frame(solver, frame, past)
            milliseconds = (time.perf_counter() - started) * 1000
            past = past.then(tracked.state, tracked.status)
            writer.write(index, tracked, milliseconds)
            scalars.add_scalar("tracking/reprojection_px", tracked.reprojection_px, index)
            scalars.add_scalar("tracking/photometric_l1", tracked.solution.photometric_l1, index)
            scalars.add_scalar("tracking/correlation", tracked.solution.correlation, index)
            scalars.add_scalar("tracking/milliseconds", milliseconds, index)
            scalars.add_scalar("tracking/steps", tracked.solution.steps, index)
    report = write_report(subject, record)
    summarise(report, context)


def _first_missing(subject: Subject, indices: range) -> int:
    return next((index for index in indices if not subject.checkpoint_path(index).exists()), len(indices))


def _past(subject: Subject, first: int) -> Past:
    """What the frame `first` needs of those before, from their checkpoints."""
    if first == 0:
        return Past(None, None, "")
    last = load_frame(subject.checkpoint_path(first - 1))
    before = load_frame(subject.checkpoint_path(first - 2)) if first > 1 else None
    trusted = before is not None and before["track"]["status"] != "lost"
    return Past(
        state_from_arrays(last["state"]),
        state_from_arrays(before["state"]) if before is not None and trusted else None,
        last["track"]["status"],
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """One frame's files to be written."""

    index: int
    tracked: TrackedFrame
    milliseconds: float


class _Writer:
    """Writes frames in order on a thread of its own, checkpoint last."""

    def __init__(self, subject: Subject, solver: FrameSolver, config: Config) -> None:
        self._subject = subject
        self._config = config
        self._crop = subject.load_crop()
        self._clip = solver.clip
        self._triangles = solver.clip.model.triangles.numpy()
        self._pool = ThreadPoolExecutor(1)
        self._pending: list[Future[None]] = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(wait=True)
        self._collect(0)

    def write(self, index: int, tracked: TrackedFrame, milliseconds: float) -> None:
        """Hands one frame over; waits while too many are in flight."""
        self._pending.append(self._pool.submit(self._write, _Job(index, tracked, milliseconds)))
        self._collect(_WRITES_IN_FLIGHT)

    def _collect(self, limit: int) -> None:
        """Waits until at most `limit` frames are in flight; raises what a write raised."""
        while len(self._pending) > limit:
            self._pending.pop(0).result()

    def _write(self, job: _Job) -> None:
        subject, clip, state = self._subject, self._clip, job.tracked.state
        if self._config.write_depth or self._config.write_meshes:
            view = surface_view(clip.model, clip.shape, state)
        if self._config.write_depth:
            depth = depth_png(depth_buffer(clip.model, view, state, clip.intrinsics, clip.size))
            files.write_image(subject.depth_path(job.index), depth)
        if self._config.write_meshes:
            files.write_bytes(subject.mesh_path(job.index), ply_bytes(view.vertices_head_m.numpy(), self._triangles))
        picture = subject.image_path(subject.number_of(job.index))
        files.write_atomic(subject.explained_path(job.index), lambda target: shutil.copyfile(picture, target))
        with subject.timings_path.open("a", newline="") as file:
            csv.writer(file).writerow([job.index, f"{job.milliseconds:.1f}"])
        files.save_torch(subject.checkpoint_path(job.index), self._frame(job))

    def _frame(self, job: _Job) -> dict[str, Any]:
        clip, tracked = self._clip, job.tracked
        frame = encode_frame(clip.model, clip.shape, tracked.state, clip.intrinsics, clip.size, job.index)
        solution = tracked.solution
        full = self._crop.full_frame_intrinsics(clip.intrinsics)
        frame["track"] = TrackRecord(
            status=tracked.status,
            reprojection_px=tracked.reprojection_px,
            photometric_l1=solution.photometric_l1,
            correlation=solution.correlation,
            landmarks478=tracked.landmarks478,
            steps=solution.steps,
            outcome=solution.status,
        ).as_dict()
        frame["full_frame"] = {
            "K": full.matrix().astype(np.float32)[None],
            "img_size": np.array(self._crop.source_size, np.int64),
        }
        frame["state"] = state_arrays(tracked.state)
        return frame
