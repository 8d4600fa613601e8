"""The inside of the mouth: rolled lip edges, a closed bag, and two rows of teeth."""

import numpy as np

from tracker.head.build.eyes import closing_rings

# Rings from the lips' edge backwards: depth (mm), half height at the middle (mm), breadth relative to the lips.
_BAG_RINGS = (
    (1.6, 0.25, 1.0),
    (3.6, 1.2, 1.0),
    (6.5, 4.5, 1.02),
    (11.0, 10.0, 1.06),
    (19.0, 14.0, 1.02),
    (29.0, 13.0, 0.85),
    (38.0, 8.0, 0.5),
)
BAG_RING_COUNT = len(_BAG_RINGS)
_BAG_DEPTH_MM = 41.0
TEETH_COLUMNS = 19
UPPER_LIP_MIDDLE = 13  # FaceMesh


def bag(loop_ids: np.ndarray, loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closes the mouth behind the lips.

    Args:
        loop_ids: (N,) ids of the inner lip edge in boundary order.
        loop: (N, 3) mm, its positions.

    Returns:
        Vertices (rings of N, then the back pole) and triangles over loop and vertices, as `eyes.closing_rings`.
    """
    middle_y = loop[:, 1].mean()
    half_breadth = np.abs(loop[:, 0]).max()
    across = loop[:, 0] / half_breadth
    upper = upper_side(loop_ids, loop)
    vault = np.where(upper, 1.0, -1.0) * np.sqrt(np.clip(1 - across**2, 0, 1))
    rings = []
    for depth, half_height, breadth in _BAG_RINGS:
        share = np.clip(depth / 12, 0, 1)
        z = (1 - share) * (loop[:, 2] - depth) + share * (loop[:, 2].max() - depth - 6 * across**2)
        y = loop[:, 1] + share * (middle_y - loop[:, 1]) + half_height * vault
        rings.append(np.stack([loop[:, 0] * breadth, y, z], 1))
    pole = np.array([[0, middle_y, loop[:, 2].max() - _BAG_DEPTH_MM]])
    return np.concatenate([*rings, pole]), closing_rings(len(loop), len(rings))


def upper_side(loop_ids: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """Which vertices of the inner lip loop belong to the upper lip (the corners count as upper).

    Args:
        loop_ids: (N,) vertex ids in boundary order.
        loop: (N, 3) mm, their positions.
    """
    count = len(loop)
    right, left = int(loop[:, 0].argmin()), int(loop[:, 0].argmax())
    arc = [(right + k) % count for k in range((left - right) % count + 1)]
    other = [(left + k) % count for k in range((right - left) % count + 1)]
    out = np.zeros(count, bool)
    out[arc if UPPER_LIP_MIDDLE in loop_ids[arc] else other] = True
    return out


def teeth(loop: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
    """One row of teeth as a closed curved box: vertices (mm) and triangles.

    Args:
        loop: (N, 3) mm, the inner lip edge.
        upper: the upper or the lower row.
    """
    half_breadth = np.abs(loop[:, 0]).max() * 0.82
    front_z = loop[:, 2].max() - (7.2 if upper else 8.6)
    y0 = loop[:, 1].mean()
    edge, gum = (y0 - 0.8, y0 + 8.5) if upper else (y0 - 1.2, y0 - 9.0)
    x = np.linspace(-1, 1, TEETH_COLUMNS)
    arch = np.abs(x) ** 2.2
    # The rows draw back into the gums behind, where they would otherwise stand free in an open mouth.
    sunk = (1.5 if upper else -4.0) * np.abs(x) ** 3
    corners = []
    for y, depth in ((gum, 0.6), (edge, 0.0), (edge, 2.6), (gum, 3.4)):
        z = front_z - depth - 30 * arch
        corners.append(np.stack([x * half_breadth * (1 - depth / 30), y + sunk, z], 1))
    vertices = np.stack(corners, 1).reshape(-1, 3)
    triangles = []
    for column in range(TEETH_COLUMNS - 1):
        for k in range(4):
            a, b = 4 * column + k, 4 * column + (k + 1) % 4
            triangles += [(a, b, b + 4), (a, b + 4, a + 4)]
    last = 4 * (TEETH_COLUMNS - 1)
    triangles += [(2, 1, 0), (3, 2, 0), (last, last + 1, last + 2), (last, last + 2, last + 3)]
    out = np.array(triangles)
    return vertices, out if upper else out[:, ::-1]
