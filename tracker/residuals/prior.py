"""Priors and temporal terms: residuals that are linear in the frame's unknowns.

Each is a target and a standard deviation for every unknown: priors pull to the model's rest, temporal terms to the
prediction from the frames before. Rotations are compared by the logarithm of their difference.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.kernels import rotations as kernels
from tracker.normal_equations import NormalEquations
from tracker.state import FrameState, Layout


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
        """Whitened difference (P,): the step in `Layout` order that leads from the target to the state."""
        return torch.from_numpy(self._differences(state)[0])

    def cost(self, state: FrameState) -> float:
        """Half the sum of squares."""
        residual = self._differences(state)[0]
        return 0.5 * float(residual @ residual)

    def jacobian(self, state: FrameState) -> Tensor:
        """Derivative (P, P) of the residual; block diagonal, exact for rotations (left Jacobian's inverse)."""
        _, rotation, jaw = self._differences(state)
        jacobian = torch.diag(self.inverse_std)
        jacobian[Layout.rotation, Layout.rotation] = torch.from_numpy(rotation)
        jacobian[Layout.jaw, Layout.jaw] = torch.from_numpy(jaw)
        return jacobian

    def add_to(self, equations: NormalEquations, state: FrameState) -> None:
        """Adds the term."""
        residual, rotation, jaw = self._differences(state)
        inverse_std = self.inverse_std.numpy()
        H, g = np.diag(inverse_std**2), inverse_std * residual
        for block, rows in ((Layout.rotation, rotation), (Layout.jaw, jaw)):
            H[block, block] = rows.T @ rows
            g[block] = rows.T @ residual[block]
        equations.H += torch.from_numpy(H)
        equations.g += torch.from_numpy(g)
        equations.cost += 0.5 * float(residual @ residual)

    def _differences(self, state: FrameState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        residual, rotation, jaw = kernels.differences(_arrays(state), _arrays(self.target), self.inverse_std.numpy())
        return residual, rotation, jaw


def _arrays(state: FrameState) -> tuple[np.ndarray, ...]:
    parts = (state.R, state.t, state.jaw, state.eyes, state.eyelids, state.expression)
    return tuple(np.ascontiguousarray(part.numpy()) for part in parts)


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
