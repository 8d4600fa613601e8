"""The CPU rasteriser: a z-buffer over triangles in numba.

Coordinates are homogeneous: with corners a, b, c in the camera frame and the ray d = ((u - cx) / f, (v - cy) / f, 1) of
a pixel centre, the weights d . (b x c), d . (c x a), d . (a x b) are the perspective-correct barycentric coordinates up
to their sum, and the depth is det[a b c] over that sum. A triangle that crosses the camera plane therefore needs no
clipping: only its bounding box is unknown, and the whole picture is taken for it. Two triangles that share an edge
compute exactly opposite weights for it, so no pixel centre falls between them.

Source: Olano and Greer, Triangle Scan Conversion using 2D Homogeneous Coordinates, Graphics Hardware 1997.
"""

import math

import numba
import numpy as np

from tracker.camera import Intrinsics
from tracker.rasterizer.fragments import BACKGROUND, Fragments

_MARGIN_PX = 1e-6


def rasterize_numba(
    vertices_cam_m: np.ndarray,
    triangles: np.ndarray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    near_m: float,
    cull_back: bool,
    weights: bool,
) -> Fragments:
    """See `tracker.rasterizer.rasterize`."""
    index = np.full(size, BACKGROUND, np.int32)
    bary = np.zeros((*size, 3) if weights else (0, 0, 3), np.float32)
    depth = np.full(size, np.inf, np.float32)
    camera = np.array([intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px], np.float64)
    vertices, faces = np.asarray(vertices_cam_m, np.float64), np.asarray(triangles, np.int64)
    _fill(vertices, faces, camera, near_m, cull_back, (index, bary, depth))
    return Fragments(index, bary, depth)


@numba.njit(cache=True, nogil=True, inline="always")
def _bounds(low: float, high: float, count: int) -> tuple[int, int]:
    """Half-open range of the pixels whose centres lie in [low, high]."""
    # A centre that the weights accept may miss the projected box by rounding; the margin costs nothing.
    first = math.ceil(max(low - _MARGIN_PX, 0.0) - 0.5)
    last = math.floor(min(high + _MARGIN_PX, float(count)) - 0.5)
    return max(first, 0), min(last + 1, count)


@numba.njit(cache=True, nogil=True)
def _projected(vertices: np.ndarray, camera: np.ndarray, near: float) -> np.ndarray:
    """(V, 2) pixels of the vertices; zeros for those that are not beyond the near plane."""
    points = np.zeros((vertices.shape[0], 2))
    for v in range(vertices.shape[0]):
        if vertices[v, 2] > near:
            points[v, 0] = camera[0] * vertices[v, 0] / vertices[v, 2] + camera[1]
            points[v, 1] = camera[0] * vertices[v, 1] / vertices[v, 2] + camera[2]
    return points


@numba.njit(cache=True, nogil=True, inline="always")
def _box(points: np.ndarray, i: int, j: int, k: int, crosses: bool, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixel ranges (rows, then columns) that a triangle may cover; the whole picture if it crosses the near plane."""
    if crosses:
        return 0, size[0], 0, size[1]
    ua, ub, uc = points[i, 0], points[j, 0], points[k, 0]
    va, vb, vc = points[i, 1], points[j, 1], points[k, 1]
    row0, row1 = _bounds(min(va, vb, vc), max(va, vb, vc), size[0])
    col0, col1 = _bounds(min(ua, ub, uc), max(ua, ub, uc), size[1])
    return row0, row1, col0, col1


@numba.njit(cache=True, nogil=True)
def _fill(
    vertices: np.ndarray,
    triangles: np.ndarray,
    camera: np.ndarray,
    near: float,
    cull_back: bool,
    buffers: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Draws every triangle into (index, bary, depth); of two at the same float32 depth the first stays.

    An empty `bary` is left alone.
    """
    index, bary, depth = buffers
    with_bary = bary.size > 0
    height, width = index.shape
    points = _projected(vertices, camera, near)
    rays_x = (np.arange(width) + 0.5 - camera[1]) / camera[0]
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        a, b, c = vertices[i], vertices[j], vertices[k]
        if max(a[2], b[2], c[2]) <= near:
            continue
        row0, row1, col0, col1 = _box(points, i, j, k, min(a[2], b[2], c[2]) <= near, (height, width))
        ax, ay, az = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
        bx, by, bz = c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0]
        cx, cy, cz = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
        det = a[0] * ax + a[1] * ay + a[2] * az
        if det == 0 or (cull_back and det > 0) or not math.isfinite(det):
            continue
        sign = 1.0 if det > 0 else -1.0
        for row in range(row0, row1):
            dv = (row + 0.5 - camera[2]) / camera[0]
            for col in range(col0, col1):
                du = rays_x[col]
                wa = (ax * du + ay * dv + az) * sign
                wb = (bx * du + by * dv + bz) * sign
                wc = (cx * du + cy * dv + cz) * sign
                total = wa + wb + wc
                # One test for all three: they are seldom known in advance, and each costs when guessed wrongly.
                if min(wa, wb, wc) < 0 or total == 0:
                    continue
                z = np.float32(sign * det / total)
                if z > near and z < depth[row, col]:
                    depth[row, col] = z
                    index[row, col] = t
                    if with_bary:
                        share = 1 / total
                        bary[row, col, 0] = wa * share
                        bary[row, col, 1] = wb * share
                        bary[row, col, 2] = wc * share
    for row in range(height):
        for col in range(width):
            if index[row, col] < 0:
                depth[row, col] = 0
