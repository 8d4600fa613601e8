"""Priors and temporal terms: residuals that are linear in the frame's unknowns.

Each is a target and a standard deviation for every unknown: priors pull to the model's rest, temporal terms to the
prediction from the frames before. Rotations are compared by the logarithm of their difference.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.normal_equations import NormalEquations
from tracker.rotations import log_so3, skew
from tracker.state import FrameState, Layout


def difference(state: FrameState, target: FrameState) -> Tensor:
    """Step (P,) that leads from `target` to `state`, in `Layout` order."""
    return torch.cat(
        [
            log_so3(state.R @ target.R.T),
            state.t - target.t,
            log_so3(state.jaw @ target.jaw.T),
            (state.eyes - target.eyes).reshape(-1),
            state.eyelids - target.eyelids,
            state.expression - target.expression,
        ]
    )


@dataclass(frozen=True, eq=False)
class GaussianTerm:
    """Independent normal distribution of every unknown around a target state.

    Attributes:
        target: its mean.
        inverse_std: (P,) reciprocal standard deviations; 0 leaves an unknown free.
    """

    target: FrameState
    inverse_std: Tensor

    def residual(self, state: FrameState) -> Tensor:
        """Whitened difference (P,)."""
        return difference(state, self.target) * self.inverse_std

    def cost(self, state: FrameState) -> float:
        """Half the sum of squares."""
        return 0.5 * float(self.residual(state).square().sum())

    def jacobian(self, state: FrameState) -> Tensor:
        """Derivative (P, P) of the residual; block diagonal, exact for rotations (left Jacobian's inverse)."""
        jacobian = torch.diag(self.inverse_std)
        for block, now, then in ((Layout.rotation, state.R, self.target.R), (Layout.jaw, state.jaw, self.target.jaw)):
            jacobian[block, block] = self.inverse_std[block, None] * inverse_left_jacobian(log_so3(now @ then.T))
        return jacobian

    def add_to(self, equations: NormalEquations, state: FrameState) -> None:
        """Adds the term."""
        residual, jacobian = self.residual(state), self.jacobian(state)
        equations.H += jacobian.T @ jacobian
        equations.g += jacobian.T @ residual
        equations.cost += 0.5 * float(residual.square().sum())


def inverse_left_jacobian(w: Tensor) -> Tensor:
    """Derivative of log(exp(d) exp(w)) by d at d = 0: (3,) to (3, 3).

    Source: Sola et al., A micro Lie theory, 2018, equation 146.
    """
    angle = float(w.norm())
    k = skew(w)
    identity = torch.eye(3, dtype=w.dtype)
    if angle < 1e-4:
        return identity - 0.5 * k + k @ k / 12
    half = angle / 2
    return identity - 0.5 * k + (1 / angle**2) * (1 - half / torch.tan(torch.tensor(half, dtype=w.dtype))) * (k @ k)


@dataclass(frozen=True, eq=False)
class GazeSymmetryTerm:
    """Both eyes look in the same direction, but for a little vergence.

    Attributes:
        yaw_std: radians between the two yaws.
        pitch_std: radians between the two pitches.
    """

    yaw_std: float = 0.06
    pitch_std: float = 0.02

    def _rows(self) -> Tensor:
        rows = torch.zeros(2, 4, dtype=torch.float64)
        rows[0, 0], rows[0, 2] = 1 / self.yaw_std, -1 / self.yaw_std
        rows[1, 1], rows[1, 3] = 1 / self.pitch_std, -1 / self.pitch_std
        return rows

    def residual(self, state: FrameState) -> Tensor:
        """Whitened (2,) differences of yaw and pitch."""
        return self._rows() @ state.eyes.reshape(4)

    def cost(self, state: FrameState) -> float:
        """Half the sum of squares."""
        return 0.5 * float(self.residual(state).square().sum())

    def add_to(self, equations: NormalEquations, state: FrameState) -> None:
        """Adds the term."""
        rows, residual = self._rows(), self.residual(state)
        block = Layout.eyes
        equations.H[block, block] += rows.T @ rows
        equations.g[block] += rows.T @ residual
        equations.cost += 0.5 * float(residual.square().sum())
