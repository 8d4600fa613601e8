"""Landmark reprojection and closure.

Reprojection: the distance of the fitted and the detected point, in units of the detector's noise. Closure: the same
for the vector between an upper and a lower lid or lip point, because closure must not be traded for position (the
eye-closure loss of Feng et al., DECA, SIGGRAPH 2021, section 4.2, equation 8).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.kernels import landmarks as kernels
from tracker.kernels.energy import LandmarkArrays
from tracker.normal_equations import NormalEquations, squared
from tracker.points import PointSet
from tracker.residuals.projection import (
    linearise_projection,
    linearised_arrays,
    point_arrays,
    project_state,
    projected_array,
)
from tracker.robust import Kernel, huber
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class LandmarkTerm:
    """Landmarks of one frame.

    Attributes:
        points: N model points, landmark offsets applied.
        targets_px: (N, 2) detected points.
        sigma_px: standard deviation of a detected point.
        confidence: (N,) weight of each point, 0 leaves it out.
        pairs: (K, 2) ids into the points: upper and lower of each closure pair.
        pair_sigma_px: standard deviation of the vector between the points of a pair.
        pair_confidence: (K,) weight of each pair.
        kernel: robust kernel of the reprojection.
    """

    points: PointSet
    targets_px: Tensor
    sigma_px: float
    confidence: Tensor
    pairs: Tensor
    pair_sigma_px: float
    pair_confidence: Tensor
    kernel: Kernel = huber

    def residuals(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened reprojection (N, 2) and closure (K, 2) residuals of projected points."""
        error = pixels - self.targets_px
        closure = error[self.pairs[:, 0]] - error[self.pairs[:, 1]]
        return error / self.sigma_px, closure / self.pair_sigma_px

    def cost(self, state: FrameState, intrinsics: Intrinsics) -> float:
        """Half the robust, confidence-weighted sum of squares."""
        if not self.compiled:
            return self.cost_torch(state, intrinsics)
        targets, confidence, pairs, pair_confidence, sigmas = self._arrays
        pixels = projected_array(self.points, state, intrinsics)
        return kernels.cost(pixels, targets, confidence, pairs, pair_confidence, sigmas)

    def cost_torch(self, state: FrameState, intrinsics: Intrinsics) -> float:
        """`cost` on any device."""
        error, closure = self.residuals(project_state(self.points, state, intrinsics))
        rho = self.kernel(error.square().sum(1))[0] * self.confidence
        rho_pairs = self.kernel(closure.square().sum(1))[0] * self.pair_confidence
        return 0.5 * float(rho.sum() + rho_pairs.sum())

    def add_to(self, equations: NormalEquations, state: FrameState, intrinsics: Intrinsics) -> None:
        """Linearises both residuals and adds them."""
        if not self.compiled:
            self.add_to_torch(equations, state, intrinsics)
            return
        room = (len(self.points) + len(self.pairs), len(equations.g))
        pixels, rows, _ = linearised_arrays(self.points, state, intrinsics, None, room)
        targets, confidence, pairs, pair_confidence, sigmas = self._arrays
        gradient = equations.g.numpy()
        equations.cost += kernels.rows(pixels, rows, targets, confidence, pairs, pair_confidence, sigmas, gradient)
        equations.H += squared(torch.from_numpy(rows.reshape(-1, rows.shape[2])))

    def add_to_torch(self, equations: NormalEquations, state: FrameState, intrinsics: Intrinsics) -> None:
        """`add_to` on any device."""
        projected = linearise_projection(self.points, state, intrinsics)
        error, closure = self.residuals(projected.pixels)
        upper, lower = self.pairs[:, 0], self.pairs[:, 1]
        jacobian = projected.jacobian
        between = (jacobian[upper] - jacobian[lower]) / self.pair_sigma_px
        for residual, rows, confidence in (
            (error, jacobian / self.sigma_px, self.confidence),
            (closure, between, self.pair_confidence),
        ):
            rho, weight = self.kernel(residual.square().sum(1))
            equations.add(residual, rows, weight * confidence, rho * confidence)

    def arrays(self, intrinsics: Intrinsics) -> LandmarkArrays:
        """The term as `tracker.kernels.energy` takes it."""
        return (*point_arrays(self.points, intrinsics), *self._arrays)

    @property
    def compiled(self) -> bool:
        """Whether the kernels say the same: Huber's, on the CPU."""
        return self.kernel is huber and self.points.rest.device.type == "cpu"

    @cached_property
    def _arrays(self) -> tuple[Any, ...]:
        """Targets, confidence, pairs, their confidence and both sigmas as the kernels take them."""
        parts = (self.targets_px, self.confidence, self.pairs, self.pair_confidence)
        return (*(np.ascontiguousarray(part.numpy()) for part in parts), (self.sigma_px, self.pair_sigma_px))
