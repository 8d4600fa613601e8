"""Where the five points come from: SCRFD, which MICA was made with, or FaceMesh's landmarks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.detectors.facemesh import Face
from tracker.detectors.finder import FaceFinder
from tracker.detectors.scrfd import NAME as SCRFD_NAME
from tracker.detectors.scrfd import DetectedFace, Scrfd
from tracker.mica.align import five_points

FACEMESH_NAME = "facemesh478"
# Side of the picture that SCRFD sees, as MICA asks for: it wants large faces.
_SCRFD_SIDE_PX = 224
# SCRFD's face is the one that FaceMesh found if its points' centre lies within this part of the face's size.
_SAME = 0.5


@dataclass(frozen=True, eq=False)
class FivePoints:
    """ArcFace's five points of one face.

    Attributes:
        points_px: (5, 2) float64 continuous pixels, in ArcFace's order.
        source: 'insightface' or 'facemesh478'.
    """

    points_px: np.ndarray
    source: str


class FivePointFinder:
    """Finds the five points of known and of unknown faces. Use as a context manager."""

    def __init__(self, scrfd: Path | None, device: str = "cpu") -> None:
        """Loads SCRFD, if it is there.

        Args:
            scrfd: its file (`tracker.detectors.scrfd.find_scrfd`), or None.
            device: 'cpu' or 'cuda'.

        Raises:
            InputError: the file is damaged.
        """
        self._scrfd = None if scrfd is None else Scrfd(scrfd, _SCRFD_SIDE_PX, device)
        self._finder = FaceFinder()

    def __enter__(self) -> "FivePointFinder":
        return self

    def __exit__(self, *error: object) -> None:
        self._finder.__exit__(None, None, None)

    def of_face(self, image: np.ndarray, points_478_px: np.ndarray) -> FivePoints:
        """The points of a face whose FaceMesh landmarks are known.

        Args:
            image: (H, W, 3) uint8 RGB.
            points_478_px: (478, 2) continuous pixels.
        """
        dense = FivePoints(five_points(points_478_px), FACEMESH_NAME)
        if self._scrfd is None:
            return dense
        face = Face(points_478_px)
        found = _nearest(self._scrfd.faces(image), dense.points_px.mean(0))
        if found is None or np.linalg.norm(found.points_px.mean(0) - dense.points_px.mean(0)) > _SAME * face.size_px:
            return dense
        return found

    def find(self, image: np.ndarray) -> FivePoints | None:
        """The points of the face nearest to the picture's centre, as MICA chooses; None where there is no face."""
        centre = np.array([image.shape[1], image.shape[0]]) / 2
        found = None if self._scrfd is None else _nearest(self._scrfd.faces(image), centre)
        if found is not None:
            return found
        faces, _ = self._finder.find(image)
        if not faces:
            return None
        face = min(faces, key=lambda one: float(np.linalg.norm(one.centre_px - centre)))
        return FivePoints(five_points(face.points_px), FACEMESH_NAME)


def _spread(five_px: np.ndarray) -> bool:
    """Whether the points can be those of a face: they differ by more than a pixel."""
    return bool(np.isfinite(five_px).all() and np.ptp(five_px, axis=0).min() > 1)


def _nearest(faces: list[DetectedFace], place_px: np.ndarray) -> FivePoints | None:
    """The face with points whose box's centre is nearest to a place."""
    pointed = [(face.box_px, face.five_px) for face in faces if face.five_px is not None and _spread(face.five_px)]
    if not pointed:
        return None
    _, five = min(pointed, key=lambda one: float(np.linalg.norm((one[0][:2] + one[0][2:]) / 2 - place_px)))
    return FivePoints(five, SCRFD_NAME)
