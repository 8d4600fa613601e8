"""Times the solver on each device: `python -m benchmarks.devices --cfg configs/demo.yml --frames 96`.

Tracks the first frames of a calibrated clip (run the pipeline on it first), one by one with the compiled kernels and in
chunks with the batched solve, on the CPU and, where torch finds one, on the GPU. Ways take turns, so that whatever else
the machine does meets all of them. Given for each: milliseconds a frame on the clock (median over turns, smallest and
largest) and of processor time, frames tracked for every one kept (chunks begin a few frames early), and the distance of
its track to that of the kernels: fitted landmarks and vertices of the face, median and worst frame. Pictures are read
beforehand.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.track import machine
from stages.clip_files import frame_input, has_sparse, load_clip, load_flow_appearance
from stages.config_file import load_config
from stages.subject import Subject
from tracker.batched.chunks import reading_order
from tracker.batched.solver import BatchSolver
from tracker.batched.track import track_chunks
from tracker.clip import FrameInput, held_unknowns
from tracker.demo.score import face_vertices
from tracker.frame_solver import FrameSolver
from tracker.head_choice import load_head_model
from tracker.surface import surface_view
from tracker.track import Past, TrackedFrame, track_frame

Way = Callable[[], list[TrackedFrame]]
_REFERENCE = "kernels, cpu"


def one_by_one(solver: FrameSolver, frames: Sequence[FrameInput]) -> list[TrackedFrame]:
    """Tracks frames in order with the compiled kernels."""
    past, tracked = Past(None, None, ""), []
    for frame in frames:
        tracked.append(track_frame(solver, frame, past))
        past = past.behind(tracked[-1])
    return tracked


def in_chunks(solver: BatchSolver, frames: Sequence[FrameInput], batch: int) -> list[TrackedFrame]:
    """Tracks chunks of the frames at once."""
    pictures = (frames[index] for index in reading_order(0, len(frames), batch))
    return [found[1] for found in track_chunks(solver, pictures, frames.__getitem__, (0, len(frames)), batch)]


def devices() -> dict[str, str]:
    """Devices by the name that the table gives them."""
    found = {"cpu": "cpu"}
    if torch.cuda.is_available():
        found[f"cuda ({torch.cuda.get_device_name()})"] = "cuda"
    return found


def ways(solver: FrameSolver, frames: Sequence[FrameInput], batches: Sequence[int]) -> dict[str, tuple[Way, float]]:
    """What is timed, and how many frames each tracks for one that it keeps."""
    timed: dict[str, tuple[Way, float]] = {_REFERENCE: (lambda: one_by_one(solver, frames), 1.0)}
    for name, device in devices().items():
        on_device = BatchSolver(solver, device)
        for batch in batches:
            tracked = len(list(reading_order(0, len(frames), batch))) / len(frames)
            way = (lambda on_device=on_device, batch=batch: in_chunks(on_device, frames, batch)), tracked
            timed[f"batch of {batch}, {name}"] = way
    return timed


def differences(solver: FrameSolver, ours: Sequence[TrackedFrame], theirs: Sequence[TrackedFrame]) -> dict[str, float]:
    """Distance of two tracks: median of a frame, then in the median and the worst frame."""
    clip, face = solver.clip, face_vertices(solver.clip.model)

    def vertices(frame: TrackedFrame) -> np.ndarray:
        return surface_view(clip.model, clip.shape, frame.state).vertices_cam_m(frame.state).numpy()[face]

    pairs = list(zip(ours, theirs, strict=True))
    pixels = [np.nanmedian(np.linalg.norm(a.landmarks478 - b.landmarks478, axis=1)) for a, b in pairs]
    metres = [np.median(np.linalg.norm(vertices(a) - vertices(b), axis=1)) for a, b in pairs]
    return {
        "landmarks px, median frame": float(np.median(pixels)),
        "landmarks px, worst frame": float(np.max(pixels)),
        "vertices mm, median frame": 1000 * float(np.median(metres)),
        "vertices mm, worst frame": 1000 * float(np.max(metres)),
        "other status": float(sum(a.status != b.status for a, b in pairs)),
    }


def measure(solver: FrameSolver, frames: Sequence[FrameInput], batches: Sequence[int], turns: int) -> dict[str, dict]:
    """Times every way in turn; the first turn is not counted."""
    timed = ways(solver, frames, batches)
    milliseconds: dict[str, list[float]] = {name: [] for name in timed}
    processor: dict[str, list[float]] = {name: [] for name in timed}
    tracks: dict[str, list[TrackedFrame]] = {}
    for _ in range(turns + 1):
        for name, (way, _) in timed.items():
            started, busy = time.perf_counter(), time.process_time()
            tracks[name] = way()
            milliseconds[name].append((time.perf_counter() - started) * 1000 / len(frames))
            processor[name].append((time.process_time() - busy) * 1000 / len(frames))
    rows = {}
    for name, (_, tracked) in timed.items():
        counted = milliseconds[name][1:]
        rows[name] = {
            "ms a frame, median": float(np.median(counted)),
            "ms a frame, least": min(counted),
            "ms a frame, most": max(counted),
            "processor ms a frame, median": float(np.median(processor[name][1:])),
            "frames tracked for one kept": tracked,
        }
        if name != _REFERENCE:
            rows[name] |= differences(solver, tracks[name], tracks[_REFERENCE])
    return rows


def main() -> None:
    """Reads the arguments, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", type=Path, required=True, help="config of a subject that is calibrated")
    parser.add_argument("--frames", type=int, default=96, help="frames tracked, from the first on")
    parser.add_argument("--batches", default="1,3", help="chunks at once, comma-separated")
    parser.add_argument("--turns", type=int, default=3, help="turns that count")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of the config")
    arguments = parser.parse_args()
    config, _ = load_config(arguments.cfg, tuple(arguments.set))
    subject = Subject.of(config)
    model = load_head_model(config)
    clip, _ = load_clip(subject, config, model)
    held, appearance = held_unknowns(model, config.optimize_jaw), load_flow_appearance(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held, appearance)
    indices = subject.frame_indices()[: arguments.frames]
    frames = [frame_input(subject, index, has_sparse(subject)) for index in indices]
    batches = [int(batch) for batch in arguments.batches.split(",")]
    rows = measure(solver, frames, batches, arguments.turns)
    about = {"machine": machine(), "threads of torch": torch.get_num_threads(), "devices": list(devices())}
    print(json.dumps({**about, "head": model.name, "frames": len(frames), "ways": rows}, indent=2))


if __name__ == "__main__":
    main()
