"""Finding faces from a cold start, also small ones in large pictures, before a picture is given up.

FaceMesh's own detector shrinks the whole picture to 128 x 128, so that a face of less than about a tenth of it is lost;
mediapipe's full-range detector reaches about twice as far; tiles of the picture bring smaller ones into reach. Where
insightface's or face-alignment's detectors are installed, one of them is asked first.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tracker.detectors.facemesh import Face, FaceMesh
from tracker.detectors.lean_import import lean_mediapipe
from tracker.detectors.quiet import quiet_stderr

if TYPE_CHECKING:
    from mediapipe.python.solutions.face_detection import FaceDetection

_MAX_FACES = 8
# Below 0.5 the full-range detector finds more small faces; FaceMesh's own check throws out what is none.
_DETECTOR_CONFIDENCE = 0.35
# Side of the picture given to FaceMesh as a multiple of a detected box, so that its detector sees the whole head.
_CONTEXT = 2.0
# Two finds are the same face when their centres are nearer than this part of the larger one's size.
_SAME_FACE = 0.4


class BoxDetector(Protocol):
    """A detector of faces from another library, see `tracker.detectors.providers`.

    Attributes:
        name: of the provider.
    """

    name: str

    def boxes(self, image: np.ndarray) -> list[np.ndarray]:
        """Boxes (4,) xmin, ymin, xmax, ymax of the faces of an (H, W, 3) uint8 RGB picture, largest first."""


class FaceFinder:
    """Finds all faces of a single picture. Use as a context manager.

    Each of the graphs starts when it is first needed: where one face is tracked throughout, none is.
    """

    def __init__(self, open_boxes: Callable[[], BoxDetector] | None = None, one_clip: bool = False) -> None:
        """Nothing is started yet.

        Args:
            open_boxes: starts a box detector that is asked before mediapipe's, where FaceMesh finds too few faces.
            one_clip: the pictures are of one clip, and look alike: what found enough faces in one is asked first in
                the next. The points of a face differ a little with who has found it.
        """
        self._one_clip = one_clip
        self._open_boxes = open_boxes
        self._started = ExitStack()
        # Ways to add the faces of a picture; each gives its name. From the quickest to the one that sees most.
        self._quick = [self._by_mesh, self._by_boxes, self._by_detector]

    @cached_property
    def _boxes(self) -> BoxDetector | None:
        return None if self._open_boxes is None else self._open_boxes()

    @cached_property
    def _mesh(self) -> FaceMesh:
        return self._started.enter_context(FaceMesh(_MAX_FACES, tracking=False))

    @cached_property
    def _detector(self) -> "FaceDetection":
        with quiet_stderr():
            with lean_mediapipe():
                from mediapipe.python.solutions.face_detection import FaceDetection

            detector = FaceDetection(min_detection_confidence=_DETECTOR_CONFIDENCE, model_selection=1)
            detector.process(np.zeros((64, 64, 3), np.uint8))
        return self._started.enter_context(closing(detector))

    def __enter__(self) -> "FaceFinder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._started.close()

    def find(self, image: np.ndarray, wanted: int = 1) -> tuple[list[Face], str]:
        """Faces by the first means that finds enough.

        Args:
            image: (H, W, 3) uint8 RGB.
            wanted: how many faces are enough.

        Returns:
            The faces, and the last means used: 'mesh' (FaceMesh alone), the name of a box detector, 'detector',
            'tiles', or '' with no face.
        """
        faces: list[Face] = []
        for look in self._quick:
            means = look(image, faces)
            if len(faces) >= wanted:
                if self._one_clip:
                    self._quick.sort(key=lambda other: other != look)
                return faces, means
        boxes = [box + np.tile(offset, 2) for offset, tile in _tiles(image) for box in self._detect(tile)]
        self._add_around(faces, image, boxes)
        return faces, "tiles" if faces else ""

    def near(self, image: np.ndarray, box_px: np.ndarray) -> list[Face]:
        """Faces in the surroundings of a box (xmin, ymin, xmax, ymax), e.g. where a face was last seen."""
        low, high = _square_around(box_px, _CONTEXT)
        start = np.clip(low, 0, [image.shape[1], image.shape[0]])
        part = image[start[1] : max(high[1], 0), start[0] : max(high[0], 0)]
        if min(part.shape[:2]) < 2:
            return []
        return [Face(face.points_px + start) for face in self._mesh.faces(part)]

    def _by_mesh(self, image: np.ndarray, faces: list[Face]) -> str:
        _add(faces, self._mesh.faces(image))
        return "mesh"

    def _by_boxes(self, image: np.ndarray, faces: list[Face]) -> str:
        if self._boxes is None:
            return ""
        self._add_around(faces, image, self._boxes.boxes(image))
        return self._boxes.name

    def _by_detector(self, image: np.ndarray, faces: list[Face]) -> str:
        self._add_around(faces, image, self._detect(image))
        return "detector"

    def _detect(self, image: np.ndarray) -> list[np.ndarray]:
        """Boxes (4,) xmin, ymin, xmax, ymax by the full-range detector, largest first."""
        height, width = image.shape[:2]
        found = self._detector.process(np.ascontiguousarray(image)).detections or []
        relative = [detection.location_data.relative_bounding_box for detection in found]
        boxes = [
            np.array([b.xmin * width, b.ymin * height, (b.xmin + b.width) * width, (b.ymin + b.height) * height])
            for b in relative
        ]
        return sorted(boxes, key=lambda box: box[0] - box[2])

    def _add_around(self, faces: list[Face], image: np.ndarray, boxes: list[np.ndarray]) -> None:
        """Adds what FaceMesh finds around each box, each face once."""
        for box in boxes:
            _add(faces, self.near(image, box))


def _add(faces: list[Face], found: list[Face]) -> None:
    """Adds those that are not there yet."""
    for face in found:
        if not any(_same(face, other) for other in faces):
            faces.append(face)


def _same(a: Face, b: Face) -> bool:
    return bool(np.linalg.norm(a.centre_px - b.centre_px) < _SAME_FACE * max(a.size_px, b.size_px))


def _square_around(box_px: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Whole-pixel corners of the square about a box's centre."""
    centre = (box_px[:2] + box_px[2:]) / 2
    half = scale * (box_px[2:] - box_px[:2]).max() / 2
    return np.floor(centre - half).astype(int), np.ceil(centre + half).astype(int)


def _tiles(image: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Overlapping squares of half the shorter side: (offset (2,) x, y; picture). Half a tile of overlap."""
    height, width = image.shape[:2]
    side = max(min(height, width) // 2, 1)
    step = max(side // 2, 1)
    starts_x = sorted({min(x, width - side) for x in range(0, width - side + step, step)})
    starts_y = sorted({min(y, height - side) for y in range(0, height - side + step, step)})
    return [(np.array([x, y]), image[y : y + side, x : x + side]) for y in starts_y for x in starts_x]
