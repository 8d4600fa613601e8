"""The track of a clip in chunks of consecutive frames that advance in step: frame i of each chunk in one batch.

A chunk does not know the one before it. It begins a few frames early, with a pose from the landmarks and the rest from
the clip's first face; those frames are thrown away, and by the first that is kept the prediction is warm. Where the
face was not found in any of them, the chunk's frames up to the first with a face are tracked once more behind the
chunk before, one by one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from tracker.batched.chunks import Chunk, in_step, windows
from tracker.batched.solver import BatchSolver, Link
from tracker.clip import FrameInput
from tracker.frame_solver import FrameSolver
from tracker.pose import initial_pose
from tracker.problem import FrameProblem
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState
from tracker.track import Past, TrackedFrame, begin_frame, end_frame, second_opinion, temporal_term, track_frame

# Frames after which the head is known well enough to begin other chunks with.
_REFERENCE_FRAMES = 8
_START = Past(None, None, "")

Timed = tuple[int, TrackedFrame, float]


def track_chunks(
    solver: BatchSolver,
    pictures: Iterator[FrameInput],
    load: Callable[[int], FrameInput],
    span: tuple[int, int],
    batch: int,
) -> Iterator[Timed]:
    """Tracks a clip.

    Args:
        solver: of the calibrated clip.
        pictures: frames in `reading_order`.
        load: reads a frame again, of those few that are tracked twice.
        span: where to begin (see `windows`), and the number of the clip's frames.
        batch: chunks of a window at most; memory grows with it, but not with the clip.

    Yields:
        Number, result and milliseconds of every frame from the first on, in order.
    """
    past, reference = _START, None
    for window in windows(*span, batch):
        if reference is None and window[-1].first > 0:
            reference = reference_state(solver.solver, load, span[1])
        for lane in _track_window(solver, pictures, window, reference):
            for index, tracked, milliseconds in _joined(solver.solver, load, lane, past):
                past = past.behind(tracked)
                yield index, tracked, milliseconds


def reference_state(solver: FrameSolver, load: Callable[[int], FrameInput], count: int) -> FrameState | None:
    """The state in which chunks find the head, after a few frames from the clip's first face on; None without a face.

    What expression and distance can trade is hardly seen in one frame: with a head model of 100 expressions, chunks
    that began at rest each found another distance (docs/solver.md).
    """
    first = next((index for index in range(count) if load(index).dense_px is not None), None)
    if first is None:
        return None
    past = _START
    for index in range(first, min(first + _REFERENCE_FRAMES, count)):
        tracked = track_frame(solver, load(index), past)
        past = past.behind(tracked)
    return past.last


@dataclass
class _Lane:
    """One chunk on its way.

    Attributes:
        chunk: its frames.
        past: of its next frame.
        anchor: its first frame with something to start from.
        kept: its results.
    """

    chunk: Chunk
    past: Past
    anchor: int | None
    kept: list[Timed]

    def take(self, index: int, tracked: TrackedFrame, begun: bool, milliseconds: float) -> None:
        """Takes the result of a frame."""
        if begun and self.anchor is None:
            self.anchor = index
        if self.anchor is not None or self.chunk.first == 0:
            self.past = self.past.behind(tracked)
        if index >= self.chunk.first:
            self.kept.append((index, tracked, milliseconds))


def _track_window(
    solver: BatchSolver, pictures: Iterator[FrameInput], window: list[Chunk], reference: FrameState | None
) -> list[_Lane]:
    lanes = {chunk.first: _Lane(chunk, _START, None, []) for chunk in window}
    for together in in_step(window):
        frames = [next(pictures) for _ in together]
        started = time.perf_counter()
        going = [lanes[chunk.first] for _, chunk in together]
        references = [reference if lane.chunk.first and lane.past.last is None else None for lane in going]
        found = track_batch(solver, frames, [lane.past for lane in going], references)
        share = (time.perf_counter() - started) * 1000 / len(together)
        for (place, chunk), lane, (tracked, begun) in zip(together, going, found, strict=True):
            lane.take(chunk.early + place, tracked, begun, share)
    return list(lanes.values())


def _joined(solver: FrameSolver, load: Callable[[int], FrameInput], lane: _Lane, past: Past) -> Iterator[Timed]:
    """A chunk's frames; those before it found anything are tracked once more behind the chunk before."""
    last = lane.chunk.stop - 1 if lane.anchor is None else lane.anchor
    for index, tracked, milliseconds in lane.kept:
        if index > last or past.last is None:
            yield index, tracked, milliseconds
            continue
        started = time.perf_counter()
        again = track_frame(solver, load(index), past)
        past = past.behind(again)
        yield index, again, milliseconds + (time.perf_counter() - started) * 1000


def track_batch(
    solver: BatchSolver,
    frames: Sequence[FrameInput],
    pasts: Sequence[Past],
    references: Sequence[FrameState | None],
) -> list[tuple[TrackedFrame, bool]]:
    """Tracks one frame of each of several chunks, by the rules of `tracker.track.track_frame`.

    Restarts from landmarks, the flow of frames without a face, and second opinions are solved on the host.

    Args:
        solver: of the calibrated clip.
        frames: B pictures and detections.
        pasts: the frames before each.
        references: of each frame: where a chunk begins with it, what the head is like; else None.

    Returns:
        The tracked frames, and whether each had something to start from.
    """
    single = solver.solver
    begun = [begin_frame(single, frame, past) for frame, past in zip(frames, pasts, strict=True)]
    starts, links, flows = list[FrameState](), list[Link | None](), list[tuple[Outcome, ...]]()
    for frame, beginning, reference in zip(frames, begun, references, strict=True):
        if beginning.start is None:
            continue
        start, ended = _flowed(single, frame, beginning.start)
        link = Link(beginning.start) if beginning.linked else None
        if reference is not None:
            start = _placed(single, frame, reference)
            link = Link(start, pose=False)
        starts.append(start)
        links.append(link)
        flows.append(ended)
    going = [frame for frame, beginning in zip(frames, begun, strict=True) if beginning.start is not None]
    found = iter(zip(solver.solve(going, starts, links), flows, strict=True)) if going else iter(())
    results = []
    for frame, past, beginning in zip(frames, pasts, begun, strict=True):
        solution = None
        if beginning.start is not None:
            solution, ended = next(found)
            solution = replace(solution, outcomes=(*ended, *solution.outcomes))
            solution = second_opinion(single, frame, past, beginning, solution)
        results.append((end_frame(single, frame, past, beginning, solution), solution is not None))
    return results


def _placed(solver: FrameSolver, frame: FrameInput, reference: FrameState) -> FrameState:
    """A reference with the pose that a frame's landmarks give its points."""
    clip = solver.clip
    assert frame.dense_px is not None
    targets = clip.landmarks.targets(frame.dense_px, frame.sparse_px).numpy()
    R, t = initial_pose(clip.landmark_points.positions(reference).numpy(), targets, clip.intrinsics)
    return replace(reference, R=torch.from_numpy(R), t=torch.from_numpy(t))


def _flowed(solver: FrameSolver, frame: FrameInput, start: FrameState) -> tuple[FrameState, tuple[Outcome, ...]]:
    """Where a frame without a face starts once optical flow has led it, and how that solve ended."""
    flow = None if frame.dense_px is not None else solver.flow(frame, start)
    if flow is None:
        return start, ()
    problem = FrameProblem(
        intrinsics=solver.clip.intrinsics,
        landmarks=(flow,),
        photometric=None,
        gaussians=(solver.prior, temporal_term(solver, start)),
        gaze=GazeSymmetryTerm(),
        bounds=solver.bounds,
        scale=solver.scale,
        held=solver.held,
    )
    solution = minimise(problem, start, SolverSettings(max_steps=solver.tracking.steps))
    return solution.state, (solution.outcome,)
