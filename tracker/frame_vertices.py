"""The posed head of a checkpoint, without torch."""

from typing import Any

import numpy as np

from tracker.frame_read import check_head, matrix_from_6d
from tracker.head.plain import PlainHead


class FrameVertices:
    """Vertices of a track's checkpoints; threads may share it."""

    def __init__(self, model: PlainHead) -> None:
        """For checkpoints of a head model."""
        self.model = model
        # Every checkpoint of a track has the same identity: the head of the last one is kept.
        self._last: tuple[np.ndarray, PlainHead] | None = None

    def of(self, frame: dict[str, Any]) -> np.ndarray:
        """(V, 3) float32 metres in head space.

        Args:
            frame: a checkpoint's dict.

        Raises:
            InputError: the checkpoint is of another head model.
        """
        check_head(frame, self.model.name)
        block = {key: np.asarray(value, np.float32)[0] for key, value in frame["flame"].items()}
        jaw, eyes = matrix_from_6d(block["jaw"]), matrix_from_6d(block["eyes"].reshape(2, 6))
        # FLAME's coefficients are padded with zeros in the file.
        expression = block["exp"][: self.model.expression_basis.shape[2]]
        return self._shaped(block["shape"]).vertices(expression, jaw, eyes, block["eyelids"])

    def _shaped(self, shape: np.ndarray) -> PlainHead:
        last = self._last
        if last is None or not np.array_equal(last[0], shape):
            last = (shape, self.model.shaped(shape[: self.model.shape_basis.shape[2]]))
            self._last = last
        return last[1]
