"""TensorBoard event files of scalars, written by the library tensorboard itself: torch's writer would import torch."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class ScalarWriter:
    """Writes one event file. Use as a context manager; what was written before is on disk at its end."""

    def __init__(self, folder: Path) -> None:
        """Makes a new file in a folder, which is made if need be."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # Its thread may be behind by this many points before one has to wait for it.
        self._writer: EventFileWriter = EventFileWriter(str(folder), max_queue_size=1000)

    def __enter__(self) -> "ScalarWriter":
        return self

    def __exit__(self, *_error: object) -> None:
        self._writer.close()

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Adds one point of a curve.

        Args:
            tag: the curve's name.
            value: float32 in the file.
            step: where on the curve, not negative.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
