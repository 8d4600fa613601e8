"""How a clip is cut into chunks, and in which order their frames are tracked.

Chunks are counted from frame 0 and do not depend on where a run begins, so that one that is taken up again gives what
it would have given.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from tracker.clip import FrameInput

# Frames of a chunk, and frames that it begins early: docs/solver.md says what a longer run-in changes.
CHUNK_FRAMES = 32
RUN_IN_FRAMES = 8
# Chunks at once on a GPU where the config leaves it open.
_ON_GPU = 16


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames.

    Attributes:
        early: first frame that is tracked.
        first: first frame that is kept.
        stop: the frame behind the last one.
    """

    early: int
    first: int
    stop: int


def windows(first: int, count: int, batch: int) -> Iterator[list[Chunk]]:
    """The chunks that are tracked in step, window after window.

    Args:
        first: where to begin, at a multiple of batch x `CHUNK_FRAMES`.
        count: frames of the clip.
        batch: chunks of a window at most.
    """
    for window in range(first, count, batch * CHUNK_FRAMES):
        starts = range(window, min(window + batch * CHUNK_FRAMES, count), CHUNK_FRAMES)
        yield [Chunk(max(s - RUN_IN_FRAMES, 0), s, min(s + CHUNK_FRAMES, count)) for s in starts]


def reading_order(first: int, count: int, batch: int) -> Iterator[int]:
    """Frames in the order in which `tracker.batched.track.track_chunks` takes their pictures."""
    for window in windows(first, count, batch):
        for together in in_step(window):
            yield from (chunk.early + place for place, chunk in together)


def resumed_first(load: Callable[[int], FrameInput], needed: int, batch: int) -> int:
    """The latest window from which the frames from `needed` on come out as in an uninterrupted run.

    Args:
        load: reads a frame.
        needed: first frame that is wanted.
        batch: chunks of a window at most.
    """
    length = batch * CHUNK_FRAMES
    first = needed // length * length
    while first > 0 and all(load(i).dense_px is None for i in range(first - RUN_IN_FRAMES, first)):
        first -= length
    return first


def in_step(window: list[Chunk]) -> Iterator[list[tuple[int, Chunk]]]:
    """The chunks of a window that have a frame at each place."""
    for place in range(max(chunk.stop - chunk.early for chunk in window)):
        yield [(place, chunk) for chunk in window if chunk.early + place < chunk.stop]


def chunk_count(batch: int, device: str) -> int:
    """Chunks solved at once for a setting `tracking.batch`: 0 leaves it to the device, one by one on the CPU."""
    return batch or (_ON_GPU if torch.device(device).type == "cuda" else 0)
