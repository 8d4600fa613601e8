"""Which of several faces is the subject.

In consecutive pictures it is the one that continues the track; in samples of a clip, the one that most of them show.
"""

import numpy as np

from tracker.detectors.facemesh import Face

# How far a face may move between two pictures, in multiples of its size. Fast head turns stay below 0.3 at 25 Hz.
_REACH_SIZES = 0.6
# And how much farther for each picture in which it was not seen.
_REACH_A_MISS = 0.1
_REACH_LIMIT = 2.0
# Its size may change by this factor at most; a face far behind or before the subject's is another one.
_SIZE_RATIO = 1.8


class FaceFollower:
    """Picks the subject's face out of those found in each picture."""

    def __init__(self, rank: int, expected_px: np.ndarray | None = None) -> None:
        """Nothing is chosen yet.

        Args:
            rank: which face by size in the first picture that shows more than `rank` faces; 0 the largest.
            expected_px: (2,) where the face lies in the first picture, instead of a rank.
        """
        self._rank = rank
        self._expected_px = expected_px
        self._missed = 0
        self.last: Face | None = None

    @property
    def wanted(self) -> int:
        """How many faces a search must bring up for the subject's to be among them."""
        return 1 if self.last is not None or self._expected_px is not None else self._rank + 1

    def choose(self, faces: list[Face]) -> Face | None:
        """The subject's face, or None; counts the picture as missed then.

        Args:
            faces: all faces found in the next picture.
        """
        chosen = self._first(faces) if self.last is None else self._next(self.last, faces)
        if chosen is None:
            self._missed += 1
            return None
        self._missed = 0
        self.last = chosen
        return chosen

    def matches(self, faces: list[Face]) -> bool:
        """Whether `choose` would take one of the faces; nothing is counted."""
        return (self._first(faces) if self.last is None else self._next(self.last, faces)) is not None

    def _first(self, faces: list[Face]) -> Face | None:
        if self._expected_px is not None:
            expected = self._expected_px
            return min(faces, key=lambda face: float(np.linalg.norm(face.centre_px - expected)), default=None)
        by_size = sorted(faces, key=lambda face: -face.size_px)
        return by_size[self._rank] if len(by_size) > self._rank else None

    def _next(self, last: Face, faces: list[Face]) -> Face | None:
        reach = min(_REACH_SIZES + _REACH_A_MISS * self._missed, _REACH_LIMIT) * last.size_px
        near = [
            (float(np.linalg.norm(face.centre_px - last.centre_px)), index)
            for index, face in enumerate(faces)
            if 1 / _SIZE_RATIO < face.size_px / last.size_px < _SIZE_RATIO
        ]
        distance, index = min(near, default=(np.inf, -1))
        return faces[index] if distance <= reach else None


def common_face(pictures: list[list[Face]], rank: int) -> list[Face]:
    """The same person's face in pictures sampled from a clip, where one of them may show something else.

    Args:
        pictures: all faces found in each picture.
        rank: which face by size, 0 the largest.

    Returns:
        One face for each picture that shows the person, in order. The person is the one whose face is most like the
        others of that rank (their medoid), so that a single bad detection decides nothing.
    """
    ranked = [sorted(faces, key=lambda face: -face.size_px)[rank] for faces in pictures if len(faces) > rank]
    if not ranked:
        return []
    middle = min(ranked, key=lambda face: sum(_unlikeness(face, other) for other in ranked))
    nearest = [min(faces, key=lambda face: _unlikeness(middle, face)) for faces in pictures if faces]
    return [face for face in nearest if _unlikeness(middle, face) < _REACH_LIMIT]


def _unlikeness(a: Face, b: Face) -> float:
    """Distance of the centres in face sizes plus the logarithm of the ratio of sizes."""
    distance = float(np.linalg.norm(a.centre_px - b.centre_px)) / a.size_px
    return distance + abs(float(np.log(b.size_px / a.size_px)))
