"""Rasterisation: which triangle is seen at each pixel. One result type, several backends."""

import importlib.util
from functools import cache

import numpy as np

from tracker.camera import Intrinsics
from tracker.rasterizer.fragments import BACKGROUND, VISIBILITY_TOLERANCE_M, Fragments, visible_points

__all__ = ["BACKENDS", "BACKGROUND", "VISIBILITY_TOLERANCE_M", "Fragments", "rasterize", "visible_points"]

BACKENDS = ("auto", "numba", "reference", "pytorch3d")

# Nothing nearer than a centimetre is drawn: a head that close would be the camera itself.
NEAR_M = 0.01


def rasterize(
    vertices_cam_m: np.ndarray,
    triangles: np.ndarray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    backend: str = "auto",
    cull_back: bool = False,
    weights: bool = True,
) -> Fragments:
    """The nearest triangle at each pixel centre; those that cross the camera plane are drawn in part.

    Args:
        vertices_cam_m: (V, 3) metres, camera frame (x right, y down, z forward).
        triangles: (F, 3) vertex ids, counter-clockwise seen from outside.
        intrinsics: camera of the picture.
        size: (height, width) pixels.
        backend: one of `BACKENDS`; 'auto' takes pytorch3d where it and a CUDA device are there, else numba.
        cull_back: leave out triangles seen from behind.
        weights: give barycentric coordinates; numba saves a third of its memory traffic without.

    Returns:
        See `Fragments`.

    Raises:
        ValueError: an array of another shape, or an unknown backend.
        InputError: the backend pytorch3d was asked for and cannot be imported.
    """
    if vertices_cam_m.ndim != 2 or vertices_cam_m.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(
            f"vertices and triangles must be (V, 3) and (F, 3), not {vertices_cam_m.shape} and {triangles.shape}"
        )
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(vertices_cam_m)):
        raise ValueError(f"triangles name vertices outside 0 to {len(vertices_cam_m) - 1}")
    if backend not in BACKENDS:
        raise ValueError(f"unknown rasteriser '{backend}'; known: {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = "pytorch3d" if _pytorch3d_on_cuda() else "numba"
    arguments = (vertices_cam_m, triangles, intrinsics, size, NEAR_M, cull_back)
    if backend == "reference":
        from tracker.rasterizer.reference import rasterize_reference

        return rasterize_reference(*arguments)
    if backend == "pytorch3d":
        from tracker.rasterizer.pytorch3d_backend import rasterize_pytorch3d

        return rasterize_pytorch3d(*arguments)
    from tracker.rasterizer.numba_backend import rasterize_numba

    return rasterize_numba(*arguments, weights)


@cache
def _pytorch3d_on_cuda() -> bool:
    """Whether pytorch3d can be used and a CUDA device is there."""
    if importlib.util.find_spec("pytorch3d") is None:
        return False
    import torch

    from tracker.rasterizer.pytorch3d_backend import why_unusable

    return torch.cuda.is_available() and why_unusable() is None
