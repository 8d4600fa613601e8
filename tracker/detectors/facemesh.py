"""mediapipe's FaceMesh with irises: 478 points a face.

Source: Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, 2019; Grishchenko et
al., Attention Mesh, 2020. Graph and weights lie in the mediapipe wheel (Apache 2.0).
"""

from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from tracker.detectors.quiet import quiet_stderr

NAME = "mediapipe FaceMesh 0.10.21, refined"
POINT_COUNT = 478
_WARM_UP_SIDE_PX = 64


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        points_px: (478, 2) float64 continuous pixels of the picture, FaceMesh order.
    """

    points_px: np.ndarray

    @property
    def box_px(self) -> np.ndarray:
        """(4,) xmin, ymin, xmax, ymax of the points."""
        return np.concatenate([self.points_px.min(0), self.points_px.max(0)])

    @property
    def centre_px(self) -> np.ndarray:
        """(2,) centre of the box."""
        return (self.box_px[:2] + self.box_px[2:]) / 2

    @property
    def size_px(self) -> float:
        """Longer side of the box."""
        return float((self.box_px[2:] - self.box_px[:2]).max())


class FaceMesh:
    """Runs the FaceMesh graph. Use as a context manager: the graph holds threads and about 50 MB.

    In tracking mode a face found in one picture is looked for in the next around its landmarks, which is steadier than
    a detection a picture; pictures must come in order. The same pictures in order give the same numbers, bit by bit.
    """

    def __init__(self, max_faces: int, tracking: bool) -> None:
        """Starts the graph.

        Args:
            max_faces: faces looked for; a single one does not get other points by looking for more.
            tracking: see the class.
        """
        with quiet_stderr():
            from mediapipe.python.solutions.face_mesh import FaceMesh as Graph

            self._graph = Graph(static_image_mode=not tracking, max_num_faces=max_faces, refine_landmarks=True)
            # The first picture makes the graph speak, and so does the first face; a blank picture leaves no track.
            self._graph.process(np.zeros((_WARM_UP_SIDE_PX, _WARM_UP_SIDE_PX, 3), np.uint8))
        self._met_a_face = False

    def __enter__(self) -> "FaceMesh":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._graph.close()

    def faces(self, image: np.ndarray) -> list[Face]:
        """Faces in a picture, in no particular order.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The faces; empty when none is found.
        """
        square = _padded_square(image)
        with nullcontext() if self._met_a_face else quiet_stderr():
            found = self._graph.process(square).multi_face_landmarks or []
        self._met_a_face |= bool(found)
        side = square.shape[0]
        return [Face(np.array([(p.x, p.y) for p in face.landmark], np.float64) * side) for face in found]


def _padded_square(image: np.ndarray) -> np.ndarray:
    """Zeros to the right or below; the graph projects its refined points rightly on square pictures only."""
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return np.ascontiguousarray(image)
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = image
    return square
