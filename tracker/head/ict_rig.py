"""How ICT-FaceKit's head moves besides its shapes: joints, skinning, eyelids, and the priors of its expressions."""

import numpy as np

from tracker.head.ict_parts import KEPT_VERTICES, ids
from tracker.head.plain import JOINT_COUNT, LEFT_EYE, NECK, RIGHT_EYE, ROOT

# Expressions that the eyelids take over; their columns are left empty, so that nothing is said twice.
BLINKS = ("eyeBlink_L", "eyeBlink_R")
# Standard deviation of an expression's prior around rest, at full strength 1. The generic head's, whose units have the
# same names; the jaw's opening is `energy.jaw_std` of it, 0.12 of the 0.44 radians that jawOpen turns.
_USUAL_STD = 0.25
_STD = {"jawOpen": 0.3, "jawForward": 0.2, "jawLeft": 0.2, "jawRight": 0.2, "cheekPuff": 0.2}
_STD |= {"mouthSmile": 0.3, "mouthPucker": 0.3, "eyeSquint": 0.3, "cheekSquint": 0.3, "eyeLook": 0.3}
# The neck's turn fades in over these heights on the mean head, metres.
_NECK_FROM_M, _NECK_TO_M = -0.15, -0.085
# Vertices within this of a height count as a ring around the neck, metres.
_RING_M = 0.008
# Least vertices of such a ring.
_RING_LEAST = 8


def expression_std(names: tuple[str, ...]) -> np.ndarray:
    """(E,) float32 standard deviations of the expressions' priors."""

    def one(name: str) -> float:
        return next((std for start, std in _STD.items() if name.startswith(start)), _USUAL_STD)

    return np.array([one(name) for name in names], np.float32)


def eyelid_basis(expressions: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The blinks as eyelids, and the expressions without them.

    Args:
        expressions: (V, 3, E) metres.
        names: of the expressions.

    Returns:
        (V, 3, 2) left and right lids, and (V, 3, E).
    """
    lids, rest = np.zeros((*expressions.shape[:2], 2), np.float32), expressions.copy()
    for side, name in enumerate(BLINKS):
        if name in names:
            lids[..., side] = expressions[..., names.index(name)]
            rest[..., names.index(name)] = 0
    return lids, rest


def joint_regressor(template_m: np.ndarray, expressions: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(5, V) float32: root and neck on the neck's axis, the jaw's hinge, the centres of the eyeballs.

    Each row is the shortest with sum one that finds its joint on the mean head: it follows identities that move, turn,
    scale or shear its part as a whole, exactly.
    """
    rows = np.zeros((JOINT_COUNT, KEPT_VERTICES))
    skin = np.concatenate([ids("full_face"), ids("head_and_neck")])
    for joint, height in ((ROOT, _NECK_FROM_M), (NECK, _NECK_TO_M)):
        ring = skin[np.abs(template_m[skin, 1] - height) < _RING_M]
        ring = ring if len(ring) >= _RING_LEAST else skin
        rows[joint, ring] = 1 / len(ring)
    hinge = jaw_hinge(template_m, expressions, names)
    jaw_row = NECK + 1
    rows[jaw_row] = _affine_row(template_m, skin, template_m[skin].mean(0) if hinge is None else hinge[0])
    for joint, side in ((LEFT_EYE, "left"), (RIGHT_EYE, "right")):
        centre = sphere(template_m[ids(f"{side}_sclera")])[0]
        rows[joint] = _affine_row(template_m, ids(f"{side}_eyeball"), centre)
    return rows.astype(np.float32)


def skin_weights(template_m: np.ndarray) -> np.ndarray:
    """(V, 5) float32: eyeballs turn with their joints, all above the neck with the neck's; the jaw's column is empty.

    Jaw and lips move by expressions (jawOpen, jawLeft, …), which a rotation of the jaw would only repeat.
    """
    weights = np.zeros((KEPT_VERTICES, JOINT_COUNT), np.float32)
    share = np.clip((template_m[:, 1] - _NECK_FROM_M) / (_NECK_TO_M - _NECK_FROM_M), 0, 1)
    weights[:, NECK] = share * share * (3 - 2 * share)
    weights[:, ROOT] = 1 - weights[:, NECK]
    for joint, side in ((LEFT_EYE, "left"), (RIGHT_EYE, "right")):
        weights[ids(f"{side}_eyeball")] = np.eye(JOINT_COUNT, dtype=np.float32)[joint]
    return weights


def sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of the sphere through (N, 3) points, by linear least squares."""
    rows = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(rows, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def jaw_hinge(
    template_m: np.ndarray, expressions: np.ndarray, names: tuple[str, ...]
) -> tuple[np.ndarray, float] | None:
    """Where and how far jawOpen turns the lower teeth, which move with the bone.

    Returns:
        Point (3,) of the axis in the middle plane, metres, and the angle of full strength, radians; None without it.
    """
    if "jawOpen" not in names:
        return None
    teeth = ids("lower_teeth")
    before = template_m[teeth].astype(np.float64)
    return rigid_hinge(before, before + expressions[teeth][..., names.index("jawOpen")])


def rigid_hinge(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Axis point nearest to the points and angle of the rotation that takes (N, 3) points to others; None without one.

    Source: Kabsch, A solution for the best rotation to relate two sets of vectors, Acta Crystallographica 1976.
    """
    a, b = before.mean(0), after.mean(0)
    U, _, Vt = np.linalg.svd((before - a).T @ (after - b))
    R = Vt.T @ np.diag([1, 1, np.sign(np.linalg.det(Vt.T @ U.T))]) @ U.T
    angle = float(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1)))
    if angle < 1e-3:
        return None
    # The shortest solution leaves out the direction along the axis, in which nothing is said.
    shift = np.linalg.lstsq(np.eye(3) - R, b - R @ a - (np.eye(3) - R) @ a, rcond=1e-6)[0]
    return a + shift, angle


def _affine_row(template_m: np.ndarray, vertex_ids: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Shortest (V,) weights with sum one, on some vertices, whose mean of the template is a point."""
    row = np.zeros(len(template_m))
    around = template_m[vertex_ids].mean(0)
    A = np.column_stack([template_m[vertex_ids] - around, np.ones(len(vertex_ids))]).T
    row[vertex_ids] = A.T @ np.linalg.solve(A @ A.T, np.append(point - around, 1.0))
    return row
