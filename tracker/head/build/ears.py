"""The outer ear: concentric rings from its root on the head over the back, the helix and the antihelix to the concha.

Every ring is one closed curve of as many vertices as the root ring. A ring's place is given by its size relative to the
ear's outline and its height over a plane that flares away from the head, tabled at four places around the ear.
Sizes: ear length 63 mm, breadth 35 mm, protrusion about 18 mm (Farkas 1994, means of both sexes).
"""

import numpy as np
from scipy.interpolate import CubicSpline

from tracker.head.build.eyes import closing_rings
from tracker.head.build.skull import EAR_HALF_WIDTH_MM, EAR_TILT_RAD

_FLARE = np.tan(np.deg2rad(26.0))
_FRONT_MARGIN_MM = -EAR_HALF_WIDTH_MM
_MIDDLE_MM = np.array([7.0, 1.0])  # of the outline, backwards and upwards from the root's middle
_CONCHA_MM = np.array([-1.0, -3.0])  # the ear canal

# The outline in the ear's plane: angle (degrees; 0 back, 90 up), mm backwards, mm upwards.
_OUTLINE = np.array(
    [
        (0, 25.0, 5.0),
        (30, 24.0, 17.0),
        (58, 17.5, 27.5),
        (86, 7.5, 32.0),
        (112, -2.0, 29.0),
        (138, -7.5, 19.0),
        (168, -9.0, 5.0),
        (198, -8.8, -7.0),
        (224, -7.2, -18.0),
        (248, -4.2, -27.0),
        (272, 2.0, -31.0),
        (294, 9.0, -27.0),
        (318, 16.0, -16.0),
        (341, 22.0, -5.0),
    ]
)

# Profiles: (size, height mm) of each ring from the root to the concha.
_BACK = (  # helix, scapha, antihelix
    (0.80, -5.5), (0.93, -3.0), (0.995, -0.6), (1.0, 1.2), (0.955, 2.7), (0.895, 2.2), (0.83, -0.5),
    (0.75, -0.8), (0.66, 1.6), (0.57, 2.2), (0.47, -1.2), (0.36, -4.5), (0.20, -7.0),
)  # fmt: skip
_LOBE = (
    (0.86, -3.8), (0.95, -2.6), (0.995, -0.9), (1.0, 0.5), (0.95, 1.4), (0.88, 1.8), (0.81, 1.9),
    (0.73, 1.7), (0.64, 1.4), (0.55, 0.9), (0.46, -1.2), (0.36, -3.5), (0.20, -6.0),
)  # fmt: skip
_ASCENDING_HELIX = (
    (0.99, 0.5), (0.97, 1.2), (0.95, 2.2), (0.92, 3.4), (0.87, 4.3), (0.82, 4.4), (0.76, 3.4),
    (0.70, 1.8), (0.63, 0.8), (0.55, -0.4), (0.46, -2.6), (0.36, -4.6), (0.20, -6.6),
)  # fmt: skip
_TRAGUS = (
    (0.99, 0.3), (0.96, 0.8), (0.92, 1.4), (0.87, 2.2), (0.81, 3.1), (0.74, 4.0), (0.67, 4.5),
    (0.61, 4.2), (0.58, 2.2), (0.55, -0.8), (0.46, -3.6), (0.36, -5.2), (0.20, -6.6),
)  # fmt: skip
_NOTCH = (
    (0.99, 0.2), (0.96, 0.5), (0.92, 0.8), (0.88, 1.1), (0.83, 1.3), (0.78, 1.3), (0.72, 1.0),
    (0.66, 0.5), (0.60, -0.3), (0.53, -1.6), (0.45, -3.2), (0.35, -4.8), (0.20, -6.4),
)  # fmt: skip
# Angle (degrees), profile, and whether its heights count from the flaring plane (1) or from the head (0).
_STATIONS = (
    (0, _BACK, 1.0),
    (75, _BACK, 1.0),
    (122, _ASCENDING_HELIX, 0.15),
    (158, _ASCENDING_HELIX, 0.0),
    (186, _TRAGUS, 0.0),
    (206, _TRAGUS, 0.0),
    (230, _NOTCH, 0.0),
    (258, _LOBE, 0.55),
    (290, _LOBE, 1.0),
    (325, _BACK, 1.0),
    (360, _BACK, 1.0),
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
    degrees = 360 * np.arange(len(root)) / len(root)
    origin, frame = _frame(root, head_normal)
    outline = CubicSpline(
        np.append(_OUTLINE[:, 0], 360), np.concatenate([_OUTLINE[:, 1:], _OUTLINE[:1, 1:]]), bc_type="periodic"
    )(degrees)
    root_plane = (root - origin) @ frame.T
    flaring = np.interp(degrees, [s[0] for s in _STATIONS], [s[2] for s in _STATIONS])
    rings = []
    for index in range(len(_BACK)):
        size, height = (_around(degrees, index, column)[:, None] for column in (0, 1))
        middle = _MIDDLE_MM + (1 - size) * (_CONCHA_MM - _MIDDLE_MM)
        plane = middle + size * (outline - middle)
        height = height[:, 0] + flaring * _FLARE * np.maximum(plane[:, 0] - _FRONT_MARGIN_MM, 0)
        if index == 0:
            plane = 0.5 * (plane + root_plane[:, :2])
        # Towards the front margin the rings sit on the head, which curves away from the plane.
        height = height + (1 - flaring) * size[:, 0] ** 4 * root_plane[:, 2]
        rings.append(origin + np.column_stack([plane, height]) @ frame)
    concha = origin + np.array([*_CONCHA_MM, -4.0]) @ frame
    return np.concatenate([*rings, concha[None]]), closing_rings(len(root), len(rings))


def _frame(root: np.ndarray, head_normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin and axes (rows: backwards, upwards, outwards) of the ear's plane."""
    lateral = head_normal / np.linalg.norm(head_normal)
    up = np.array([0, np.cos(EAR_TILT_RAD), -np.sin(EAR_TILT_RAD)])
    up -= (up @ lateral) * lateral
    up /= np.linalg.norm(up)
    back = np.cross(up, lateral)
    back *= -np.sign(back[2])
    return root.mean(0), np.stack([back, up, lateral])


def _around(degrees: np.ndarray, ring: int, column: int) -> np.ndarray:
    """A profile value of one ring, eased between the stations around the ear."""
    angles = np.array([station[0] for station in _STATIONS], float)
    values = np.array([station[1][ring][column] for station in _STATIONS])
    place = np.clip(np.searchsorted(angles, degrees, side="right") - 1, 0, len(angles) - 2)
    t = (degrees - angles[place]) / (angles[place + 1] - angles[place])
    ease = t * t * (3 - 2 * t)
    return values[place] * (1 - ease) + values[place + 1] * ease
