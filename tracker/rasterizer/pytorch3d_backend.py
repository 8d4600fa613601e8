"""Rasterisation by pytorch3d, for machines with CUDA. Same result as the numba backend up to rounding at edges.

pytorch3d is optional (conda, environment.yml) and is imported inside the function.
"""

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.rasterizer.fragments import BACKGROUND, Fragments


def rasterize_pytorch3d(
    vertices_cam_m: np.ndarray,
    triangles: np.ndarray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    near_m: float,
    cull_back: bool,
) -> Fragments:
    """See `tracker.rasterizer.rasterize`."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    height, width = size
    drawn = np.arange(len(triangles))
    if cull_back:
        # Culled here, by the same sign as the numba backend, so that nothing hangs on pytorch3d's winding rule.
        a, b, c = np.moveaxis(np.asarray(vertices_cam_m, np.float64)[triangles], 1, 0)
        drawn = np.flatnonzero((a * np.cross(b, c)).sum(1) < 0)
    if len(drawn) == 0:
        empty = np.full((height, width), BACKGROUND, np.int32)
        return Fragments(empty, np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    s = min(height, width) / 2
    points = torch.as_tensor(np.asarray(vertices_cam_m), dtype=torch.float32, device=device)
    z = points[:, 2]
    # NDC has +x left and +y up, in units of half the shorter side; z stays metric for perspective correction.
    ndc_x = (width / 2 - intrinsics.cx_px - intrinsics.focal_px * points[:, 0] / z) / s
    ndc_y = (height / 2 - intrinsics.cy_px - intrinsics.focal_px * points[:, 1] / z) / s
    meshes = Meshes([torch.stack([ndc_x, ndc_y, z], 1)], [torch.as_tensor(np.asarray(triangles)[drawn], device=device)])
    faces, depth, bary, _ = rasterize_meshes(
        meshes,
        image_size=(height, width),
        faces_per_pixel=1,
        perspective_correct=True,
        z_clip_value=near_m,
    )
    face = faces[0, ..., 0].cpu().numpy()
    empty = face < 0
    index = np.where(empty, BACKGROUND, drawn[np.where(empty, 0, face)]).astype(np.int32)
    bary_np, depth_np = bary[0, :, :, 0].cpu().numpy(), depth[0, ..., 0].cpu().numpy()
    return Fragments(index, np.where(empty[..., None], 0, bary_np), np.where(empty, 0, depth_np))
