"""Lines through landmarks, for pictures: FaceMesh-478 contours and iBUG-68 contours.

The FaceMesh indices follow mediapipe's own connection lists (tests compare them with mediapipe's).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line through landmarks.

    Attributes:
        points: landmark numbers in order.
        closed: whether the last point joins the first.
    """

    points: tuple[int, ...]
    closed: bool = False

    def edges(self) -> set[tuple[int, int]]:
        """Undirected edges, each as (smaller, larger)."""
        following = [*self.points[1:], *([self.points[0]] if self.closed else [])]
        return {(min(a, b), max(a, b)) for a, b in zip(self.points, following, strict=False)}


# From the middle of the forehead over the subject's left side to the chin and back.
_OVAL_LEFT = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
_OVAL_RIGHT = (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
FACE_OVAL = Line((*_OVAL_LEFT, *_OVAL_RIGHT), closed=True)
LEFT_EYE = Line((263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466), closed=True)
RIGHT_EYE = Line((33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246), closed=True)
LEFT_IRIS = Line((474, 475, 476, 477), closed=True)
RIGHT_IRIS = Line((469, 470, 471, 472), closed=True)
OUTER_LIPS = Line(
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185), closed=True
)
INNER_LIPS = Line(
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191), closed=True
)
BROWS = (
    Line((276, 283, 282, 295, 285)),
    Line((300, 293, 334, 296, 336)),
    Line((46, 53, 52, 65, 55)),
    Line((70, 63, 105, 66, 107)),
)
NOSE = (Line((168, 6, 197, 195, 5, 4, 1, 19, 94, 2)), Line((98, 97, 2, 326, 327)))

DENSE_LINES = (FACE_OVAL, LEFT_EYE, RIGHT_EYE, LEFT_IRIS, RIGHT_IRIS, OUTER_LIPS, INNER_LIPS, *BROWS, *NOSE)

SPARSE_LINES = (
    Line(tuple(range(17))),
    Line(tuple(range(17, 22))),
    Line(tuple(range(22, 27))),
    Line(tuple(range(27, 31))),
    Line(tuple(range(31, 36))),
    Line(tuple(range(36, 42)), closed=True),
    Line(tuple(range(42, 48)), closed=True),
    Line(tuple(range(48, 60)), closed=True),
    Line(tuple(range(60, 68)), closed=True),
)
