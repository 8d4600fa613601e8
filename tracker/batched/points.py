"""Projected surface points of B frames and their Jacobian: the batched twin of `tracker.residuals.projection`.

Formulas as in docs/solver.md, "Jacobians"; all tensors are float32 on one device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.batched.state import BatchState
from tracker.camera import Intrinsics, project
from tracker.points import PointSet
from tracker.rotations import skew

_EYES, _LIDS, _EXPRESSION = 9, 13, 15


@dataclass(frozen=True, eq=False)
class BatchPoints:
    """N surface points of one subject on a device; attributes as in `PointSet`.

    Attributes:
        rest: (N, 3) metres.
        basis: (N, 3, E).
        lid_basis: (N, 3, 2).
        weights: (N, 3).
        pivots: (3, 3).
        pivot_basis: (3, 3, E), or None where joints do not move with the expression.
        correctives: (N, 3, 27), or None.
    """

    rest: Tensor
    basis: Tensor
    lid_basis: Tensor
    weights: Tensor
    pivots: Tensor
    pivot_basis: Tensor | None
    correctives: Tensor | None

    @classmethod
    def of(cls, points: PointSet, device: torch.device | str) -> "BatchPoints":
        """Copies points to a device."""

        def moved(values: Tensor) -> Tensor:
            return values.float().contiguous().to(device)

        return cls(
            moved(points.rest),
            moved(points.expression_basis),
            moved(points.eyelid_basis),
            moved(points.weights),
            moved(points.pivots),
            moved(points.pivot_expression) if bool(points.pivot_expression.any()) else None,
            None if points.correctives is None else moved(points.correctives),
        )

    def project(self, state: BatchState, lens: Intrinsics) -> Tensor:
        """Pixels (B, N, 2)."""
        cam = self._skin(state).positions @ state.R.mT + state.t[:, None]
        return project(cam, lens.focal_px, lens.cx_px, lens.cy_px)

    def linearise(self, state: BatchState, lens: Intrinsics) -> tuple[Tensor, Tensor]:
        """Pixels (B, N, 2) and their derivative (B, N, 2, P) by the frames' steps."""
        skin = self._skin(state)
        turned = skin.positions @ state.R.mT
        x, y, z = (turned + state.t[:, None]).unbind(-1)
        scale = lens.focal_px / z
        across, down = scale * x, scale * y
        zero = torch.zeros_like(scale)
        by_cam = torch.stack([scale, zero, -across / z, zero, scale, -down / z], -1).unflatten(-1, (2, 3))
        by_head = by_cam @ state.R[:, None]
        by_rest = by_head @ skin.transform
        jacobian = self.rest.new_zeros(*by_cam.shape[:3], _EXPRESSION + self.basis.shape[2])
        # - P [y]x = y x P, row by row.
        jacobian[..., 0:3] = torch.linalg.cross(turned[:, :, None].expand_as(by_cam), by_cam, dim=-1)
        jacobian[..., 3:6] = by_cam
        self._turns(jacobian, skin, by_head)
        if self.correctives is not None:
            by_turn = self.correctives.flatten(0, 1) @ _turn_derivatives(skin.rotations, skin.axes)
            jacobian[..., 6:_LIDS] += by_rest @ by_turn.unflatten(1, (-1, 3))
        self._through_basis(jacobian[..., _LIDS:_EXPRESSION], by_head, self.lid_basis)
        self._through_basis(jacobian[..., _EXPRESSION:], by_rest, self.basis)
        if self.pivot_basis is not None:
            shares = (by_head[..., None, :] * self.weights[:, None, :, None]).flatten(3).flatten(1, 2)
            moved = (skin.deltas @ self.pivot_basis).flatten(1, 2)
            jacobian[..., _EXPRESSION:] -= (shares @ moved).unflatten(1, (-1, 2))
        return torch.stack([across + lens.cx_px, down + lens.cy_px], -1), jacobian

    def _turns(self, jacobian: Tensor, skin: "_Skin", by_head: Tensor) -> None:
        """Columns of jaw and eyes: a joint's turn moves a point at right angles to its arm."""
        for joint in range(3):
            weight = self.weights[:, joint, None, None]
            arm = (skin.unposed - skin.pivots[:, None, joint]) @ skin.rotations[:, joint].mT
            across = weight * torch.linalg.cross(arm[:, :, None].expand_as(by_head), by_head, dim=-1)
            if joint == 0:
                jacobian[..., 6:9] = across
            else:
                # d . (axis x arm) = axis . (arm x d).
                first = _EYES + 2 * (joint - 1)
                jacobian[..., first : first + 2] = across @ skin.axes[:, joint - 1, None].mT

    @staticmethod
    def _through_basis(columns: Tensor, rows: Tensor, basis: Tensor) -> None:
        """Writes rows (B, N, 2, 3) times basis (N, 3, K) to columns (B, N, 2, K), one component after the other.

        A batched product with an inner size of three would copy the basis for every frame.
        """
        torch.mul(rows[..., 0, None], basis[:, None, 0], out=columns)
        for a in (1, 2):
            columns.addcmul_(rows[..., a, None], basis[:, None, a])

    def _skin(self, state: BatchState) -> "_Skin":
        eyes, axes = _eyes(state.eyes)
        rotations = torch.cat([state.jaw[:, None], eyes], 1)
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        deltas = rotations - identity
        unposed = self.rest + (state.expression @ self.basis.flatten(0, 1).mT).unflatten(1, (-1, 3))
        pivots = self.pivots.expand(len(deltas), 3, 3)
        if self.pivot_basis is not None:
            pivots = pivots + (state.expression @ self.pivot_basis.flatten(0, 1).mT).unflatten(1, (3, 3))
        if self.correctives is not None:
            unposed = unposed + (deltas.flatten(1) @ self.correctives.flatten(0, 1).mT).unflatten(1, (-1, 3))
        blended = (self.weights @ deltas.flatten(2)).unflatten(2, (3, 3))
        turned = (blended @ unposed[..., None])[..., 0] - self.weights @ (deltas @ pivots[..., None])[..., 0]
        lids = (state.eyelids @ self.lid_basis.flatten(0, 1).mT).unflatten(1, (-1, 3))
        return _Skin(unposed + turned + lids, unposed, blended + identity, rotations, deltas, pivots, axes)


@dataclass(frozen=True, eq=False)
class _Skin:
    """One evaluation of the skinning.

    Attributes:
        positions: (B, N, 3).
        unposed: (B, N, 3).
        transform: (B, N, 3, 3).
        rotations: (B, 3, 3, 3) of jaw, left and right eye.
        deltas: (B, 3, 3, 3) the same less the identity.
        pivots: (B, 3, 3).
        axes: (B, 2, 2, 3) of d/dyaw and d/dpitch of both eyes, see `tracker.state.eye_axes`.
    """

    positions: Tensor
    unposed: Tensor
    transform: Tensor
    rotations: Tensor
    deltas: Tensor
    pivots: Tensor
    axes: Tensor


def _eyes(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (B, 2, 3, 3) of yaw and pitch (B, 2, 2), and the axes (B, 2, 2, 3) of their derivatives.

    Written out: the exponential map takes five times as many operations, and a GPU is told of each by itself.
    """
    (cy, cp), (sy, sp) = torch.cos(angles).unbind(-1), torch.sin(angles).unbind(-1)
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)
    rotations = torch.stack([cy, sy * sp, sy * cp, zero, cp, -sp, -sy, cy * sp, cy * cp], -1)
    axes = torch.stack([zero, one, zero, cy, zero, -sy], -1)
    return rotations.unflatten(-1, (3, 3)), axes.unflatten(-1, (2, 3))


def _turn_derivatives(rotations: Tensor, axes: Tensor) -> Tensor:
    """Derivative (B, 27, 7) of the three rotations' elements by jaw (3), yaw and pitch of both eyes."""
    out = rotations.new_zeros(len(rotations), 27, 7)
    units = skew(torch.eye(3, dtype=rotations.dtype, device=rotations.device))
    out[:, 0:9, 0:3] = (units @ rotations[:, None, 0]).flatten(2).mT
    for side in range(2):
        turned = skew(axes[:, side]) @ rotations[:, None, 1 + side]
        out[:, 9 + 9 * side : 18 + 9 * side, 3 + 2 * side : 5 + 2 * side] = turned.flatten(2).mT
    return out
