"""mediapipe's FaceMesh with irises: 478 points a face.

Source: Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, 2019; Grishchenko et
al., Attention Mesh, 2020. Graph and weights lie in the mediapipe wheel (Apache 2.0).
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

import numpy as np

from tracker.camera import from_cv2_pixels
from tracker.detectors.lean_import import lean_mediapipe
from tracker.detectors.quiet import quiet_stderr

NAME = "mediapipe FaceMesh 0.10.21, refined"
POINT_COUNT = 478
_WARM_UP_SIDE_PX = 64

# The graph cuts a square of 1.5 times the landmarks' extent, turned with the eye line, to the network's 192 x 192.
_ROI_SCALE = 1.5
_NETWORK_SIDE_PX = 192
_RIGHT_EYE_CORNER, _LEFT_EYE_CORNER = 33, 263
# It cuts with OpenCV, centres at whole numbers, on both sides of the cut. On the side of the picture that is half a
# pixel: measured -0.504 px from pictures and their mirror images at five sizes (24 pictures of two people), and 0.52 px
# from doubling the size. On the side of the network the same measurement gives +0.287 of its pixels.
_NETWORK_SHIFT_PX = 0.287


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        points_px: (478, 2) float64 continuous pixels of the picture, FaceMesh order.
    """

    points_px: np.ndarray

    @cached_property
    def box_px(self) -> np.ndarray:
        """(4,) xmin, ymin, xmax, ymax of the points."""
        return np.concatenate([self.points_px.min(0), self.points_px.max(0)])

    @cached_property
    def centre_px(self) -> np.ndarray:
        """(2,) centre of the box."""
        return (self.box_px[:2] + self.box_px[2:]) / 2

    @cached_property
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
            with lean_mediapipe():
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
        points = [np.array([(p.x, p.y) for p in face.landmark], np.float64) * side for face in found]
        return [Face(_continuous(points_px)) for points_px in points]


def _continuous(points_px: np.ndarray) -> np.ndarray:
    """The graph's pixels (478, 2) to continuous pixels, see `_NETWORK_SHIFT_PX`."""
    right = points_px[_LEFT_EYE_CORNER] - points_px[_RIGHT_EYE_CORNER]
    right = right / max(float(np.linalg.norm(right)), 1e-9)
    down = np.array([-right[1], right[0]])
    extent_px = float(np.ptp(points_px @ np.stack([right, down], 1), axis=0).max())
    network_pixel_px = _ROI_SCALE * extent_px / _NETWORK_SIDE_PX
    return from_cv2_pixels(points_px) - _NETWORK_SHIFT_PX * network_pixel_px * (right + down)


def _padded_square(image: np.ndarray) -> np.ndarray:
    """Zeros to the right or below; the graph projects its refined points rightly on square pictures only."""
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return np.ascontiguousarray(image)
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = image
    return square
