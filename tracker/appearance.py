"""The subject's appearance: light and albedo from pictures with known geometry.

Light and albedo share a scale: it is fixed by asking that the albedo's mean be the picture's mean, so that the mean
shading is one. Source of the linear fits: Ramamoorthi and Hanrahan, SIGGRAPH 2001; the shading model is
`tracker.shading`.
"""

import torch
from torch import Tensor

from tracker.shading import sh_basis

# Shading below this is not divided out: the quotient would be noise.
DARKEST_SHADING = 0.15


def estimate_light(
    colours: Tensor, albedo: Tensor, normals_cam: Tensor, weight: Tensor, prior: Tensor, inverse_std: Tensor
) -> Tensor:
    """Least-squares light of one picture.

    Args:
        colours: (N, 3) picture at the samples.
        albedo: (N, 3).
        normals_cam: (N, 3) camera frame.
        weight: (N,) visibility times robust weight, divided by the colour variance.
        prior: (9, 3) mean light.
        inverse_std: (9,) reciprocal standard deviation of each coefficient around it.

    Returns:
        (9, 3) coefficients in camera axes, float64.
    """
    basis = sh_basis(normals_cam).to(torch.float64)
    colours, albedo, weight = colours.to(torch.float64), albedo.to(torch.float64), weight.to(torch.float64)
    prior_matrix = torch.diag(inverse_std**2)
    channels = []
    for channel in range(3):
        rows = basis * albedo[:, channel, None]
        H = (rows * weight[:, None]).T @ rows + prior_matrix
        right = (rows * weight[:, None]).T @ colours[:, channel] + prior_matrix @ prior[:, channel]
        channels.append(torch.linalg.solve(H, right))
    return torch.stack(channels, 1)


def unwrap(colours: Tensor, shading: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo that explains several pictures.

    Args:
        colours: (K, N, 3) pictures at the samples.
        shading: (K, N, 3) modelled irradiance.
        weight: (K, N) visibility and obliqueness, 0 where unseen.

    Returns:
        albedo (N, 3) in [0, 1] and total weight (N,).
    """
    shading = shading.clamp_min(DARKEST_SHADING)
    total = (weight[..., None] * shading * shading).sum(0)
    albedo = (weight[..., None] * shading * colours).sum(0) / total.clamp_min(1e-9)
    return albedo.clamp(0, 1), weight.sum(0)


def mean_albedo(colours: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean colour (3,) of (K, N, 3) samples with (K, N) weights."""
    return (colours * weight[..., None]).sum((0, 1)) / weight.sum().clamp_min(1e-9)
