"""Eyeballs, lids that wrap them, and the closed sockets behind the lids."""

from dataclasses import dataclass

import numpy as np

from tracker.head.build.canonical import (
    EYE_X_MM,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    smoothstep,
)
from tracker.head.build.fair import fair_values

EYEBALL_RADIUS_MM = 12.0
EYE_CENTRE_MM = np.array([EYE_X_MM, 26.0, 26.2])  # left eye
IRIS_RADIUS_MM = 5.85  # horizontal visible iris diameter 11.7 mm
PUPIL_RADIUS_MM = 1.9
LONGITUDES = 24

# Distance of the lids' outer and inner edges from the eyeball's centre.
LID_OUTER_MM = 13.3
LID_INNER_MM = 12.35
# How far the lids of the canonical face open further: its slit is 6.7 mm high, a relaxed eye's about 9.5 mm.
_LID_RAISE_MM = 1.3
_LID_LOWER_MM = 1.5
_LID_RANGE_MM = 15.0
_OUTER_CORNER_SHIFT_MM = 1.4
_CORNER_PULL = 0.35

# Polar angles (degrees from the gaze axis) of the rings of vertices; pupil's and iris's edges are exact.
_IRIS_DEG = np.degrees(np.arcsin(IRIS_RADIUS_MM / EYEBALL_RADIUS_MM))
_PUPIL_DEG = np.degrees(np.arcsin(PUPIL_RADIUS_MM / EYEBALL_RADIUS_MM))
RING_ANGLES_DEG = np.array(
    [_PUPIL_DEG / 2, _PUPIL_DEG, 15.0, 20.5, 25.5, _IRIS_DEG, 32.5, 38, 46, 56, 68, 82, 100, 122, 148]
)
# Rings of the socket behind the lid's edge: share of the way to the back pole, distance from the ball's centre (mm).
# The second lies just behind the first, which makes the lid's edge a crease for smooth normals.
_SOCKET_RINGS = ((0.0, LID_INNER_MM), (0.012, LID_INNER_MM), (0.1, 12.4), (0.3, 12.5), (0.55, 12.5), (0.8, 12.5))
IRIS_RING = 5
PUPIL_RING = 1


@dataclass(frozen=True)
class Eyeball:
    """A sphere with poles on the gaze axis.

    Attributes:
        vertices: (V, 3) mm; vertex 0 is the pupil's middle, then rings of `LONGITUDES`, last the back pole.
        triangles: (F, 3) outward.
    """

    vertices: np.ndarray
    triangles: np.ndarray


def eyeball(side: int) -> Eyeball:
    """The left (side +1) or right (-1) eyeball; the right one mirrors the left."""
    polar = np.deg2rad(RING_ANGLES_DEG)[:, None]
    longitude = 2 * np.pi * np.arange(LONGITUDES)[None] / LONGITUDES
    shape = np.broadcast_shapes(polar.shape, longitude.shape)
    ring = np.stack(
        [
            np.broadcast_to(np.sin(polar) * np.cos(longitude), shape),
            np.broadcast_to(np.sin(polar) * np.sin(longitude), shape),
            np.broadcast_to(np.cos(polar), shape),
        ],
        -1,
    ).reshape(-1, 3)
    unit = np.concatenate([[[0, 0, 1.0]], ring, [[0, 0, -1.0]]])
    vertices = (unit * EYEBALL_RADIUS_MM + EYE_CENTRE_MM) * [side, 1, 1]
    triangles = strip_between_poles(len(RING_ANGLES_DEG), LONGITUDES)
    return Eyeball(vertices, triangles if side > 0 else triangles[:, ::-1])


def strip_between_poles(rings: int, count: int) -> np.ndarray:
    """Triangles of a pole, `rings` rings of `count`, and a pole, counter-clockwise about the first pole's direction."""
    out = []
    last = 1 + rings * count
    for k in range(count):
        n = (k + 1) % count
        out.append((0, 1 + k, 1 + n))
        out.append((last, last - count + n, last - count + k))
        for r in range(rings - 1):
            a, b = 1 + r * count + k, 1 + r * count + n
            out += [(a, a + count, b), (b, a + count, b + count)]
    return np.array(out)


def fit_lids(coarse: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Opens the lids to a relaxed eye and lays them around the eyeball: (468, 3) to (468, 3) mm."""
    target = coarse.copy()
    on_lids = np.zeros(len(coarse), bool)
    for upper, lower, side in ((LEFT_UPPER_LID, LEFT_LOWER_LID, 1), (RIGHT_UPPER_LID, RIGHT_LOWER_LID, -1)):
        ring = list(upper[:-1]) + list(lower[::-1][:-1])
        target[ring] = _lid_targets(coarse[ring], len(upper), side)
        on_lids[ring] = True
    distance = np.linalg.norm(coarse[:, None] - coarse[on_lids][None], axis=2).min(1)
    fixed = on_lids | (distance > _LID_RANGE_MM)
    moves = fair_values(coarse, triangles, fixed, target - coarse)
    return coarse + moves


def _lid_targets(ring: np.ndarray, upper_count: int, side: int) -> np.ndarray:
    """Where the lid edge goes: wider open, the outer corner further out, around the eyeball at `LID_OUTER_MM`."""
    along = np.linspace(0, np.pi, upper_count)
    opening = np.concatenate([_LID_RAISE_MM * np.sin(along)[:-1], -_LID_LOWER_MM * np.sin(along[::-1])[:-1]])
    target = ring.copy()
    target[:, 1] += opening
    outwards = smoothstep((side * target[:, 0] - EYE_X_MM) / 11.0)
    target[:, 0] += side * _OUTER_CORNER_SHIFT_MM * outwards
    centre = EYE_CENTRE_MM * [side, 1, 1]
    arm = target - centre
    radius = np.linalg.norm(arm, axis=1, keepdims=True)
    # The canthi lie off the sphere (caruncle, outer commissure): pulled only part of the way.
    pull = np.maximum(_CORNER_PULL, smoothstep(np.abs(opening)[:, None] / np.abs(opening).max() / 0.5))
    return centre + arm / radius * (radius + pull * (LID_OUTER_MM - radius))


def keep_off_eyeballs(vertices: np.ndarray, clearance_mm: float = 0.9) -> np.ndarray:
    """Pushes skin that came nearer than `clearance_mm` to an eyeball radially outwards."""
    out = vertices.copy()
    for side in (1, -1):
        arm = out - EYE_CENTRE_MM * [side, 1, 1]
        radius = np.linalg.norm(arm, axis=1, keepdims=True)
        least = EYEBALL_RADIUS_MM + clearance_mm
        out = np.where(radius < least, out + arm * (least / radius - 1), out)
    return out


def socket(loop: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The lid's edge and the cup behind it that encloses the eyeball.

    Args:
        loop: (N, 3) mm, the lid opening in order.
        side: +1 left, -1 right.

    Returns:
        Vertices: rings of N from the lid's inner edge to the back, then the back pole; and triangles, where ids below
        N mean the loop and the new vertices follow.
    """
    centre = EYE_CENTRE_MM * [side, 1, 1]
    arm = loop - centre
    radius = np.linalg.norm(arm, axis=1)
    polar = np.arccos(arm[:, 2] / radius)
    longitude = np.arctan2(arm[:, 1], arm[:, 0])
    rings = []
    for share, at_radius in _SOCKET_RINGS:
        angle = polar + share * (np.pi - polar)
        unit = np.stack([np.sin(angle) * np.cos(longitude), np.sin(angle) * np.sin(longitude), np.cos(angle)], 1)
        rings.append(centre + at_radius * unit)
    pole = centre - [0, 0, 12.6]
    return np.concatenate([*rings, pole[None]]), closing_rings(len(loop), len(rings))


def closing_rings(count: int, rings: int) -> np.ndarray:
    """Triangles from a boundary loop (ids 0..count-1) through `rings` new rings to a final pole.

    The loop must run as `mesh.boundary_loops` gives it (along the half-edges of its triangles), so that the new
    triangles, which use the opposite half-edges, continue the surface's orientation.
    """
    out = []
    pole = count * (rings + 1)
    for k in range(count):
        n = (k + 1) % count
        for r in range(rings):
            a, b = r * count + k, r * count + n
            out += [(b, a, a + count), (b, a + count, b + count)]
        out.append((rings * count + n, rings * count + k, pole))
    return np.array(out)
