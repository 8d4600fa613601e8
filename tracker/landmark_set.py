"""What the solver needs to know of FaceMesh's 478 points: closure pairs, irises, and their scale in a picture.

The numbers are those of the public FaceMesh topology (google/mediapipe, Apache-2.0).
"""

import numpy as np

COUNT = 478
# Outer eye corners; their distance is the field's inter-ocular distance.
RIGHT_OUTER_EYE, LEFT_OUTER_EYE = 33, 263
# Upper and lower lid, from the inner to the outer third of the eye.
RIGHT_LID_PAIRS = ((157, 154), (158, 153), (159, 145), (160, 144), (161, 163))
LEFT_LID_PAIRS = ((384, 381), (385, 380), (386, 374), (387, 373), (388, 390))
# Inner border of the upper and lower lip.
LIP_PAIRS = ((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))
CLOSURE_PAIRS = RIGHT_LID_PAIRS + LEFT_LID_PAIRS + LIP_PAIRS
IRISES = tuple(range(468, 478))
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def inter_ocular_px(points_px: np.ndarray) -> float:
    """Distance of the outer eye corners of (478, 2) points."""
    return float(np.linalg.norm(points_px[RIGHT_OUTER_EYE] - points_px[LEFT_OUTER_EYE]))


def is_detected(points_px: np.ndarray) -> bool:
    """Whether a keypoint array holds a face (all zeros mean none)."""
    return bool(np.any(points_px))
