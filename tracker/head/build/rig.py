"""Joints and skinning weights of the generic head."""

from dataclasses import dataclass

import numpy as np

from tracker.head.build.assemble import HeadMesh
from tracker.head.build.canonical import smoothstep
from tracker.head.build.fields import SkinFields
from tracker.head.build.follow import follow_openings
from tracker.head.build.mouth import upper_side

# Joint positions of the mean head, mm: base of the neck, base of the skull (atlas), temporo-mandibular axis.
ROOT_MM = np.array([0.0, -150.0, -48.0])
NECK_MM = np.array([0.0, -22.0, -52.0])
JAW_MM = np.array([0.0, 3.0, -30.0])

# The plane below which the head hands over to the neck runs from nape to throat (y, z in mm).
_NAPE, _THROAT = (-45.0, -98.0), (-102.0, 12.0)
_NECK_BLEND_MM = 80.0

# FaceMesh points on the subject's right that the jawbone carries: chin and jaw line.
_JAW_POINTS = (18, 83, 182, 106, 200, 201, 199, 208, 175, 171, 152, 148, 176, 149, 150, 140, 170, 32, 194, 204, 211)
# Points that it does not move: base of the nose, cheekbones, eyes, brow.
_STILL_POINTS = (
    *(164, 167, 165, 2, 97, 98, 1, 4, 129, 203, 36, 205, 50, 117, 123, 116, 227, 234, 127, 10, 9, 33, 133, 92),
)
_CORNER_SHARE = 0.45
# Lip rings from the corner to the middle, outermost first.
_LOWER_RINGS = (
    (61, 146, 91, 181, 84, 17),
    (76, 77, 90, 180, 85, 16),
    (62, 96, 89, 179, 86, 15),
    (78, 95, 88, 178, 87, 14),
)
_UPPER_RINGS = (
    (61, 185, 40, 39, 37, 0),
    (76, 184, 74, 73, 72, 11),
    (62, 183, 42, 41, 38, 12),
    (78, 191, 80, 81, 82, 13),
)


@dataclass(frozen=True)
class Rig:
    """Skinning of the mean head.

    Attributes:
        joint_regressor: (5, V) rows sum to 1.
        skin_weights: (V, 5) rows sum to 1.
    """

    joint_regressor: np.ndarray
    skin_weights: np.ndarray


def build_rig(mesh: HeadMesh, fields: SkinFields) -> Rig:
    """Weights and regressor."""
    jaw = jaw_weights(mesh, fields)
    root = root_weights(mesh)
    weights = np.zeros((len(mesh.vertices), 5))
    weights[:, 0] = root * (1 - jaw)
    weights[:, 1] = (1 - root) * (1 - jaw)
    weights[:, 2] = jaw
    for joint, name in ((3, "left_eyeball"), (4, "right_eyeball")):
        weights[mesh.groups[name]] = np.eye(5)[joint]
    return Rig(_regressor(mesh), weights)


def jaw_weights(mesh: HeadMesh, fields: SkinFields) -> np.ndarray:
    """Share of the jaw joint, (V,): 1 on chin and lower lip, 0 on the upper lip, smooth over cheek and throat."""
    vertices = mesh.vertices
    skull = mesh.groups["skull"]
    # The throat gives way well down the neck, or the chin would press into it.
    still_skull = skull[(vertices[skull, 1] > -18) | (vertices[skull, 1] < -140) | (vertices[skull, 2] < -52)]
    still_parts = [still_skull, mesh.groups["left_ear"], mesh.groups["right_ear"], mesh.groups["neck_cap"]]
    values = dict.fromkeys(np.concatenate(still_parts).tolist(), 0.0)
    right = dict.fromkeys(_STILL_POINTS, 0.0) | dict.fromkeys(_JAW_POINTS, 1.0)
    for rings, lower in ((_LOWER_RINGS, True), (_UPPER_RINGS, False)):
        for ring in rings:
            across = vertices[list(ring), 0] / vertices[ring[0], 0]
            right |= dict(zip(ring, _lip_share(across, lower).tolist(), strict=True))
    values |= right | {int(mesh.mirror[point]): share for point, share in right.items()}
    lips = {point for ring in _LOWER_RINGS + _UPPER_RINGS for point in ring}
    lips |= {int(mesh.mirror[point]) for point in lips}
    values |= {mid: (values[a] + values[b]) / 2 for (a, b), mid in mesh.midpoints.items() if a in lips and b in lips}
    weight = fields.through(values)
    weight = follow_openings(mesh, weight[:, None], (1.0,) * 7)[:, 0]
    loop = vertices[mesh.groups["lip_loop"]]
    on_lower = ~upper_side(mesh.groups["lip_loop"], loop)
    bag_rings = mesh.groups["mouth_bag"][:-1].reshape(-1, len(loop))
    for ids in bag_rings[2:]:
        share = weight[ids[on_lower]]
        weight[ids[on_lower]] = share + 0.5 * (1 - share) * smoothstep((share - _CORNER_SHARE) / 0.4)
    weight[mesh.groups["mouth_bag"][-1]] = 0.3
    weight[mesh.groups["lower_teeth"]] = 1.0
    for name in ("left", "right"):
        weight[mesh.groups[f"{name}_socket"]] = 0.0
    return 0.5 * (weight + weight[mesh.mirror])


def _lip_share(across: np.ndarray, lower: bool) -> np.ndarray:
    """Jaw share along a lip, from the middle (across 0) to the corner (1): an opening mouth is oval."""
    across = np.clip(across, 0, 1)
    if lower:
        return _CORNER_SHARE + (1 - _CORNER_SHARE) * (1 - across**2) ** 0.7
    return _CORNER_SHARE * across**2.6


def root_weights(mesh: HeadMesh) -> np.ndarray:
    """Share of the root joint, (V,): 0 on the head, 1 at the neck's lower end."""
    y, z = mesh.vertices[:, 1:].T
    slope = (_THROAT[0] - _NAPE[0]) / (_THROAT[1] - _NAPE[1])
    below = _NAPE[0] + slope * (np.minimum(z, _THROAT[1]) - _NAPE[1]) - y
    weight = smoothstep(below / _NECK_BLEND_MM)
    for name in ("mouth_bag", "left_socket", "right_socket", "upper_teeth", "lower_teeth", "left_ear", "right_ear"):
        weight[mesh.groups[name]] = 0.0
    return weight


def _regressor(mesh: HeadMesh) -> np.ndarray:
    """Rows that give the joints of the mean head exactly and move with the nearest skin of a shaped one."""
    out = np.zeros((5, len(mesh.vertices)))
    skin = np.concatenate([mesh.groups["face"], mesh.groups["skull"]])
    for joint, point, reach in ((0, ROOT_MM, 90.0), (1, NECK_MM, 85.0), (2, JAW_MM, 80.0)):
        out[joint, skin] = _affine_weights(mesh.vertices[skin], point, reach)
    for joint, name in ((3, "left_eyeball"), (4, "right_eyeball")):
        # The two poles: their mean is the ball's centre (the mean of all vertices is not, the front is finer).
        out[joint, mesh.groups[name][[0, -1]]] = 0.5
    return out


def _affine_weights(points: np.ndarray, target: np.ndarray, reach_mm: float) -> np.ndarray:
    """Gaussian weights corrected so that they sum to 1 and reproduce `target` (moving least squares)."""
    gauss = np.exp(-(((points - target) / reach_mm) ** 2).sum(1) * 2)
    basis = np.column_stack([np.ones(len(points)), points - target])
    coefficients = np.linalg.solve(basis.T @ (gauss[:, None] * basis), np.array([1.0, 0, 0, 0]))
    return gauss * (basis @ coefficients)
