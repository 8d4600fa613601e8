"""Normal equations of B frames and their bounded step, without a question to the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.batched.state import BatchState, pick
from tracker.rotations import skew
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
    H, g, low, high = H * size[:, :, None] * size[:, None], g * size, lowest / size, highest / size
    identity = torch.eye(H.shape[1], dtype=H.dtype, device=H.device)
    step, slope, moving = torch.zeros_like(g), g, free
    failed = torch.zeros_like(g[:, 0], dtype=torch.int32)
    for number in range(_BOUND_PASSES):
        # The step that is left, over those that move: the slope at where the others rest.
        both = moving[:, :, None] & moving[:, None]
        factor, info = torch.linalg.cholesky_ex(torch.where(both, H, identity))
        failed = failed + info.abs()
        step = step - torch.cholesky_solve((slope * moving)[..., None], factor)[..., 0]
        inside = torch.maximum(torch.minimum(step, high), low)
        over = moving & (inside != step)
        step = inside
        if number + 1 < _BOUND_PASSES:
            slope = (H @ step[..., None])[..., 0] + g
            # What was set on a bound and would rather come back is let go again, once nothing more is carried over.
            inward = ((step <= low) & (slope < 0)) | ((step >= high) & (slope > 0))
            back = free & ~moving & inward & (low < high) & ~over.any(1, keepdim=True)
            moving = (moving & ~over) | back
    step = step * size
    solved = (failed == 0) & torch.isfinite(step).all(1)
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
    turns = short_log(torch.stack([now.R @ then.R.mT, now.jaw @ then.jaw.mT]))
    inner = now.values() - then.values()
    return torch.cat([turns[0], now.t - then.t, turns[1], inner[:, Layout.eyes.start :]], 1)


def short_log(R: Tensor) -> Tensor:
    """Axis-angle vectors of rotations (..., 3, 3) by less than three radians, in a few operations.

    A state lies within a fraction of a radian of its prediction; `tracker.rotations.log_so3` serves all angles.
    """
    sine = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1) / 2
    size = sine.square().sum(-1, keepdim=True).sqrt()
    cosine = (torch.diagonal(R, dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2
    # Below a ten thousandth the quotient is one to float32's last digit.
    return sine * torch.where(size < 1e-4, 1.0, torch.atan2(size, cosine) / size.clamp_min(1e-4))


def gaussians(now: BatchState, means: Sequence[tuple[BatchState, Tensor]]) -> BatchEquations:
    """Independent normal distributions of every unknown: the twin of `tracker.kernels.frame.add_gaussian`.

    Args:
        now: B states.
        means: mean (B, or one for all) and inverse standard deviations (B, P) or (P,) of each distribution.

    Returns:
        The sum over the distributions.
    """
    steps = torch.stack([difference(now, mean) for mean, _ in means])
    inverse = torch.stack([inverse.expand_as(steps[0]) for _, inverse in means])
    weight = inverse.square()
    pull = weight * steps
    H, g = torch.diag_embed(weight.sum(0)), pull.sum(0)
    blocks = Layout.rotation, Layout.jaw
    turns, strength, pulls = (torch.stack([x[..., b] for b in blocks], -2) for x in (steps, weight, pull))
    left = inverse_left_jacobian(turns)
    by_turn = (left.mT @ (strength[..., None] * left)).sum(0), (left.mT @ pulls[..., None])[..., 0].sum(0)
    for place, block in enumerate(blocks):
        H[:, block, block], g[:, block] = by_turn[0][:, place], by_turn[1][:, place]
    return BatchEquations(H, g, 0.5 * (pull * steps).sum((0, 2)))


def gaussians_cost(now: BatchState, means: Sequence[tuple[BatchState, Tensor]]) -> Tensor:
    """(B,) the cost of `gaussians` alone."""
    return sum(
        (0.5 * (difference(now, mean) * inverse).square().sum(1) for mean, inverse in means), now.t.new_zeros(())
    )


def inverse_left_jacobian(w: Tensor) -> Tensor:
    """Derivative (..., 3, 3) of log(exp(d) exp(w)) by d at d = 0, for w (..., 3).

    Source: Sola et al., A micro Lie theory, 2018, equation 146.
    """
    k, squared = skew(w), w.square().sum(-1)[..., None, None]
    small = squared < _SMALL_ANGLE**2
    safe = torch.where(small, 1.0, squared)
    half = safe.sqrt() / 2
    closed = (1 - half / torch.tan(half)) / safe
    series = 1 / 12 + squared / 720 + squared**2 / 30240
    return torch.eye(3, dtype=w.dtype, device=w.device) - 0.5 * k + torch.where(small, series, closed) * (k @ k)
