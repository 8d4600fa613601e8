"""FaceMesh's iris points on a head whose landmark embedding lacks them: without them nothing pulls at the gaze.

The eyes of a head at rest look along z (head space). An iris is a circle about that axis on the ball.
"""

from dataclasses import dataclass

import numpy as np
import torch

from tracker.head.model import Embedding
from tracker.head.plain import LEFT_EYE, RIGHT_EYE

# Half the visible iris of adults, 11.7 mm across (Rüfer et al., Cornea 2005), metres.
IRIS_RADIUS_M = 0.00585
# FaceMesh's numbers: the middle, then four points of the rim in these directions (x, y), seen in head space.
_RIGHT_FIRST, _LEFT_FIRST = 468, 473
_RIM = ((1, 0), (0, 1), (-1, 0), (0, -1))
# A vertex belongs to an eyeball from this skinning weight on.
_BALL_WEIGHT = 0.5
_FEWEST_BALL_VERTICES = 8
# A triangle and the ball's middle span less than this (m³) where the ray would run inside the triangle's plane.
_FLAT_M3 = 1e-15


@dataclass(frozen=True)
class Eyeball:
    """A ball fitted to an eye.

    Attributes:
        centre_m: (3,) head space.
        radius_m: of the ball.
        vertices: (M,) ids.
    """

    centre_m: np.ndarray
    radius_m: float
    vertices: np.ndarray


def eyeball(template: np.ndarray, skin_weights: np.ndarray, joint: int) -> Eyeball | None:
    """The ball that fits the vertices of an eye joint best (algebraic least squares); None where it moves none.

    Args:
        template: (V, 3) metres.
        skin_weights: (V, 5).
        joint: `LEFT_EYE` or `RIGHT_EYE`.
    """
    ids = np.flatnonzero(skin_weights[:, joint] > _BALL_WEIGHT)
    if len(ids) < _FEWEST_BALL_VERTICES:
        return None
    points = template[ids].astype(np.float64)
    rows = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    solution = np.linalg.lstsq(rows, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return Eyeball(centre, float(np.sqrt(solution[3] + centre @ centre)), ids)


def iris_embedding(template: np.ndarray, triangles: np.ndarray, skin_weights: np.ndarray) -> Embedding | None:
    """FaceMesh's points 468 to 477 on a head's eyeballs.

    Args:
        template: (V, 3) metres, eyes looking along z.
        triangles: (F, 3) vertex ids.
        skin_weights: (V, 5).

    Returns:
        Ten points, or None for a head without both eyeballs.
    """
    faces, bary = [], []
    for joint in (RIGHT_EYE, LEFT_EYE):
        ball = eyeball(template, skin_weights, joint)
        if ball is None:
            return None
        on_ball = np.isin(triangles, ball.vertices).all(1)
        forward = np.sqrt(max(ball.radius_m**2 - IRIS_RADIUS_M**2, 0.0))
        rim = [(IRIS_RADIUS_M * x, IRIS_RADIUS_M * y, forward) for x, y in _RIM]
        for direction in np.array([(0.0, 0.0, ball.radius_m), *rim]):
            face, weights = _hit(template, triangles, np.flatnonzero(on_ball), ball.centre_m, direction)
            faces.append(face)
            bary.append(weights)
    numbers = [*range(_RIGHT_FIRST, _RIGHT_FIRST + 5), *range(_LEFT_FIRST, _LEFT_FIRST + 5)]
    return Embedding(torch.tensor(faces), torch.from_numpy(np.array(bary, np.float32)), torch.tensor(numbers))


def _hit(
    template: np.ndarray, triangles: np.ndarray, candidates: np.ndarray, origin: np.ndarray, direction: np.ndarray
) -> tuple[int, np.ndarray]:
    """The triangle that a ray from inside a ball leaves it by, and the barycentric coordinates there."""
    corners = np.moveaxis(template[triangles[candidates]].astype(np.float64) - origin, 1, 2)
    # Columns are the corners: their mix that lies along the ray.
    solvable = np.abs(np.linalg.det(corners)) > _FLAT_M3
    candidates, corners = candidates[solvable], corners[solvable]
    weights = np.linalg.solve(corners, np.broadcast_to(direction, (len(corners), 3))[..., None])[..., 0]
    best = int((weights / np.abs(weights).sum(1, keepdims=True)).min(1).argmax())
    inside = weights[best].clip(0)
    return int(candidates[best]), inside / inside.sum()
