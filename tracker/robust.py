"""Robust kernels, separated from the residuals they act on.

A kernel takes s, the squared whitened norm of a residual group, and gives rho(s) and its derivative, the weight of
iteratively reweighted least squares. Source: Triggs et al., Bundle Adjustment, 1999, section 4.3.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[[Tensor], tuple[Tensor, Tensor]]


def quadratic(squared: Tensor) -> tuple[Tensor, Tensor]:
    """No robustness: rho(s) = s."""
    return squared, torch.ones_like(squared)


def huber(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Quadratic to one standard deviation times two, linear beyond; convex, so it keeps a far start's pull."""
    knee = 2.0
    norm = squared.clamp_min(1e-20).sqrt()
    inside = norm <= knee
    rho = torch.where(inside, squared, 2 * knee * norm - knee * knee)
    return rho, torch.where(inside, torch.ones_like(norm), knee / norm)


def geman_mcclure(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Redescending: what lies beyond a few standard deviations (hair, hands, glasses) loses its pull."""
    # Four standard deviations squared: an inlier at one sigma keeps 88 % of its weight.
    scale = 16.0
    shrink = scale / (scale + squared)
    return squared * shrink, shrink * shrink


def cauchy(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Heavy-tailed: beyond two standard deviations the pull falls but never ends; for priors that may be wrong."""
    scale = 4.0
    return scale * (squared / scale).log1p(), scale / (scale + squared)


KERNELS: dict[str, Kernel] = {"quadratic": quadratic, "huber": huber, "geman_mcclure": geman_mcclure, "cauchy": cauchy}
