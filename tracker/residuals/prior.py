"""Priors and temporal terms: residuals that are linear in the frame's unknowns.

Each is a target and a standard deviation for every unknown: priors pull to the model's rest, temporal terms to the
prediction from the frames before. Rotations are compared by the logarithm of their difference.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.kernels import frame as kernels
from tracker.kernels.rotations import differences
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
        return kernels.gaussian_cost(state.arrays, self.target.arrays, self.inverse_std.numpy())

    def jacobian(self, state: FrameState) -> Tensor:
        """Derivative (P, P) of the residual; block diagonal, exact for rotations (left Jacobian's inverse)."""
        _, rotation, jaw = self._differences(state)
        jacobian = torch.diag(self.inverse_std)
        jacobian[Layout.rotation, Layout.rotation] = torch.from_numpy(rotation)
        jacobian[Layout.jaw, Layout.jaw] = torch.from_numpy(jaw)
        return jacobian

    def add_to(self, equations: NormalEquations, state: FrameState) -> None:
        """Adds the term."""
        H, g = equations.H.numpy(), equations.g.numpy()
        equations.cost += kernels.add_gaussian(state.arrays, self.target.arrays, self.inverse_std.numpy(), H, g)

    def _differences(self, state: FrameState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        residual, rotation, jaw = differences(state.arrays, self.target.arrays, self.inverse_std.numpy())
        return residual, rotation, jaw


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
        return kernels.gaze_cost(state.arrays[3], (self.yaw_std, self.pitch_std))

    def add_to(self, equations: NormalEquations, state: FrameState) -> None:
        """Adds the term."""
        stds = (self.yaw_std, self.pitch_std)
        equations.cost += kernels.add_gaze(state.arrays[3], stds, equations.H.numpy(), equations.g.numpy())
