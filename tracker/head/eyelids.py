"""Eyelid shapes for a head that comes without: the upper lid's rim slides over the eyeball down to the lower one.

In a blink the upper lid does nearly all of the way (Doane, Am. J. Ophthalmol. 1980) and takes the skin up to its crease
along. Both lids turn about an axis through the middle of the ball, parallel to the line between the corners. What is
needed of a head is a ball that fits the eye and points on the two rims: FaceMesh's where the head has them, else
iBUG's six.

The constants were measured on metrical-tracker's l_eyelid.npy and r_eyelid.npy (docs/conventions.md says how well the
result agrees with them).
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from tracker.head.irises import eyeball
from tracker.head.model import Embedding
from tracker.head.plain import LEFT_EYE, RIGHT_EYE

# Share of the slit that the upper lid travels; it ends a little below the lower one's rim, so that no gap is left.
_UPPER_SHARE, _OVERLAP_SHARE = 0.86, 0.02
# Elevation above the upper rim (radians over the ball) up to which the lid follows wholly, and from which the skin
# beyond the crease does not follow any more; below the lower rim the skin follows less from the rim on.
_LID_RAD, _CREASE_RAD, _CHEEK_RAD = 0.05, 0.42, 0.4
# Skin this far from the ball's middle, in its radii, does not move at all; up to the first number it does wholly.
_NEAR, _FAR = 1.4, 1.7
# What lies behind the ball's middle stays; this far before it (in radii) all moves.
_BEHIND = 0.5
# Points of the rims from the inner to the outer corner, FaceMesh's numbers, then iBUG's.
_UPPER_478 = {LEFT_EYE: (362, 398, 384, 385, 386, 387, 388, 466, 263)}
_UPPER_478[RIGHT_EYE] = (133, 173, 157, 158, 159, 160, 161, 246, 33)
_LOWER_478 = {LEFT_EYE: (362, 382, 381, 380, 374, 373, 390, 249, 263)}
_LOWER_478[RIGHT_EYE] = (133, 155, 154, 153, 145, 144, 163, 7, 33)
_UPPER_68 = {LEFT_EYE: (42, 43, 44, 45), RIGHT_EYE: (39, 38, 37, 36)}
_LOWER_68 = {LEFT_EYE: (42, 47, 46, 45), RIGHT_EYE: (39, 40, 41, 36)}


@dataclass(frozen=True, eq=False)
class _Eye:
    """One eye seen from the middle of its ball.

    Attributes:
        axes: (3, 3) rows: from corner to corner (towards +x), up, forward.
        arm_m: (V, 3) vertices from the middle of the ball, in these axes.
        elevation: (V,) radians about the first axis, 0 forward, up positive.
        upper: (V,) elevation of the upper rim at the vertex's place along the first axis.
        lower: (V,) of the lower one.
        radius_m: of the ball.
    """

    axes: np.ndarray
    arm_m: np.ndarray
    elevation: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    radius_m: float


def eyelid_shapes(
    template: np.ndarray, triangles: np.ndarray, skin_weights: np.ndarray, landmarks: tuple[Embedding, Embedding]
) -> np.ndarray | None:
    """Makes the two shapes.

    Args:
        template: (V, 3) metres, head space, eyes open and looking along z.
        triangles: (F, 3).
        skin_weights: (V, 5); what the eye joints carry is eyeball and does not move.
        landmarks: iBUG's and FaceMesh's points of the head.

    Returns:
        (V, 3, 2) float32 metres at full closure, left and right; None for a head without eyeballs or rims.
    """
    out = np.zeros((len(template), 3, 2), np.float32)
    is_ball = skin_weights[:, [LEFT_EYE, RIGHT_EYE]].sum(1) > 0.5
    points = [_by_number(template, triangles, embedding) for embedding in landmarks]
    for side, joint in enumerate((LEFT_EYE, RIGHT_EYE)):
        ball = eyeball(template, skin_weights, joint)
        upper = _rim(points, (_UPPER_68[joint], _UPPER_478[joint]))
        lower = _rim(points, (_LOWER_68[joint], _LOWER_478[joint]))
        if ball is None or upper is None or lower is None:
            return None
        eye = _eye(template, ball.centre_m, ball.radius_m, upper, lower)
        out[..., side] = np.where(is_ball[:, None], 0, _closure(eye))
    return out


def _by_number(template: np.ndarray, triangles: np.ndarray, embedding: Embedding) -> dict[int, np.ndarray]:
    corners = template[triangles[embedding.faces.numpy()]].astype(np.float64)
    points = (corners * embedding.bary.numpy()[..., None]).sum(1)
    return dict(zip(embedding.indices.tolist(), points, strict=True))


def _rim(points: list[dict[int, np.ndarray]], numbers: tuple[tuple[int, ...], tuple[int, ...]]) -> np.ndarray | None:
    """(N, 3) points of a rim: FaceMesh's if all are there, else iBUG's; None where neither is whole."""
    for known, wanted in ((points[1], numbers[1]), (points[0], numbers[0])):
        if all(number in known for number in wanted):
            return np.array([known[number] for number in wanted])
    return None


def _eye(template: np.ndarray, centre: np.ndarray, radius: float, upper: np.ndarray, lower: np.ndarray) -> _Eye:
    across = upper[-1] - upper[0]
    across *= np.sign(across[0]) / np.linalg.norm(across)
    forward = np.array([0.0, 0.0, 1.0]) - across[2] * across
    forward /= np.linalg.norm(forward)
    axes = np.stack([across, np.cross(forward, across), forward])
    arm = (template.astype(np.float64) - centre) @ axes.T
    rims = [_rim_elevation((rim - centre) @ axes.T, arm[:, 0]) for rim in (upper, lower)]
    return _Eye(axes, arm, _elevation(arm), rims[0], rims[1], radius)


def _elevation(arm: np.ndarray) -> np.ndarray:
    return np.arctan2(arm[:, 1], arm[:, 2])


def _rim_elevation(rim: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Elevation of a rim at positions along x, that of the corners beyond them."""
    order = np.argsort(rim[:, 0])
    position, height = rim[order, 0], _elevation(rim)[order]
    middle, half = (position[0] + position[-1]) / 2, (position[-1] - position[0]) / 2

    def along(x: np.ndarray) -> np.ndarray:
        # Rims leave the corners steeply, as an ellipse does, which is smooth in this angle.
        return np.arcsin(np.clip((x - middle) / half, -1, 1))

    keep = np.concatenate([[True], np.diff(position) > 0])
    return PchipInterpolator(along(position[keep]), height[keep])(along(x))


def _closure(eye: _Eye) -> np.ndarray:
    """(V, 3) displacement of all vertices at full closure."""
    slit = (eye.upper - eye.lower).clip(0)
    above, below = eye.elevation - eye.upper, eye.lower - eye.elevation
    reach_up = 1 - _smoothstep((above - _LID_RAD) / (_CREASE_RAD - _LID_RAD))
    reach_down = 1 - _smoothstep(below / _CHEEK_RAD)
    down, up = -(_UPPER_SHARE + _OVERLAP_SHARE) * slit * reach_up, (1 - _UPPER_SHARE) * slit * reach_down
    turn = np.where(above > below, down, up)
    cos, sin = np.cos(turn), np.sin(turn)
    _, y, z = eye.arm_m.T
    moved = np.stack([np.zeros_like(y), cos * y + sin * z - y, -sin * y + cos * z - z], 1)
    distance = np.linalg.norm(eye.arm_m, axis=1) / eye.radius_m
    near = 1 - _smoothstep((distance - _NEAR) / (_FAR - _NEAR))
    ahead = _smoothstep(z / (_BEHIND * eye.radius_m))
    return (moved * (near * ahead)[:, None]) @ eye.axes


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
