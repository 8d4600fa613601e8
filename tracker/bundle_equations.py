"""Arrow-shaped normal equations: a dense block of shared unknowns, one block a frame, couplings, and their solution."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tracker.normal_equations import NormalEquations, bounded_step, squared
from tracker.threads import on_threads

# A long product is formed in this many parts, on threads.
_PARTS = 2


@dataclass(eq=False)
class SharedBlocks:
    """Normal equations of the shared unknowns, `[shape, log focal, cx, cy, offsets]`.

    Attributes:
        H: (C, C).
        g: (C,).
        cost: half the sum of squares of the prior.
        free: (C,) unknowns that are solved for.
        common: number of unknowns before the offsets.
    """

    H: Tensor
    g: Tensor
    cost: float
    free: Tensor
    common: int


@dataclass(eq=False)
class FrameRows:
    """Accumulates one frame's residual rows into its own, the shared, and the coupling blocks."""

    own: NormalEquations
    coupling: Tensor
    shared: SharedBlocks

    def add(self, rows: Tensor, gradient: Tensor, cost: float) -> None:
        """Adds whitened rows.

        Args:
            rows: (K, P + Q) by the frame's unknowns and the first Q of the shared ones.
            gradient: (P + Q,).
            cost: of the rows.
        """
        # Colours come in float32; a thousand rows of them summed so would leave the matrix indefinite.
        self.add_matrix(squared(rows.double()), gradient, cost)

    def add_matrix(self, H: Tensor, gradient: Tensor, cost: float) -> None:
        """Adds a product (P + Q, P + Q) of rows with themselves; see `add`."""
        own, shared, size = self.own, self.shared, len(self.own.g)
        count = H.shape[0] - size
        own.H += H[:size, :size]
        own.g += gradient[:size]
        own.cost += cost
        self.coupling[:, :count] += H[:size, size:]
        shared.H[:count, :count] += H[size:, size:]
        shared.g[:count] += gradient[size:]


@dataclass(eq=False)
class BundleEquations:
    """Arrow-shaped normal equations: dense shared block, one block a frame, couplings.

    Attributes:
        shared: shared blocks.
        frames: own equations and (P, C) coupling of each frame.
    """

    shared: SharedBlocks
    frames: tuple[tuple[NormalEquations, Tensor], ...]

    @property
    def cost(self) -> float:
        """Robust cost at the point of linearisation."""
        return self.shared.cost + sum(own.cost for own, _ in self.frames)

    def step(self, damping: float) -> Tensor | None:
        """Minimiser of the damped model, `[shared, frame 0, ...]`; None where a block is not positive definite."""
        reduced = self.reduced(damping)
        if reduced is None:
            return None
        S, right, eliminated = reduced
        free = self.shared.free
        shared_step = torch.zeros_like(self.shared.g)
        if bool(free.any()):
            factor, info = torch.linalg.cholesky_ex(S[free][:, free])
            if int(info) != 0:
                return None
            shared_step[free] = -torch.cholesky_solve(right[free][:, None], factor)[:, 0]
        parts = [shared_step]
        for (own, coupling), factor in zip(self.frames, eliminated, strict=True):
            frame_step = torch.zeros_like(own.g)
            open_ = ~own.frozen
            rhs = own.g[open_] + coupling[open_] @ shared_step
            frame_step[open_] = -torch.cholesky_solve(rhs[:, None], factor)[:, 0]
            parts.append(frame_step)
        return torch.cat(parts)

    def reduced(self, damping: float) -> tuple[Tensor, Tensor, list[Tensor]] | None:
        """Schur complement (C, C) of the shared unknowns, its right side, and each frame's Cholesky factor."""
        S = self.shared.H + torch.diag(damping * self.shared.H.diagonal())
        right = self.shared.g.clone()
        factors, halves = [], []
        for own, coupling in self.frames:
            open_ = ~own.frozen
            H = own.H[open_][:, open_]
            H = H + torch.diag(damping * (H.diagonal() + 1 / own.scale[open_] ** 2))
            factor, info = torch.linalg.cholesky_ex(H)
            if int(info) != 0:
                return None
            both = torch.cat([coupling[open_], own.g[open_][:, None]], 1)
            halves.append(torch.linalg.solve_triangular(factor, both, upper=False))
            factors.append(factor)
        stacked = torch.cat(halves)
        S -= stacked[:, :-1].T @ stacked[:, :-1]
        right -= stacked[:, :-1].T @ stacked[:, -1]
        return S, right, factors

    def shared_covariance(self) -> Tensor | None:
        """Covariance (C, C) of the shared unknowns (held ones zero), frames marginalised; None where singular."""
        reduced = self.reduced(0.0)
        if reduced is None:
            return None
        free = self.shared.free
        factor, info = torch.linalg.cholesky_ex(reduced[0][free][:, free])
        if int(info) != 0:
            return None
        covariance = torch.zeros_like(self.shared.H)
        ids = free.nonzero()[:, 0]
        covariance[ids[:, None], ids[None]] = torch.cholesky_inverse(factor)
        return covariance

    def predicted_decrease(self, step: Tensor) -> float:
        """Decrease of the undamped model."""
        C, P = len(self.shared.g), len(self.frames[0][0].g)
        shared = step[:C]
        decrease = -float(self.shared.g @ shared + 0.5 * shared @ (self.shared.H @ shared))
        for i, (own, coupling) in enumerate(self.frames):
            part = step[C + i * P : C + (i + 1) * P]
            decrease += own.predicted_decrease(part) - float(part @ (coupling @ shared))
        return decrease

    def relative_length(self, step: Tensor) -> float:
        """RMS of the frames' steps in standard deviations, with the shared ones by their own prior."""
        C, P = len(self.shared.g), len(self.frames[0][0].g)
        frames = torch.cat([step[C + i * P : C + (i + 1) * P] / own.scale for i, (own, _) in enumerate(self.frames)])
        shared = step[: self.shared.common]
        # One standard deviation of shape, 1 of log focal, 1 px of principal point: all of order one.
        return float(torch.cat([frames, shared]).square().mean().sqrt())


@dataclass(eq=False)
class CoupledEquations(BundleEquations):
    """Normal equations whose frames are also coupled to one another, by an appearance that was eliminated.

    Attributes:
        between: (K, Q + F P) rows over the first Q shared unknowns and all frames; their product with themselves is
            taken away from the arrow-shaped matrix. See `tracker.residuals.shared_colours`.
    """

    between: np.ndarray

    def step(self, damping: float) -> Tensor | None:
        """See `BundleEquations.step`."""
        H, g, open_ = self.dense
        damped = H.clone()
        damped.diagonal().add_(self._damping(), alpha=damping)
        wide = torch.full((len(self.shared.g),), torch.inf, dtype=torch.float64)
        lowest = torch.cat([-wide, *(own.lowest for own, _ in self.frames)])
        highest = torch.cat([wide, *(own.highest for own, _ in self.frames)])
        return bounded_step(damped, g, open_, lowest, highest)

    def shared_covariance(self) -> Tensor | None:
        """See `BundleEquations.shared_covariance`."""
        H, _, open_ = self.dense
        count = len(self.shared.g)
        order = torch.cat([open_[count:].nonzero()[:, 0] + count, open_[:count].nonzero()[:, 0]])
        frames = int(open_[count:].sum())
        factor, info = torch.linalg.cholesky_ex(H[order][:, order])
        if int(info) != 0:
            return None
        # The last block of the factor is that of the Schur complement.
        covariance = torch.zeros(count, count, dtype=torch.float64)
        ids = order[frames:]
        covariance[ids[:, None], ids[None]] = torch.cholesky_inverse(factor[frames:, frames:].contiguous())
        return covariance

    def predicted_decrease(self, step: Tensor) -> float:
        """Decrease of the undamped model."""
        H, g, _ = self.dense
        return -float(g @ step + 0.5 * step @ (H @ step))

    @cached_property
    def dense(self) -> tuple[Tensor, Tensor, Tensor]:
        """Matrix, gradient and free unknowns in the order of `[shared, frame 0, frame 1, ...]`."""
        C, P = len(self.shared.g), len(self.frames[0][0].g)
        total = C + P * len(self.frames)
        H, g = torch.zeros(total, total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
        open_ = torch.zeros(total, dtype=torch.bool)
        H[:C, :C], g[:C], open_[:C] = self.shared.H, self.shared.g, self.shared.free
        for k, (own, coupling) in enumerate(self.frames):
            block = slice(C + k * P, C + (k + 1) * P)
            H[block, block], g[block], open_[block] = own.H, own.g, ~own.frozen
            H[block, :C], H[:C, block] = coupling, coupling.T
        common = self.between.shape[1] - P * len(self.frames)
        parts = on_threads(squared, torch.from_numpy(self.between).tensor_split(_PARTS))
        taken = torch.stack(parts).sum(0)
        H[:common, :common] -= taken[:common, :common]
        H[C:, :common] -= taken[common:, :common]
        H[:common, C:] -= taken[:common, common:]
        H[C:, C:] -= taken[common:, common:]
        return H, g, open_

    def _damping(self) -> Tensor:
        """What damping adds to the diagonal, a unit of it."""
        diagonal = self.dense[0].diagonal().clone()
        C = len(self.shared.g)
        diagonal[C:] += torch.cat([1 / own.scale**2 for own, _ in self.frames])
        return diagonal
