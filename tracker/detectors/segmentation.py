"""mediapipe's selfie segmentation: a matte of the person in the picture.

Graph and weights lie in the mediapipe wheel (Apache 2.0). The network works on 256 x 256 pixels.
"""

from types import TracebackType

import numpy as np

from tracker.detectors.lean_import import lean_mediapipe
from tracker.detectors.quiet import quiet_stderr

NAME = "mediapipe selfie segmentation 0.10.21"
_WARM_UP_SIDE_PX = 64


class PersonMatte:
    """Runs the segmentation graph. Use as a context manager; pictures are independent of one another."""

    def __init__(self) -> None:
        with lean_mediapipe():
            import mediapipe as mp

        with quiet_stderr():
            self._graph = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self._graph.process(np.zeros((_WARM_UP_SIDE_PX, _WARM_UP_SIDE_PX, 3), np.uint8))

    def __enter__(self) -> "PersonMatte":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._graph.close()

    def matte(self, image: np.ndarray) -> np.ndarray:
        """The matte of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (H, W) float32 in [0, 1], 1 on the person.
        """
        mask: np.ndarray = self._graph.process(np.ascontiguousarray(image)).segmentation_mask
        return np.clip(mask, 0, 1).astype(np.float32)
