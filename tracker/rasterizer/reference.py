"""The plain rasteriser: every pixel against every triangle in numpy. Slow; the oracle of the fast ones."""

import numpy as np

from tracker.camera import Intrinsics
from tracker.rasterizer.fragments import BACKGROUND, Fragments


def rasterize_reference(
    vertices_cam_m: np.ndarray,
    triangles: np.ndarray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    near_m: float,
    cull_back: bool,
) -> Fragments:
    """See `tracker.rasterizer.rasterize`."""
    height, width = size
    rays = _rays(intrinsics, height, width)
    index = np.full((height, width), BACKGROUND, np.int32)
    bary = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    corners_m = np.asarray(vertices_cam_m, np.float64)[np.asarray(triangles)]
    for number, (a, b, c) in enumerate(corners_m):
        determinant = a @ np.cross(b, c)
        if determinant == 0 or (cull_back and determinant > 0) or not np.isfinite(determinant):
            continue
        sign = np.sign(determinant)
        weights = (
            np.stack([_dot(rays, np.cross(b, c)), _dot(rays, np.cross(c, a)), _dot(rays, np.cross(a, b))], -1) * sign
        )
        total = weights.sum(-1)
        inside = (weights >= 0).all(-1) & (total > 0)
        z = np.full((height, width), np.inf, np.float32)
        z[inside] = abs(determinant) / total[inside]
        nearest = inside & (z > near_m) & (z < depth)
        depth[nearest], index[nearest] = z[nearest], number
        bary[nearest] = weights[nearest] / total[nearest][:, None]
    depth[index < 0] = 0
    return Fragments(index, bary, depth)


def _rays(intrinsics: Intrinsics, height: int, width: int) -> np.ndarray:
    """(H, W, 3) directions through the pixel centres, z = 1."""
    u = (np.arange(width) + 0.5 - intrinsics.cx_px) / intrinsics.focal_px
    v = (np.arange(height) + 0.5 - intrinsics.cy_px) / intrinsics.focal_px
    return np.stack([*np.meshgrid(u, v), np.ones((height, width))], -1)


def _dot(rays: np.ndarray, normal: np.ndarray) -> np.ndarray:
    # Written out, in the fast rasteriser's order of additions, so that both decide equally about a centre on an edge.
    return rays[..., 0] * normal[0] + rays[..., 1] * normal[1] + normal[2]
