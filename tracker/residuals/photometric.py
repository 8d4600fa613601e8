"""Photometric residual on fixed surface samples: image at the projected sample minus shaded albedo.

No rasterisation: visibility and normals (head space) are tested once a frame and level. The Jacobian is
image gradient x projection x skinning x blendshapes, plus the change of shading as the head turns in the light.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.image import ImageLevel, sample
from tracker.kernels import contrast as kernels
from tracker.kernels.energy import SampleArrays
from tracker.local_contrast import PLAIN, WINDOW, local_contrast, local_contrast_torch
from tracker.normal_equations import NormalEquations, squared
from tracker.points import PointSet
from tracker.residuals.projection import linearise_projection, point_arrays, project_state
from tracker.robust import Kernel, geman_mcclure
from tracker.shading import sh_basis, sh_basis_gradient
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class LinearColours:
    """A linearised colour residual.

    Attributes:
        residual: (N, 3) picture minus model.
        jacobian: (N, 3, P) by the frame's unknowns.
    """

    residual: Tensor
    jacobian: Tensor


@dataclass(frozen=True, eq=False)
class PhotometricTerm:
    """Visible samples of one frame at one pyramid level.

    Attributes:
        points: N visible samples.
        normals: (N, 3) head space, unit length, held during a solve.
        albedo: (N, 3) in the picture's units: sRGB albedo, or contrast.
        level: the picture.
        sigma: standard deviation of a colour residual.
        confidence: (N,) weight of each sample.
        light: (9, 3) light in camera axes that shades the albedo, or None for a picture without shading (contrast).
        axes: (N, 2, 2) discs of the local mean, see `tracker.local_contrast`; None for the plain picture.
        kernel: robust kernel over the three channels of a sample.
    """

    points: PointSet
    normals: Tensor
    albedo: Tensor
    level: ImageLevel
    sigma: float
    confidence: Tensor
    light: Tensor | None = None
    axes: Tensor | None = None
    kernel: Kernel = geman_mcclure

    def shaded(self, state: FrameState) -> Tensor:
        """Colours (N, 3) that the model predicts."""
        if self.light is None:
            return self.albedo
        normals_cam = self.normals @ state.R.to(self.normals).T
        return self.albedo * (sh_basis(normals_cam) @ self.light.to(self.normals))

    def residual(self, state: FrameState, intrinsics: Intrinsics) -> Tensor:
        """Unwhitened residual (N, 3): picture minus model."""
        pixels = project_state(self.points, state, intrinsics.scaled(self.level.scale))
        return self._sampled(pixels)[0] - self.shaded(state)

    def _sampled(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N, 3) and gradient (N, 3, 2) of the picture, or of its local contrast."""
        if self.axes is None:
            return sample(self.level.pixels, pixels)
        return local_contrast_torch(self.level, pixels, self.axes)

    def _window(self) -> tuple[np.ndarray, np.ndarray]:
        """Discs and places of the local mean, as the kernels take them."""
        if self.axes is None:
            return np.zeros((len(self.points), 2, 2), self.albedo.numpy().dtype), PLAIN
        return self.axes.numpy(), WINDOW

    def cost(self, state: FrameState, intrinsics: Intrinsics) -> float:
        """Half the robust, confidence-weighted sum of squares."""
        if not self.compiled:
            squared = (self.residual(state, intrinsics) / self.sigma).square().mean(1)
            return 0.5 * float((self.kernel(squared)[0] * self.confidence).sum())
        pixels = project_state(self.points, state, intrinsics.scaled(self.level.scale))
        return kernels.cost(
            self.level.pixels.numpy(),
            pixels.numpy(),
            *self._window(),
            self.albedo.numpy(),
            self.confidence.numpy(),
            self.sigma,
        )

    def linearise(self, state: FrameState, intrinsics: Intrinsics) -> "LinearColours":
        """Residual and Jacobian, unwhitened."""
        projected = linearise_projection(self.points, state, intrinsics.scaled(self.level.scale))
        colours, gradient = self._sampled(projected.pixels)
        jacobian = gradient @ projected.jacobian
        if self.light is not None:
            normals_cam = self.normals @ state.R.to(self.normals).T
            light = self.light.to(self.normals)
            by_normal = torch.einsum("nkd,kc->ncd", sh_basis_gradient(normals_cam), light) * self.albedo[..., None]
            # d(R n) = w x (R n), so the shading changes by w . (R n x dshade/dn).
            turned = torch.linalg.cross(normals_cam[:, None].expand_as(by_normal), by_normal, dim=-1)
            jacobian[:, :, 0:3] -= turned
        return LinearColours(colours - self.shaded(state), jacobian)

    def rows(self, state: FrameState, intrinsics: Intrinsics) -> tuple[Tensor, Tensor, float]:
        """The term's share of the normal equations, as rows whose product with themselves is its matrix.

        Returns:
            rows (K, P), gradient (P,) float64 and cost.
        """
        if not self.compiled:
            linear = self.linearise(state, intrinsics)
            rho, weight = self.robust_scale(linear.residual)
            root = (weight * self.inverse_variance).sqrt()[:, None]
            rows = (linear.jacobian * root[..., None]).flatten(0, 1)
            right = (linear.residual * root).reshape(-1)
            return rows, rows.double().T @ right.double(), 0.5 * float(rho.sum())
        projected = linearise_projection(self.points, state, intrinsics.scaled(self.level.scale))
        jacobian = projected.jacobian.numpy()
        gradient = np.zeros(jacobian.shape[2])
        cost = kernels.rows(
            self.level.pixels.numpy(),
            projected.pixels.numpy(),
            jacobian,
            *self._window(),
            self.albedo.numpy(),
            self.confidence.numpy(),
            self.sigma,
            gradient,
        )
        return projected.jacobian.flatten(0, 1), torch.from_numpy(gradient), cost

    def arrays(self, intrinsics: Intrinsics) -> SampleArrays:
        """The term as `tracker.kernels.energy` takes it."""
        return (
            *point_arrays(self.points, intrinsics.scaled(self.level.scale)),
            self.level.pixels.numpy(),
            *self._window(),
            self.albedo.numpy(),
            self.confidence.numpy(),
            self.sigma,
        )

    @property
    def compiled(self) -> bool:
        """Whether the kernels say the same: contrast (no light) with its robust kernel, on the CPU."""
        return self.light is None and self.kernel is geman_mcclure and self.albedo.device.type == "cpu"

    def robust_scale(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Robust cost and weight (N,) of unwhitened residuals (N, 3), confidence included."""
        rho, weight = self.kernel((residual / self.sigma).square().mean(1))
        return rho * self.confidence, weight * self.confidence

    def add_to(self, equations: NormalEquations, state: FrameState, intrinsics: Intrinsics) -> None:
        """Linearises the residual and adds it; a sample's weight is that of the mean over its channels."""
        rows, gradient, cost = self.rows(state, intrinsics)
        equations.H += squared(rows)
        equations.g += gradient
        equations.cost += cost

    @property
    def inverse_variance(self) -> float:
        """Of one channel: the cost is that of the mean over three."""
        return 1 / (3 * self.sigma**2)

    def correlation(self, state: FrameState, pixels: Tensor) -> float:
        """How alike picture and model are: normalised cross-correlation over all samples and channels, -1 to 1.

        A small residual says nothing where both are flat (a grey wall explains smooth skin); correlation does.

        Args:
            state: of the frame.
            pixels: (N, 2) where the samples lie in that state, pixels of the level.
        """
        if self.axes is None:
            seen = sample(self.level.pixels, pixels)[0]
        else:
            seen = local_contrast(self.level, pixels, self.axes)
        expected = self.shaded(state)
        seen, expected = seen - seen.mean(0), expected - expected.mean(0)
        scale = (seen.square().sum() * expected.square().sum()).sqrt()
        return float((seen * expected).sum() / scale.clamp_min(1e-12))
