"""The light of B frames from their colours: the twin of the last step of `FrameSolver.solve`."""

import torch
from torch import Tensor

from tracker.batched.pictures import BatchLevel, sample
from tracker.batched.surface import Seen
from tracker.batched.terms import masked_median
from tracker.frame_solver import MAD, SIGMA_LIMITS
from tracker.shading import SH_CONSTANTS, sh_basis


def fit_light(
    level: BatchLevel, pixels: Tensor, surface: tuple[Tensor, Tensor, Seen], prior: Tensor, light_std: float
) -> tuple[Tensor, Tensor]:
    """Least-squares light around a prior, with robust weights.

    Solved for the change of the light, whose right side is small, so that float32 suffices.

    Args:
        level: the full pictures.
        pixels: (B, M, 2) of the samples.
        surface: albedo (M, 3) and normals (B, M, 3) in camera axes, unit length, and what is seen.
        prior: (B, 9, 3) light before.
        light_std: spread of a coefficient around it, as a fraction of ambient light.

    Returns:
        (B, 9, 3) light in camera axes and (B,) mean absolute colour error; the prior and NaN where nothing is seen.
    """
    albedo, normals_cam, seen = surface
    colours, basis = sample(level.pixels, pixels)[0], sh_basis(normals_cam)
    error = torch.where(seen.mask[..., None], colours - albedo * (basis @ prior), 0)
    size = error.abs().mean(-1)
    sigma = (MAD * masked_median(size, seen.mask)).clamp_min(SIGMA_LIMITS[0])[:, None]
    weight = seen.mask * seen.cosine / sigma**2 / (1 + (size / (3 * sigma)) ** 2) ** 2
    precision = (SH_CONSTANTS[0] / light_std) ** 2 * torch.eye(9, device=albedo.device)
    rows = basis[:, None] * albedo.T[:, :, None]
    weighted = rows * weight[:, None, :, None]
    factor, _ = torch.linalg.cholesky_ex(weighted.mT @ rows + precision)
    change = torch.cholesky_solve(weighted.mT @ error.mT[..., None], factor)[..., 0].mT
    light = prior + change
    left = torch.where(seen.mask[..., None], colours - albedo * (basis @ light), 0)
    count = seen.mask.sum(1)
    l1 = left.abs().mean(-1).sum(1) / count
    return torch.where(count[:, None, None] > 0, light, prior), l1
