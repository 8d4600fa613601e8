"""Normal equations of B frames and their bounded step, without a question to the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.batched.state import BatchState, pick
from tracker.rotations import log_so3, skew
from tracker.state import Layout

# As in `tracker.normal_equations`; all passes are made, because asking whether one is still needed would wait.
_BOUND_PASSES = 5
# Below this angle (radians) the closed form loses float32's digits; the series is exact to them.
_SMALL_ANGLE = 0.3


@dataclass(frozen=True, eq=False)
class BatchEquations:
    """`0.5 x^T H x + g^T x` around B states, float32.

    Attributes:
        H: (B, P, P).
        g: (B, P).
        cost: (B,) half the robust sums of squares.
    """

    H: Tensor
    g: Tensor
    cost: Tensor

    def __add__(self, other: "BatchEquations") -> "BatchEquations":
        return BatchEquations(self.H + other.H, self.g + other.g, self.cost + other.cost)

    def where(self, mask: Tensor, other: "BatchEquations") -> "BatchEquations":
        """These for the frames of a (B,) mask, the others for the rest."""
        return BatchEquations(
            pick(mask, self.H, other.H), pick(mask, self.g, other.g), pick(mask, self.cost, other.cost)
        )

    def predicted_decrease(self, step: Tensor) -> Tensor:
        """(B,) decrease of the undamped model for steps (B, P)."""
        return -((self.g + 0.5 * (self.H @ step[..., None])[..., 0]) * step).sum(1)


def of_rows(rows: Tensor, right: Tensor, cost: Tensor) -> BatchEquations:
    """Equations whose matrix is the product of weighted rows (B, K, P) with themselves, right sides (B, K)."""
    return BatchEquations(rows.mT @ rows, (rows.mT @ right[..., None])[..., 0], cost)


def bounded_step(H: Tensor, g: Tensor, free: Tensor, lowest: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    """Minimisers within a box, see `tracker.normal_equations.bounded_step`.

    Unknowns that do not move keep their place in the matrix as rows of the identity. The matrix is scaled to a unit
    diagonal first: what is left of its condition is within float32's reach (docs/solver.md).

    Args:
        H: (B, P, P).
        g: (B, P).
        free: (B, P) bool.
        lowest: (B, P) at most zero.
        highest: (B, P) at least zero.

    Returns:
        (B, P) steps, zero where a matrix is not positive definite, and (B,) whether it was.
    """
    size = torch.diagonal(H, dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
    scaled = H * size[:, :, None] * size[:, None]
    identity = torch.eye(H.shape[1], dtype=H.dtype, device=H.device)
    step, moving = torch.zeros_like(g), free
    solved = torch.ones_like(g[:, 0], dtype=torch.bool)
    for _ in range(_BOUND_PASSES):
        resting = torch.where(moving, 0, step)
        right = (g + (H @ resting[..., None])[..., 0]) * size * moving
        both = moving[:, :, None] & moving[:, None]
        factor, info = torch.linalg.cholesky_ex(torch.where(both, scaled, identity))
        found = -torch.cholesky_solve(right[..., None], factor)[..., 0] * size
        solved = solved & (info == 0) & torch.isfinite(found).all(1)
        step = torch.where(moving, found, step)
        over = moving & ((step < lowest) | (step > highest))
        step = torch.maximum(torch.minimum(step, highest), lowest)
        # What was set on a bound and would rather come back is let go again, once nothing more is carried over.
        slope = (H @ step[..., None])[..., 0] + g
        inward = ((step <= lowest) & (slope < 0)) | ((step >= highest) & (slope > 0))
        back = free & ~moving & inward & (lowest < highest) & ~over.any(1, keepdim=True)
        moving = (moving & ~over) | back
    return torch.where(solved[:, None], step, 0), solved


def box(state: BatchState, limits: Tensor, held: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the bounds allow: the twin of `tracker.kernels.frame.box`.

    Args:
        state: B states.
        limits: (P, 2).
        held: (P,) bool, not solved for.
        gradient: (B, P).

    Returns:
        free (B, P) bool, smallest and largest step (B, P).
    """
    value = state.values()
    low, high = limits[:, 0], limits[:, 1]
    frozen = held | ((value <= low) & (gradient > 0)) | ((value >= high) & (gradient < 0))
    return ~frozen, (low - value).clamp_max(0), (high - value).clamp_min(0)


def difference(now: BatchState, then: BatchState) -> Tensor:
    """(B, P) steps in `Layout` order that lead from one state to the other; rotations by logarithm."""
    rotation, jaw = log_so3(now.R @ then.R.mT), log_so3(now.jaw @ then.jaw.mT)
    inner = now.values() - then.values()
    return torch.cat([rotation, now.t - then.t, jaw, inner[:, Layout.eyes.start :]], 1)


def gaussian(now: BatchState, then: BatchState, inverse_std: Tensor) -> BatchEquations:
    """Independent normal distributions of every unknown: the twin of `tracker.kernels.frame.add_gaussian`.

    Args:
        now: B states.
        then: their means.
        inverse_std: (P,) or (B, P).
    """
    steps = difference(now, then)
    residual = steps * inverse_std
    jacobian = torch.diag_embed(inverse_std.expand_as(steps).clone())
    for block in (Layout.rotation, Layout.jaw):
        left = inverse_left_jacobian(steps[:, block])
        jacobian[:, block, block] = inverse_std.expand_as(steps)[:, block, None] * left
    return of_rows(jacobian, residual, 0.5 * residual.square().sum(1))


def inverse_left_jacobian(w: Tensor) -> Tensor:
    """Derivative (B, 3, 3) of log(exp(d) exp(w)) by d at d = 0, for w (B, 3).

    Source: Sola et al., A micro Lie theory, 2018, equation 146.
    """
    k, squared = skew(w), w.square().sum(1)[:, None, None]
    small = squared < _SMALL_ANGLE**2
    safe = torch.where(small, 1.0, squared)
    half = safe.sqrt() / 2
    closed = (1 - half / torch.tan(half)) / safe
    series = 1 / 12 + squared / 720 + squared**2 / 30240
    return torch.eye(3, dtype=w.dtype, device=w.device) - 0.5 * k + torch.where(small, series, closed) * (k @ k)
