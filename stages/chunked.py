"""Tracked frames of a clip whose chunks are solved at once, for the tracking stage."""

from collections.abc import Iterator

from stages.ahead import in_order
from stages.clip_files import frame_input, has_sparse
from stages.raw_frames import RawRecord
from stages.subject import Subject
from tracker.batched.chunks import reading_order, resumed_first
from tracker.batched.solver import BatchSolver
from tracker.batched.track import track_chunks
from tracker.clip import FrameInput

# Threads that read pictures; decoding runs outside the interpreter's lock.
_READERS = 2


def chunked_records(
    subject: Subject, solver: BatchSolver, needed: int, count: int, batch: int
) -> Iterator[tuple[int, RawRecord]]:
    """Index and record of the frames from `needed` on, in order.

    A window of `batch` chunks is tracked before its first frame comes. What is behind it is read when its turn comes,
    so memory does not grow with the clip.

    Args:
        subject: whose pictures and landmarks are read.
        solver: of the calibrated clip.
        needed: first frame wanted; tracking begins at the window that holds it.
        count: frames of the clip.
        batch: chunks solved at once.
    """
    with_sparse = has_sparse(subject)

    def load(index: int) -> FrameInput:
        return frame_input(subject, index, with_sparse)

    first = resumed_first(load, needed, batch)
    pictures = in_order(load, reading_order(first, count, batch), _READERS, 2 * batch)
    for index, tracked, milliseconds in track_chunks(solver, pictures, load, (first, count), batch):
        if index >= needed:
            yield index, RawRecord.of(tracked, milliseconds)
