"""Accumulation of weighted residuals into dense normal equations."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class NormalEquations:
    """`0.5 x^T H x + g^T x` around the current state, in float64.

    Attributes:
        H: (P, P) Gauss-Newton matrix.
        g: (P,) gradient.
        cost: half the robust sum of squares.
        scale: (P,) standard deviation of each unknown, by which a step's length is measured.
        frozen: (P,) unknowns held fixed (bound active, or not asked for).
    """

    H: Tensor
    g: Tensor
    cost: float
    scale: Tensor
    frozen: Tensor

    @classmethod
    def zero(cls, scale: Tensor) -> "NormalEquations":
        """Empty equations for unknowns of the given (P,) scales."""
        size = len(scale)
        double = torch.float64
        frozen = torch.zeros(size, dtype=torch.bool)
        return cls(torch.zeros(size, size, dtype=double), torch.zeros(size, dtype=double), 0.0, scale, frozen)

    def add(self, residual: Tensor, jacobian: Tensor, weight: Tensor, rho: Tensor) -> None:
        """Adds N groups of D whitened residuals.

        Args:
            residual: (N, D).
            jacobian: (N, D, P).
            weight: (N,) robust weight times confidence.
            rho: (N,) robust cost times confidence.
        """
        root = weight.sqrt()[:, None]
        rows = (jacobian * root[..., None]).reshape(-1, jacobian.shape[-1])
        right = (residual * root).reshape(-1)
        self.H += (rows.T @ rows).to(torch.float64)
        self.g += (rows.T @ right).to(torch.float64)
        self.cost += 0.5 * float(rho.sum())

    def step(self, damping: float) -> Tensor | None:
        """Minimiser of the damped model over the free unknowns; None where the matrix is not positive definite."""
        free = ~self.frozen
        H = self.H[free][:, free]
        diagonal = H.diagonal()
        damped = H + torch.diag(damping * (diagonal + 1 / self.scale[free] ** 2))
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info) != 0:
            return None
        step = torch.zeros_like(self.g)
        step[free] = -torch.cholesky_solve(self.g[free][:, None], factor)[:, 0]
        return step

    def predicted_decrease(self, step: Tensor) -> float:
        """Decrease of the undamped model for a step."""
        return -float(self.g @ step + 0.5 * step @ (self.H @ step))

    def relative_length(self, step: Tensor) -> float:
        """RMS of the step in standard deviations."""
        return float((step / self.scale).square().mean().sqrt())
