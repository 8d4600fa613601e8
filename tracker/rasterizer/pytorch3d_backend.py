"""Rasterisation by pytorch3d, for machines with CUDA. The same result as the numba backend's up to float32 rounding.

pytorch3d is optional (conda, environment.yml) and is imported inside the functions. It computes in float32 where the
numba backend computes in float64, so that a pixel centre within rounding of an edge may fall to either triangle (or, on
the silhouette, to the background). Where both see the same triangle, depths agree to 1e-4 of themselves and barycentric
coordinates to 1e-3. pytorch3d leaves out triangles of next to no area (twice the area at most 1e-8, in half shorter
sides: 0.04 square pixels of a picture of 4096).
"""

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.errors import InputError
from tracker.rasterizer.fragments import BACKGROUND, Fragments

# Nearer to the camera plane than this (metres) a vertex is moved there, so that its projection stays finite.
_PLANE_M = 1e-6


def why_unusable() -> str | None:
    """Why pytorch3d cannot be used here, None where it can: it breaks when torch is changed under it."""
    try:
        from pytorch3d.renderer.mesh import rasterize_meshes as _module
        from pytorch3d.structures import Meshes as _meshes
    except (ImportError, OSError, RuntimeError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    del _module, _meshes
    return None


def rasterize_pytorch3d(
    vertices_cam_m: np.ndarray,
    triangles: np.ndarray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    near_m: float,
    cull_back: bool,
) -> Fragments:
    """See `tracker.rasterizer.rasterize`.

    Raises:
        InputError: pytorch3d cannot be imported.
    """
    reason = why_unusable()
    if reason is not None:
        raise InputError(f"rasteriser pytorch3d: {reason}; install it (environment.yml) or use numba")
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    height, width = size
    drawn = _drawn(vertices_cam_m, triangles, near_m, cull_back)
    if len(drawn) == 0:
        empty = np.full((height, width), BACKGROUND, np.int32)
        return Fragments(empty, np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    points = _ndc(torch.as_tensor(np.asarray(vertices_cam_m), dtype=torch.float32, device=device), intrinsics, size)
    faces = torch.as_tensor(np.asarray(triangles)[drawn].astype(np.int64), device=device)
    face, depth, bary, _ = rasterize_meshes(
        Meshes([points], [faces]),
        image_size=(height, width),
        faces_per_pixel=1,
        perspective_correct=True,
        z_clip_value=near_m,
    )
    seen = face[0, ..., 0].cpu().numpy()
    empty = seen < 0
    index = np.where(empty, BACKGROUND, drawn[np.where(empty, 0, seen)]).astype(np.int32)
    bary_np, depth_np = bary[0, :, :, 0].cpu().numpy(), depth[0, ..., 0].cpu().numpy()
    zero = np.float32(0)
    return Fragments(index, np.where(empty[..., None], zero, bary_np), np.where(empty, zero, depth_np))


def _drawn(vertices_cam_m: np.ndarray, triangles: np.ndarray, near_m: float, cull_back: bool) -> np.ndarray:
    """Triangles that may be seen: finite, in part beyond the near plane, and not from behind where that is asked.

    Chosen here, by the same rules as the numba backend's, so that nothing hangs on pytorch3d's.
    """
    corners = np.asarray(vertices_cam_m, np.float64)[triangles]
    keep = np.isfinite(corners).all((1, 2)) & (corners[..., 2].max(1) > near_m)
    if cull_back:
        a, b, c = np.moveaxis(corners, 1, 0)
        keep &= (a * np.cross(b, c)).sum(1) < 0
    return np.flatnonzero(keep)


def _ndc(points: torch.Tensor, intrinsics: Intrinsics, size: tuple[int, int]) -> torch.Tensor:
    """Points (V, 3) in pytorch3d's coordinates: +x left, +y up, in half shorter sides; z stays metric."""
    height, width = size
    half = min(height, width) / 2
    x, y, z = points.unbind(1)
    z = torch.where(z.abs() < _PLANE_M, torch.full_like(z, _PLANE_M), z)
    ndc_x = (width / 2 - intrinsics.cx_px - intrinsics.focal_px * x / z) / half
    ndc_y = (height / 2 - intrinsics.cy_px - intrinsics.focal_px * y / z) / half
    return torch.stack([ndc_x, ndc_y, z], 1)
