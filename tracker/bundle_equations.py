"""Arrow-shaped normal equations: a dense block of shared unknowns, one block a frame, couplings, and their solution."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.normal_equations import NormalEquations


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

    def add(
        self,
        residual: Tensor,
        by_frame: Tensor,
        by_common: Tensor,
        by_offsets: list[tuple[Tensor, Tensor]],
        weight: Tensor,
    ) -> None:
        """Adds M rows of D.

        Args:
            residual: (M, D) unwhitened.
            by_frame: (M, D, P).
            by_common: (M, D, S + 3).
            by_offsets: landmark ids (M,) and (M, D, 3) derivatives; two entries for a pair.
            weight: (M,) inverse variance times robust weight.
        """
        own, shared, common = self.own, self.shared, self.shared.common
        weighted_frame = by_frame * weight[:, None, None]
        flat_frame = weighted_frame.flatten(0, 1).T
        flat_common = (by_common * weight[:, None, None]).flatten(0, 1).T
        own.H += flat_frame @ by_frame.flatten(0, 1)
        own.g += flat_frame @ residual.reshape(-1)
        self.coupling[:, :common] += flat_frame @ by_common.flatten(0, 1)
        shared.H[:common, :common] += flat_common @ by_common.flatten(0, 1)
        shared.g[:common] += flat_common @ residual.reshape(-1)
        for ids, rows in by_offsets:
            columns = (common + 3 * ids[:, None] + torch.arange(3)).reshape(-1)
            weighted = rows * weight[:, None, None]
            shared.g.index_add_(0, columns, torch.einsum("mdk,md->mk", weighted, residual).reshape(-1))
            to_frame = torch.einsum("mdp,mdk->pmk", weighted_frame, rows).reshape(len(own.g), -1)
            self.coupling.index_add_(1, columns, to_frame)
            to_common = torch.einsum("mdk,mdq->mkq", weighted, by_common).reshape(-1, common)
            shared.H[:, :common].index_add_(0, columns, to_common)
            shared.H[:common].index_add_(1, columns, to_common.T)
            for other_ids, other_rows in by_offsets:
                block = torch.einsum("mdj,mdk->mjk", weighted, other_rows)
                first = (common + 3 * ids[:, None, None] + torch.arange(3)[None, :, None]).expand_as(block)
                second = (common + 3 * other_ids[:, None, None] + torch.arange(3)[None, None, :]).expand_as(block)
                shared.H.index_put_((first.reshape(-1), second.reshape(-1)), block.reshape(-1), accumulate=True)

    def add_rows(self, rows: Tensor, gradient: Tensor, cost: float) -> None:
        """Adds whitened rows without offsets.

        Args:
            rows: (K, P + S + 3) by the frame's and the shared unknowns before the offsets.
            gradient: (P + S + 3,).
            cost: of the rows.
        """
        own, shared, common = self.own, self.shared, self.shared.common
        size = len(own.g)
        # Colours come in float32; a thousand rows of them summed so would leave the matrix indefinite.
        rows = rows.double()
        H = rows.T @ rows
        own.H += H[:size, :size]
        own.g += gradient[:size]
        own.cost += cost
        self.coupling[:, :common] += H[:size, size:]
        shared.H[:common, :common] += H[size:, size:]
        shared.g[:common] += gradient[size:]


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
