"""The outer ear: concentric rings from its root on the head over the back, the helix and the antihelix to the concha.

Sizes: ear length 63 mm, breadth 35 mm, protrusion about 20 mm (Farkas 1994, means of both sexes).
"""

from dataclasses import dataclass

import numpy as np

from tracker.head.build.eyes import closing_rings
from tracker.head.build.skull import EAR_HALF_HEIGHT_MM, EAR_HALF_WIDTH_MM, EAR_TILT_RAD

_FLARE = np.tan(np.deg2rad(27.0))
_CONCHA = np.array([-1.0, -3.0])  # the ear canal's place in the plane, mm backwards and upwards
_ROOT_BACK = -EAR_HALF_WIDTH_MM  # the ear's front margin, in the plane coordinate `back`


@dataclass(frozen=True)
class _Ring:
    """One ring of the ear, relative to the outline.

    Attributes:
        scale: size relative to the outline (1 = the helix's edge).
        relief: height over the flaring ear plane at the back and top, mm.
        lobe_relief: the same at the lobe.
        front_relief: the same at the front margin (tragus, root of the helix).
    """

    scale: float
    relief: float
    lobe_relief: float
    front_relief: float


_RINGS = (
    _Ring(0.80, -5.5, -4.0, 0.4),
    _Ring(0.93, -3.0, -2.5, 0.9),
    _Ring(0.995, -0.6, -0.8, 1.6),
    _Ring(1.0, 1.2, 0.6, 2.4),
    _Ring(0.955, 2.7, 1.5, 3.2),
    _Ring(0.895, 2.2, 1.8, 3.6),
    _Ring(0.83, -0.3, 1.5, 3.4),
    _Ring(0.75, -0.6, 1.2, 2.6),
    _Ring(0.66, 1.7, 0.9, 1.0),
    _Ring(0.57, 2.2, 0.4, -1.5),
    _Ring(0.47, -0.8, -1.5, -3.0),
    _Ring(0.36, -4.5, -3.5, -4.5),
    _Ring(0.20, -7.0, -6.0, -6.5),
)


def ear(root: np.ndarray, head_normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left ear.

    Args:
        root: (N, 3) mm, the ring on the head: from the back over the top to the front and down, as
            `skull.ear_ring_on_guide`.
        head_normal: (3,) mean outward normal of the head there.

    Returns:
        Vertices (rings of N, then the middle of the concha) and triangles over root (ids below N) and vertices.
        The triangles suit a hole whose boundary runs along `root`.
    """
    count = len(root)
    theta = 2 * np.pi * np.arange(count) / count
    origin = root.mean(0)
    lateral = head_normal / np.linalg.norm(head_normal)
    up = np.array([0, np.cos(EAR_TILT_RAD), -np.sin(EAR_TILT_RAD)])
    up -= (up @ lateral) * lateral
    up /= np.linalg.norm(up)
    back = np.cross(up, lateral)
    back *= -np.sign(back[2])
    frame = np.stack([back, up, lateral])
    outline = _outline(theta)
    centre = np.array([7.0, 1.0])  # of the outline
    lobe = np.clip(-np.sin(theta) - 0.45, 0, 1) / 0.55
    front = np.clip(-np.cos(theta) - 0.25, 0, 1) / 0.75
    root_plane = (root - origin) @ frame.T
    rings = []
    for index, ring in enumerate(_RINGS):
        middle = centre + (1 - ring.scale) * (_CONCHA - centre)
        plane = middle + ring.scale * (outline - middle)
        # At the front the outer rings run side by side along the cheek instead of folding behind it.
        height = _FLARE * (plane[:, 0] - _ROOT_BACK) + ring.relief + lobe * (ring.lobe_relief - ring.relief)
        height = height + front * (ring.front_relief - height)
        if index == 0:
            plane = 0.5 * plane + 0.5 * root_plane[:, :2]
        rings.append(origin + np.column_stack([plane, height]) @ frame)
    concha = origin + np.array([*_CONCHA, -4.0]) @ frame
    return np.concatenate([*rings, concha[None]]), closing_rings(count, len(rings))


def _outline(theta: np.ndarray) -> np.ndarray:
    """The ear's outline in its plane: (N, 2) mm backwards and upwards from the root's middle."""
    back, up = np.cos(theta), np.sin(theta)
    half_height = np.where(up > 0, 32.0, 30.0)
    # Broad above, narrowing to the lobe; the front margin stays near the root.
    behind = 25.5 - 8.5 * np.clip(-up, 0, 1) ** 1.5
    before = EAR_HALF_WIDTH_MM + 1.0
    width = np.where(back > 0, behind, before)
    x = np.sign(back) * np.abs(back) ** 0.9 * width
    y = np.sign(up) * np.abs(up) ** 0.95 * half_height
    y = np.where(back < 0, y * (1 - 0.06 * np.abs(back)), y)
    return np.column_stack([x, np.clip(y, -EAR_HALF_HEIGHT_MM * 1.25, None)])
