"""Which FaceMesh points stand for which iBUG points, and the iBUG points that a mirror image exchanges."""

import numpy as np

# FaceMesh points, one or two, whose mean stands for each of the 68 iBUG points (jaw, brows, nose, eyes, outer and inner
# lips). Facts from PeizhiYan/Mediapipe_2_Dlib_Landmarks. On a FLAME head the two point definitions differ by 6 to 15 mm
# on the jaw contour (0 to 16), which slides with yaw in iBUG and does not here, by 3 to 9 mm on brows and nose, and by
# at most 3 mm at the eyes and most of the lips.
# fmt: off
IBUG68_FROM_478: tuple[tuple[int, ...], ...] = (
    (127,), (234,), (93,), (132, 58), (58, 172), (136,), (150,), (176,), (152,),
    (400,), (379,), (365,), (397, 288), (361,), (323,), (454,), (356,),
    (156,), (70, 63), (105,), (66,), (107, 55), (336, 285), (296,), (334,), (293, 300), (383,),
    (168, 6), (197, 195), (5,), (4,), (98,), (97,), (2,), (326,), (327,),
    (33,), (160,), (158,), (133,), (153,), (144,), (362,), (385,), (387,), (263,), (373,), (380,),
    (61,), (39,), (37,), (0,), (267,), (269,), (291,), (321,), (314,), (17,), (84,), (91,),
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,),
)
# fmt: on

JAW_68 = range(17)
_FIRST, _LAST = np.array([(ids[0], ids[-1]) for ids in IBUG68_FROM_478]).T


def ibug68_from_478(points_478: np.ndarray) -> np.ndarray:
    """The 68 points as means of FaceMesh points.

    Args:
        points_478: (478, D).

    Returns:
        (68, D) float64.
    """
    points = np.asarray(points_478, np.float64)
    return (points[_FIRST] + points[_LAST]) / 2
