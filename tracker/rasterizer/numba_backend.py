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


def rasterize_numba(
    vertices_cam_m: np.ndarray,
    triangles: np.ndarray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    near_m: float,
    cull_back: bool,
) -> Fragments:
    """See `tracker.rasterizer.rasterize`."""
    height, width = size
    index = np.full((height, width), BACKGROUND, np.int32)
    bary = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    camera = np.array([intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px], np.float64)
    vertices, faces = np.asarray(vertices_cam_m, np.float64), np.asarray(triangles, np.int64)
    _fill(vertices, faces, camera, near_m, cull_back, (index, bary, depth))
    depth[index < 0] = 0
    return Fragments(index, bary, depth)


@numba.njit(cache=True, nogil=True)
def _bounds(low: float, high: float, count: int) -> tuple[int, int]:
    """Half-open range of the pixels whose centres lie in [low, high]."""
    first = math.ceil(max(low, 0.0) - 0.5)
    last = math.floor(min(high, float(count)) - 0.5)
    return max(first, 0), min(last + 1, count)


@numba.njit(cache=True, nogil=True)
def _box(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, camera: np.ndarray, near: float, height: int, width: int
) -> tuple[int, int, int, int]:
    """Pixel ranges (rows, then columns) that the triangle may cover; the whole picture if it crosses the near plane."""
    if min(a[2], b[2], c[2]) <= near:
        return 0, height, 0, width
    f, cx, cy = camera[0], camera[1], camera[2]
    ua, ub, uc = f * a[0] / a[2] + cx, f * b[0] / b[2] + cx, f * c[0] / c[2] + cx
    va, vb, vc = f * a[1] / a[2] + cy, f * b[1] / b[2] + cy, f * c[1] / c[2] + cy
    # A centre that the weights accept may miss the projected box by rounding; the margin costs nothing.
    margin = 1e-6
    row0, row1 = _bounds(min(va, vb, vc) - margin, max(va, vb, vc) + margin, height)
    col0, col1 = _bounds(min(ua, ub, uc) - margin, max(ua, ub, uc) + margin, width)
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
    """Draws every triangle into (index, bary, depth); of two at the same float32 depth the first stays."""
    index, bary, depth = buffers
    height, width = index.shape
    f, cx, cy = camera[0], camera[1], camera[2]
    for t in range(triangles.shape[0]):
        a, b, c = vertices[triangles[t, 0]], vertices[triangles[t, 1]], vertices[triangles[t, 2]]
        if max(a[2], b[2], c[2]) <= near:
            continue
        ax, ay, az = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
        bx, by, bz = c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0]
        cx_, cy_, cz_ = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
        det = a[0] * ax + a[1] * ay + a[2] * az
        if det == 0 or (cull_back and det > 0) or not math.isfinite(det):
            continue
        sign = 1.0 if det > 0 else -1.0
        row0, row1, col0, col1 = _box(a, b, c, camera, near, height, width)
        for row in range(row0, row1):
            dv = (row + 0.5 - cy) / f
            for col in range(col0, col1):
                du = (col + 0.5 - cx) / f
                wa = (ax * du + ay * dv + az) * sign
                if wa < 0:
                    continue
                wb = (bx * du + by * dv + bz) * sign
                if wb < 0:
                    continue
                wc = (cx_ * du + cy_ * dv + cz_) * sign
                total = wa + wb + wc
                if wc < 0 or total == 0:
                    continue
                z = np.float32(sign * det / total)
                if z > near and z < depth[row, col]:
                    depth[row, col] = z
                    index[row, col] = t
                    bary[row, col, 0] = wa / total
                    bary[row, col, 1] = wb / total
                    bary[row, col, 2] = wc / total
