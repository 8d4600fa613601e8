"""iBUG's jaw contour, which slides over FLAME's surface to stay on the silhouette as the head turns.

A table holds 17 surface points for each whole degree of yaw from -39 to 39. Two habits of choosing the row are in use:

- FOLLOWS (ours): the row of a positive angle for a head whose nose turns to the subject's left (+x, head space), so
  that the points of the far cheek move towards the face. DECA, MICA and photometric_optimization choose so by the
  head's own rotation, and metrical-tracker does by its formula with the opposite sign, because it takes the angle in
  PyTorch3D's camera axes, where x and z point the other way. On a FLAME head at 30 degrees of yaw the points then lie
  0.8 mm from the far silhouette of the cheek (median; tests/test_flame_golden.py).
- MIRRORED: FLAME_PyTorch takes metrical-tracker's sign of the head's own rotation; the points slide to the other side
  (9.5 mm from that silhouette). It is here to read and compare with what that program computed.

Source: the rules as the public programs apply them; the table is part of landmark_embedding.npy.
"""

import enum

import torch
from torch import Tensor

from tracker.head.model import HeadModel, embed_torch

JAW_POINTS = 17
# The table's end on either side, degrees.
_LAST_DEGREE = 39


class ContourHabit(enum.Enum):
    """Which side a positive yaw slides the contour to; the value is the sign of the angle."""

    FOLLOWS = 1
    MIRRORED = -1


def contour_row(R: Tensor, habit: ContourHabit = ContourHabit.FOLLOWS) -> Tensor:
    """Row of the contour table.

    Args:
        R: (..., 3, 3) rotation of the head, seen in axes like head space (x right in a frontal picture, y up, z to the
            viewer): diag(1, -1, -1) R_cam_head for an OpenCV camera, diag(-1, 1, -1) R for PyTorch3D's.
        habit: see the module.

    Returns:
        (...) int64, 0 to 39 for yaw of 0 to 39 degrees and beyond, 40 to 78 for -1 to -39 and beyond.
    """
    yaw = torch.atan2(-R[..., 2, 0], torch.hypot(R[..., 0, 0], R[..., 1, 0]))
    # torch rounds halves to even, as numpy does in the originals.
    degree = torch.round(torch.rad2deg(habit.value * yaw)).clamp(-_LAST_DEGREE, _LAST_DEGREE).long()
    return torch.where(degree >= 0, degree, _LAST_DEGREE - degree)


def sliding_landmarks68(
    model: HeadModel, vertices: Tensor, R: Tensor, habit: ContourHabit = ContourHabit.FOLLOWS
) -> Tensor:
    """The 68 iBUG points of one posed head with the contour where this view sees it.

    Args:
        model: the head model.
        vertices: (V, 3) posed vertices, any frame.
        R: (3, 3) as `contour_row` takes it, the neck's rotation included.
        habit: see the module.

    Returns:
        (68, 3) in the frame of the vertices; the static points for a model without contour.
    """
    static = embed_torch(model.landmarks68.faces, model.landmarks68.bary, model.triangles, vertices)
    if model.contour is None:
        return static
    row = contour_row(R, habit)
    contour = embed_torch(model.contour.faces[row], model.contour.bary[row], model.triangles, vertices)
    return torch.cat([contour, static[JAW_POINTS:]])
