"""Stage tracking: one checkpoint, mesh and depth picture a frame; report.json at the end.

The checkpoint is the last file written of a frame and final. Smoothed frames become final a block at a time; until then
they lie, as tracked, in a working folder (`stages.raw_frames`), which goes when the stage ends.

A killed run goes on behind the last of those, or at the first missing checkpoint where nothing is smoothed. Both kinds
of file hold the solver's whole state in float64, so that a resumed track equals an uninterrupted one. Where the working
folder is gone, it tracks from the start and writes what is missing.

On a GPU, or where `tracking.batch` asks for it, several chunks of the clip are solved at once (`stages.chunked`). There
is no working folder then: a killed run goes on with the window of chunks that holds the first frame it needs.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.ahead import in_order
from stages.chunked import chunked_records
from stages.clip_files import frame_input, has_sparse, load_clip, load_flow_appearance, picture_inputs
from stages.context import StageContext
from stages.frame_files import FinalFrame, FrameFiles, KeptFrame
from stages.raw_frames import RawRecord, left_by_a_killed_run
from stages.report import summarise, write_report
from stages.subject import Subject
from stages.texture_code import clip_texture, texture_files
from tracker.batched.chunks import chunk_count
from tracker.batched.solver import BatchSolver
from tracker.clip import frame_bounds, held_unknowns, prior_stds
from tracker.config import Config
from tracker.frame_file import TextureCode, TrackRecord, encode_frame, load_frame, state_arrays, state_from_arrays
from tracker.frame_solver import FrameSolver
from tracker.head.plain import PlainHead
from tracker.head_choice import head_name, load_head_model, model_files
from tracker.landmark_set import is_detected
from tracker.smoother import FixedLag, smoother_of
from tracker.state import FrameState
from tracker.track import Past, fitted478, judge, track_frame

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
        "smoother": config.smoother.model_dump(),
        "write_meshes": config.write_meshes,
        "write_depth": config.write_depth,
        "tex_params": config.tex_params,
    }


def inputs(subject: Subject, config: Config) -> list[Path]:
    """Pictures, landmarks, crop, calibration, files of head model and texture, the appearance where it is looked at."""
    texture = texture_files(config)
    return [
        *picture_inputs(subject),
        subject.calibration_path,
        *([subject.appearance_path] if config.energy.flow_weight or texture else []),
        *model_files(config),
        *texture,
    ]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """Per-frame folders and the report."""
    return [
        subject.report_path,
        subject.raw_dir,
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
    held, appearance = held_unknowns(model, config.optimize_jaw), load_flow_appearance(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held, appearance)
    texture = clip_texture(subject, config, model)
    indices = subject.frame_indices()
    missing = _first_missing(subject, indices) if context.resume else 0
    if missing:
        logger.info(f"tracking: {missing} of {len(indices)} frames are there, going on with frame {missing}")
    if missing < len(indices):
        with _Writer(subject, solver, config, texture.code, context) as writer:
            _track(solver, indices, missing, writer, config, context)
    files.remove(subject.raw_dir)
    report = write_report(subject, record, texture.summary)
    summarise(report, context)


def _track(
    solver: FrameSolver, indices: range, missing: int, writer: "_Writer", config: Config, context: StageContext
) -> None:
    """Tracks what is missing and writes it."""
    subject = writer.subject
    smoothing, batch = config.smoother.enabled, _batch(config, context.device)
    if batch:
        start = _chunked_start(config, missing)
    else:
        start = _smoothed_start(subject, config, missing) if smoothing else _plain_start(subject, missing)
    finisher = _SmoothingFinisher(subject, solver, config, start.block) if smoothing else _Finisher(subject, solver)
    with context.scalars() as scalars:
        if batch:
            on_device = BatchSolver(solver, context.device)
            records = chunked_records(subject, on_device, start.first, len(indices), batch)
        else:
            records = _records(subject, solver, start, indices, writer if smoothing else None)
        finished = (frame for record in records for frame in finisher.add(*record))
        for frame in context.progress(chain(finished, finisher.rest()), len(indices) - start.first_final):
            if frame.index < missing:
                continue
            writer.write(frame)
            scalars.add_scalar("tracking/reprojection_px", frame.reprojection_px, frame.index)
            scalars.add_scalar("tracking/photometric_l1", frame.record.photometric_l1, frame.index)
            scalars.add_scalar("tracking/correlation", frame.record.correlation, frame.index)
            scalars.add_scalar("tracking/milliseconds", frame.milliseconds, frame.index)
            scalars.add_scalar("tracking/steps", frame.record.steps, frame.index)


def _batch(config: Config, device: str) -> int:
    """Chunks that are solved at once on a device; 0 where frames are solved one by one."""
    batch = chunk_count(config.tracking.batch, device)
    if batch and config.energy.flow_always:
        logger.info("tracking: energy.flow_always, so frames are solved one by one on the CPU")
        return 0
    return batch


def _first_missing(subject: Subject, indices: range) -> int:
    return next((index for index in indices if not subject.checkpoint_path(index).exists()), len(indices))


@dataclass(frozen=True, eq=False)
class _Start:
    """Where tracking begins.

    Attributes:
        first: index of the first of `left`, or of the first frame to be tracked.
        left: frames that a killed run tracked, but did not finish.
        past: what the frame after them needs.
        block: the first block to be smoothed.
        first_final: the first frame that will be finished.
    """

    first: int
    left: list[RawRecord]
    past: Past
    block: int
    first_final: int


def _plain_start(subject: Subject, missing: int) -> _Start:
    """Without smoothing: at the first missing checkpoint, with what the two before it hold."""
    frames = [load_frame(subject.checkpoint_path(index)) for index in range(max(missing - 2, 0), missing)]
    tracks = [frame["track"] for frame in frames]
    states = [state_from_arrays(frame["state"]) for frame in frames]
    last = [(state, x["status"], x["correlation"]) for state, x in zip(states, tracks, strict=True)]
    return _Start(missing, [], _past(last), 0, missing)


def _smoothed_start(subject: Subject, config: Config, missing: int) -> _Start:
    """Behind the frames that a killed run left, or from the start where they are gone."""
    block = missing // config.smoother.block
    begin = config.smoother.window_start(block)
    left = left_by_a_killed_run(subject, begin) if subject.raw_dir.exists() else []
    if len(left) < 2:
        return _Start(0, [], _past([]), 0, 0)
    past = _past([(record.frame.state, record.status, record.correlation) for record in left[-2:]])
    return _Start(begin, left, past, block, block * config.smoother.block)


def _chunked_start(config: Config, missing: int) -> _Start:
    """At the first frame that the first missing one needs."""
    if not config.smoother.enabled:
        return _Start(missing, [], _past([]), 0, missing)
    block = missing // config.smoother.block
    return _Start(config.smoother.window_start(block), [], _past([]), block, block * config.smoother.block)


def _past(last: list[tuple[FrameState, str, float]]) -> Past:
    """What the next frame needs, from state, status and correlation of the last frames, at most two."""
    past = Past(None, None, "")
    for frame in last:
        past = past.then(*frame)
    return past


def _records(
    subject: Subject, solver: FrameSolver, start: _Start, indices: range, keep: "_Writer | None"
) -> Iterator[tuple[int, RawRecord]]:
    """Index and record of every frame in order: those that were left, then those tracked now, which may be kept."""
    yield from enumerate(start.left, start.first)
    past, with_sparse = start.past, has_sparse(subject)
    todo = indices[start.first + len(start.left) :]
    for index, frame in in_order(lambda index: (index, frame_input(subject, index, with_sparse)), todo, 1, 3):
        started = time.perf_counter()
        tracked = track_frame(solver, frame, past)
        past = past.behind(tracked)
        record = RawRecord.of(tracked, (time.perf_counter() - started) * 1000)
        if keep is not None:
            keep.keep(index, record)
        yield index, record


@dataclass(frozen=True, eq=False)
class _Finished:
    """One frame in its final state.

    Attributes:
        index: of the frame.
        state: its unknowns.
        status: 'ok', 'poor' or 'lost', of that state.
        landmarks478: (478, 2) fitted points, pixels.
        reprojection_px: their median distance to the detected ones.
        record: how it was tracked.
        milliseconds: tracking and, where it was smoothed, its share of the block's time.
    """

    index: int
    state: FrameState
    status: str
    landmarks478: np.ndarray
    reprojection_px: float
    record: RawRecord
    milliseconds: float


class _Finisher:
    """Says what each tracked frame finally is: as it was tracked."""

    def __init__(self, subject: Subject, solver: FrameSolver) -> None:
        self._subject = subject
        self._solver = solver

    def add(self, index: int, record: RawRecord) -> list[_Finished]:
        """Takes a frame; gives those that have become final."""
        return [self._finished(index, record.frame.state, record, record.milliseconds)]

    def rest(self) -> Iterator[_Finished]:
        """The frames that are final once no more come."""
        yield from ()

    def _finished(self, index: int, state: FrameState, record: RawRecord, milliseconds: float) -> _Finished:
        """The frame in its final state, judged anew against its landmarks."""
        dense = self._subject.load_kpt_dense(index)
        fitted = fitted478(self._solver, state)
        dense_px = dense if is_detected(dense) else None
        status, reprojection = judge(self._solver.tracking, fitted, dense_px, record.correlation)
        status = record.status if record.status == "lost" else status
        return _Finished(index, state, status, fitted, reprojection, record, milliseconds)


class _SmoothingFinisher(_Finisher):
    """The same, smoothed, a block at a time."""

    def __init__(self, subject: Subject, solver: FrameSolver, config: Config, block: int) -> None:
        super().__init__(subject, solver)
        model = solver.clip.model
        smoother = smoother_of(config.smoother, prior_stds(model, config.energy), frame_bounds(model), solver.held)
        self._lag = FixedLag(smoother, config.smoother, block)
        self._waiting: dict[int, RawRecord] = {}

    def add(self, index: int, record: RawRecord) -> list[_Finished]:
        self._waiting[index] = record
        started = time.perf_counter()
        return self._block(self._lag.add(record.frame), started)

    def rest(self) -> Iterator[_Finished]:
        started = time.perf_counter()
        yield from self._block(self._lag.finish(), started)

    def _block(self, final: list[tuple[int, FrameState]], started: float) -> list[_Finished]:
        if not final:
            return []
        share = (time.perf_counter() - started) * 1000 / len(final)
        frames = []
        for index, state in final:
            record = self._waiting[index]
            frames.append(self._finished(index, state, record, record.milliseconds + share))
        self._waiting = {index: record for index, record in self._waiting.items() if index > final[-1][0]}
        return frames


class _Writer:
    """Has frames written in order: on a thread of its own, or by the process that started this one."""

    def __init__(
        self, subject: Subject, solver: FrameSolver, config: Config, texture: TextureCode, context: StageContext
    ) -> None:
        self.subject = subject
        self._texture = texture
        self._crop = subject.load_crop()
        self._clip = solver.clip
        self._elsewhere = context.elsewhere
        self._do: Callable[[Any], None]
        if context.elsewhere is None:
            self._do = FrameFiles(subject, config, lambda: PlainHead.of(solver.clip.model)).do
        else:
            self._do = context.elsewhere.send
        self._pool = ThreadPoolExecutor(1)
        self._pending: list[Future[None]] = []
        # A block comes at once; what waits are a few numbers a frame.
        self._limit = _WRITES_IN_FLIGHT + (2 * config.smoother.block if config.smoother.enabled else 0)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(wait=True)
        self._collect(0)
        if self._elsewhere is not None:
            self._elsewhere.settle()

    def write(self, frame: _Finished) -> None:
        """Hands one frame over; waits while too many are in flight."""
        self._submit(lambda: self._do(FinalFrame(self._frame(frame), frame.milliseconds)))

    def keep(self, index: int, record: RawRecord) -> None:
        """Hands a frame over as it was tracked, for a run that goes on after a kill."""
        self._submit(lambda: self._do(KeptFrame(index, record.arrays())))

    def _submit(self, work: Callable[[], None]) -> None:
        self._pending.append(self._pool.submit(work))
        self._collect(self._limit)

    def _collect(self, limit: int) -> None:
        """Waits until at most `limit` frames are in flight; raises what a write raised."""
        while len(self._pending) > limit:
            self._pending.pop(0).result()

    def _frame(self, job: _Finished) -> dict[str, Any]:
        clip = self._clip
        frame = encode_frame(clip.model, clip.shape, job.state, clip.intrinsics, clip.size, job.index, self._texture)
        full = self._crop.full_frame_intrinsics(clip.intrinsics)
        frame["track"] = TrackRecord(
            status=job.status,
            reprojection_px=job.reprojection_px,
            photometric_l1=job.record.photometric_l1,
            correlation=job.record.correlation,
            landmarks478=job.landmarks478,
            steps=job.record.steps,
            outcome=job.record.outcome,
        ).as_dict()
        frame["full_frame"] = {
            "K": full.matrix().astype(np.float32)[None],
            "img_size": np.array(self._crop.source_size, np.int64),
        }
        frame["state"] = state_arrays(job.state)
        return frame
