"""Local contrast of a picture at surface points: its colour over the mean colour of the surface around.

Slow changes of shading drop out, whatever the light does. The mean is taken over a disc on the surface, which the
camera sees as an ellipse: over a circle in the picture, a point's contrast would change as its surface turns away. On
clips with known truth, residuals on shaded albedo pulled the focal length 10 % down and relative rotation a degree off;
these do not (docs/solver.md).
"""

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics, projection_jacobian
from tracker.image import ImageLevel, sample
from tracker.kernels import contrast as kernels
from tracker.kernels import mesh as mesh_kernels


def _gaussian_window() -> np.ndarray:
    """(K, 3) places in standard deviations on rings of equal share of a Gaussian disc, and their weights."""
    rings = ((0.0, 1), (1.2, 8))
    # Mass of the Gaussian between the circles half-way to the neighbouring rings.
    edges = [0.0, 0.6, 2.0]
    mass = np.exp(-0.5 * np.square(edges[:-1])) - np.exp(-0.5 * np.square(edges[1:]))
    places = []
    for (radius, count), share in zip(rings, mass / mass.sum(), strict=True):
        for k in range(count):
            angle = 2 * np.pi * (k + 0.5 * (count % 4 == 0)) / count
            places.append((radius * np.cos(angle), radius * np.sin(angle), share / count))
    return np.array(places)


WINDOW = _gaussian_window()
# No local mean: the plain picture.
PLAIN = np.empty((0, 3))


def window_axes(points_cam_m: Tensor, normals_cam: Tensor, intrinsics: Intrinsics, sigma_m: float) -> Tensor:
    """How a disc on the surface looks in the picture.

    Args:
        points_cam_m: (N, 3) camera frame.
        normals_cam: (N, 3) camera frame, unit length.
        intrinsics: of the pyramid level.
        sigma_m: standard deviation of the disc, metres.

    Returns:
        (N, 2, 2) columns: pixels of one standard deviation along two directions of the surface.
    """
    if points_cam_m.device.type == "cpu":
        axes = np.empty((len(points_cam_m), 2, 2), points_cam_m.numpy().dtype)
        mesh_kernels.window_axes(points_cam_m.numpy(), normals_cam.numpy(), intrinsics.focal_px, sigma_m, axes)
        return torch.from_numpy(axes)
    return window_axes_torch(points_cam_m, normals_cam, intrinsics, sigma_m)


def window_axes_torch(points_cam_m: Tensor, normals_cam: Tensor, intrinsics: Intrinsics, sigma_m: float) -> Tensor:
    """`window_axes` on any device."""
    by_cam = projection_jacobian(points_cam_m, intrinsics.focal_px)
    tangents = surface_tangents(normals_cam)
    return sigma_m * (by_cam @ tangents)


def surface_tangents(normals: Tensor) -> Tensor:
    """Two unit directions (N, 3, 2) at right angles to each other and to unit normals (N, 3)."""
    helper = torch.zeros_like(normals)
    helper[torch.arange(len(normals), device=normals.device), normals.abs().argmin(1)] = 1
    first = torch.nn.functional.normalize(torch.linalg.cross(normals, helper, dim=1), dim=1)
    return torch.stack([first, torch.linalg.cross(normals, first, dim=1)], 2)


def local_contrast(level: ImageLevel, pixels: Tensor, axes: Tensor) -> Tensor:
    """Contrast (N, 3) at continuous pixels (N, 2) of a level; an even area has one half."""
    if pixels.device.type != "cpu":
        return local_contrast_torch(level, pixels, axes)[0]
    out = np.empty((len(pixels), 3), level.pixels.numpy().dtype)
    kernels.values(level.pixels.numpy(), pixels.numpy(), axes.numpy(), WINDOW, out)
    return torch.from_numpy(out)


def plain_colours(level: ImageLevel, pixels: Tensor) -> Tensor:
    """Bilinear colours (N, 3) at continuous pixels (N, 2) of a level, on the CPU."""
    out = np.empty((len(pixels), 3), level.pixels.numpy().dtype)
    kernels.values(level.pixels.numpy(), pixels.numpy(), np.zeros((len(pixels), 2, 2), out.dtype), PLAIN, out)
    return torch.from_numpy(out)


def local_contrast_torch(level: ImageLevel, pixels: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast (N, 3) and its gradient (N, 3, 2) by the pixel, on any device."""
    window = torch.from_numpy(WINDOW).to(pixels)
    where = pixels[:, None] + torch.einsum("nij,kj->nki", axes.to(pixels), window[:, :2])
    around, slopes = sample(level.pixels, where.flatten(0, 1))
    mean = (around.reshape(len(pixels), -1, 3) * window[None, :, 2:]).sum(1) + kernels.DARKEST_MEAN
    mean_slope = (slopes.reshape(len(pixels), -1, 3, 2) * window[None, :, 2:, None]).sum(1)
    value, slope = sample(level.pixels, pixels)
    contrast = kernels.HALF * value / mean
    return contrast, (kernels.HALF * slope - contrast[..., None] * mean_slope) / mean[..., None]
