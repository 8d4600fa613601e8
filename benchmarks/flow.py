"""What optical flow does where no face is detected: `python -m benchmarks.flow --cfg configs/demo.yml`.

Tracks a calibrated clip in memory, all its frames or every third or sixth (faster motion), six of ten frames without
their detections, with flow and without. Errors are distances of the fitted landmarks to those of the same frames
tracked with their detections.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.track import machine
from tracker.clip import FrameInput
from tracker.frame_solver import FrameSolver
from tracker.residuals.projection import project_state
from tracker.track import Past, TrackedFrame, track_frame

# Of this many frames the last six are tracked without their detections.
_PERIOD, _DETECTED = 10, 4
_STEPS = (1, 3, 6)


@dataclass(frozen=True)
class GapRow:
    """Errors of the frames without detection.

    Attributes:
        median_px: median distance of a frame's landmarks, in the median frame.
        worst_px: in the worst frame.
        lost: frames that were called lost.
    """

    median_px: float
    worst_px: float
    lost: int


def undetected(place: int) -> bool:
    """Whether a frame is tracked without its detections."""
    return place % _PERIOD >= _DETECTED


def track(solver: FrameSolver, frames: Sequence[FrameInput], blind: Sequence[bool]) -> list[TrackedFrame]:
    """Tracks frames in order, some without their detections."""
    past, tracked = Past(None, None, ""), []
    for frame, hidden in zip(frames, blind, strict=True):
        shown = replace(frame, dense_px=None, sparse_px=None) if hidden else frame
        tracked.append(track_frame(solver, shown, past))
        past = past.behind(tracked[-1])
    return tracked


def row(
    solver: FrameSolver, seen: Sequence[TrackedFrame], blinded: Sequence[TrackedFrame], blind: Sequence[bool]
) -> GapRow:
    """Compares a track with gaps to that of the same frames with all detections."""
    pairs = [pair for *pair, hidden in zip(seen, blinded, blind, strict=True) if hidden]
    errors = [_distance_px(solver, first, second) for first, second in pairs]
    return GapRow(float(np.median(errors)), max(errors), sum(second.status == "lost" for _, second in pairs))


def _distance_px(solver: FrameSolver, first: TrackedFrame, second: TrackedFrame) -> float:
    clip = solver.clip
    places = [project_state(clip.landmark_points, each.state, clip.intrinsics) for each in (first, second)]
    return float((places[0] - places[1]).norm(dim=1).median())


def report(cfg: Path, overrides: Sequence[str], limit: int) -> list[str]:
    """A table of one clip, and what flow costs a frame.

    Raises:
        InputError: the clip is not calibrated.
    """
    from stages.clip_files import frame_input, has_sparse, load_clip, load_flow_appearance
    from stages.config_file import load_config
    from stages.subject import Subject
    from tracker.clip import held_unknowns
    from tracker.head_choice import load_head_model

    config, _ = load_config(cfg, tuple(overrides))
    subject, model = Subject.of(config), load_head_model(config)
    clip, _ = load_clip(subject, config, model)
    held, appearance = held_unknowns(model, config.optimize_jaw), load_flow_appearance(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held, appearance)
    indices, sparse = subject.frame_indices()[:limit], has_sparse(subject)
    frames = [frame_input(subject, index, sparse) for index in indices]
    without, lines = replace(solver, appearance=None), []
    for step in _STEPS:
        chosen = frames[::step]
        blind = [undetected(place) for place in range(len(chosen))]
        seen = track(without, chosen, [False] * len(chosen))
        moved = [_distance_px(solver, *pair) for pair in zip(seen[1:], seen[:-1], strict=True)]
        cells = [row(solver, seen, track(each, chosen, blind), blind) for each in (without, solver)]
        said = " -> ".join(f"{cell.median_px:.2f} px (worst {cell.worst_px:.2f}), {cell.lost} lost" for cell in cells)
        lines.append(f"every {step}. frame, {np.median(moved):.1f} px a frame, {sum(blind)} undetected: {said}")
    return [*lines, f"flow term {_milliseconds(solver, frames[0], seen[0]):.1f} ms a frame"]


def _milliseconds(solver: FrameSolver, frame: FrameInput, tracked: TrackedFrame) -> float:
    """Median of making the term."""
    times, blind = [], replace(frame, dense_px=None)
    for _ in range(20):
        start = time.perf_counter()
        solver.flow(blind, tracked.state)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flow", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", type=Path, nargs="+", required=True, help="configs of calibrated clips")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--frames", type=int, default=120, help="at most this many frames of a clip")
    given = parser.parse_args(arguments)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print("without -> with flow")
    for cfg in given.cfg:
        print(cfg.stem)
        for line in report(cfg, given.overrides, given.frames):
            print("  " + line)


if __name__ == "__main__":
    main()
