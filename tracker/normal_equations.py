"""Accumulation of weighted residuals into dense normal equations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.kernels import steps


@dataclass(eq=False)
class NormalEquations:
    """`0.5 x^T H x + g^T x` around the current state, in float64.

    Attributes:
        H: (P, P) Gauss-Newton matrix.
        g: (P,) gradient.
        cost: half the robust sum of squares.
        scale: (P,) standard deviation of each unknown, by which a step's length is measured.
        frozen: (P,) unknowns held fixed (bound active, or not asked for).
        lowest: (P,) smallest step that the unknowns' lower bounds allow.
        highest: (P,) largest step.
    """

    H: Tensor
    g: Tensor
    cost: float
    scale: Tensor
    frozen: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def zero(cls, scale: Tensor) -> "NormalEquations":
        """Empty equations for unknowns of the given (P,) scales."""
        size = len(scale)
        double = torch.float64
        frozen = torch.zeros(size, dtype=torch.bool)
        wide = torch.full((size,), torch.inf, dtype=double)
        return cls(
            torch.zeros(size, size, dtype=double), torch.zeros(size, dtype=double), 0.0, scale, frozen, -wide, wide
        )

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
        self.H += squared(rows)
        self.g += (rows.T @ right).to(torch.float64)
        self.cost += 0.5 * float(rho.sum())

    def step(self, damping: float) -> Tensor | None:
        """Minimiser of the damped model over the free unknowns; None where the matrix is not positive definite."""
        if self.H.device.type == "cpu":
            allowed = (part.numpy() for part in (self.scale, self.frozen, self.lowest, self.highest))
            return _unless_singular(steps.damped, self.H.numpy(), self.g.numpy(), damping, *allowed)
        damped = self.H.clone()
        diagonal = damped.diagonal()
        diagonal += damping * (diagonal + self.scale**-2)
        return bounded_step_torch(damped, self.g, ~self.frozen, self.lowest, self.highest)

    def predicted_decrease(self, step: Tensor) -> float:
        """Decrease of the undamped model for a step."""
        if self.H.device.type == "cpu":
            return steps.decrease(self.H.numpy(), self.g.numpy(), step.numpy())
        return -float(self.g @ step + 0.5 * step @ (self.H @ step))

    def relative_length(self, step: Tensor) -> float:
        """RMS of the step in standard deviations."""
        if self.H.device.type == "cpu":
            return steps.relative_length(step.numpy(), self.scale.numpy())
        return float((step / self.scale).square().mean().sqrt())


def squared(rows: Tensor) -> Tensor:
    """Product (P, P) of (K, P) rows with themselves, float64.

    On the CPU by numpy, which forms only half of a product with itself; torch forms all of it.
    """
    if rows.device.type != "cpu":
        return (rows.T @ rows).to(torch.float64)
    array = rows.numpy()
    return torch.from_numpy(array.T @ array).to(torch.float64)


def bounded_step(H: Tensor, g: Tensor, free: Tensor, lowest: Tensor, highest: Tensor) -> Tensor | None:
    """Minimiser of `0.5 x^T H x + g^T x` over the free unknowns within a box, by a few passes of an active set.

    Cutting the unbounded minimiser off at the box instead would leave the others where they suit values that the cut
    ones do not have, and such a step often leads uphill.

    Args:
        H: (P, P).
        g: (P,).
        free: (P,) bool; the others stay at zero.
        lowest: (P,) lower bounds of the step, at most zero.
        highest: (P,) upper bounds, at least zero.

    Returns:
        (P,), or None where the matrix is not positive definite.
    """
    if H.device.type == "cpu":
        return _unless_singular(steps.bounded, *(part.numpy() for part in (H, g, free, lowest, highest)))
    return bounded_step_torch(H, g, free, lowest, highest)


def _unless_singular(solve: Callable[..., np.ndarray], *arguments: Any) -> Tensor | None:
    """A step as the kernels find it, or None where the matrix is not positive definite."""
    try:
        return torch.from_numpy(solve(*arguments))
    except np.linalg.LinAlgError:
        return None


def bounded_step_torch(H: Tensor, g: Tensor, free: Tensor, lowest: Tensor, highest: Tensor) -> Tensor | None:
    """`bounded_step` on any device."""
    step, moving = torch.zeros_like(g), free.clone()
    for _ in range(steps.BOUND_PASSES):
        ids = moving.nonzero()[:, 0]
        factor, info = torch.linalg.cholesky_ex(H[ids[:, None], ids[None]])
        if int(info) != 0:
            return None
        right = g[ids] + H[ids] @ torch.where(moving, torch.zeros_like(step), step)
        step[ids] = -torch.cholesky_solve(right[:, None], factor)[:, 0]
        over = moving & ((step < lowest) | (step > highest))
        step = torch.maximum(torch.minimum(step, highest), lowest)
        moving &= ~over
        if not bool(over.any()):
            # What was set on a bound and would rather come back is let go again.
            slope = H @ step + g
            inward = ((step <= lowest) & (slope < 0)) | ((step >= highest) & (slope > 0))
            freed = free & ~moving & inward & (lowest < highest)
            if not bool(freed.any()):
                break
            moving |= freed
    return step
