"""The photometric residual of several frames at once, their common appearance eliminated.

A surface sample j shows the same contrast m_j in every frame f, so the residual is C_f(p_fj) - m_j with weights w_fj.
For given geometry the best m_j is the weighted mean over the frames; put in, geometry alone is left (variable
projection). Solving for geometry and appearance in turn reaches the same place, but slowly: an appearance unwrapped
with a wrong geometry pulls towards it.

All frames show one surface, so C_f has one slope there, D_j, whatever frame it is seen in; only how a step along the
surface moves the pixel, A_fj, differs. Each picture's own slope would carry its noise into the matrix: where samples
slide along the surface in all frames alike, no frame contradicts another and the terms below cancel, except for the
noise of the slopes, which then holds the samples where they began (errors in variables). So D_j is the weighted mean of
the frames' slopes along the surface, and J_fj = D_j A_fj^-1 times the pixel's derivative by all unknowns. With it the
Gauss-Newton matrix is

    H = sum_fj w_fj J_fj^T J_fj - sum_j a_j^T a_j / W_j,    a_j = sum_f w_fj J_fj,    W_j = sum_f w_fj

and the gradient sum_fj w_fj J_fj^T (C_f(p_fj) - m_j), which is that of the cost but for the noise of the slopes.
Sources: Golub and Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate, 1973; Kaufman's simplification, 1975. Measured: docs/results.md, "One slope for all frames".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.bundle_equations import FrameRows
from tracker.camera import Intrinsics
from tracker.image import ImageLevel
from tracker.kernels import contrast as kernels
from tracker.local_contrast import WINDOW, local_contrast
from tracker.normal_equations import squared
from tracker.points import PointSet, PointTemplate
from tracker.residuals.projection import ShapeMotion, along_dolly, linearise_projection, project_state
from tracker.state import FrameState
from tracker.threads import on_threads


@dataclass(frozen=True, eq=False)
class ColourView:
    """What one frame sees.

    Attributes:
        ids: (M,) samples seen.
        level: the picture.
        axes: (M, 2, 2) discs of the local mean, see `tracker.local_contrast`; held during a solve.
        weight: (M,) inverse variance of a channel times confidence and robust weight, held during a solve.
        gain: (M, 3) what the frame's light makes of the common contrast, held during a solve; None under steady light.
            Contrast is divided by it, and the weight is that of the quotient.
    """

    ids: Tensor
    level: ImageLevel
    axes: Tensor
    weight: Tensor
    gain: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Look:
    """What one view shows at its M samples.

    Attributes:
        values: (M, 3) contrast, float64.
        slopes: (M, 3, 2) its change a metre along the sample's tangents.
        by_tangent: (M, 2, 2) derivative of the pixel by a metre along them.
        jacobian: (M, 2, P + S + 3) derivative of the pixel by all unknowns.
    """

    values: Tensor
    slopes: np.ndarray
    by_tangent: np.ndarray
    jacobian: np.ndarray


@dataclass(frozen=True, eq=False)
class SharedColours:
    """Pictures of several frames at the same surface samples.

    Attributes:
        samples: N samples before identity.
        tangents: (N, 3, 2) two unit directions of the surface at each sample, head at rest.
        views: one a frame.
    """

    samples: PointTemplate
    tangents: Tensor
    views: tuple[ColourView, ...]

    def cost(self, shape: Tensor, frames: Sequence[FrameState], intrinsics: Intrinsics) -> float:
        """Half the weighted sum of squares around each sample's own mean."""
        surface = self.samples.with_shape(shape)
        values = []
        for view, frame in zip(self.views, frames, strict=True):
            pixels = project_state(surface.subset(view.ids), frame, intrinsics.scaled(view.level.scale))
            contrast = local_contrast(view.level, pixels, view.axes)
            values.append(contrast if view.gain is None else contrast / view.gain)
        return self._cost(values, self._means(values))

    def add_to(
        self, rows: Sequence[FrameRows], shape: Tensor, frames: Sequence[FrameState], intrinsics: Intrinsics
    ) -> np.ndarray:
        """Adds each frame's own share to its blocks.

        Args:
            rows: blocks of the frames.
            shape: (S,).
            frames: states.
            intrinsics: full picture.

        Returns:
            (2 N, S + 3 + F P) rows whose product with themselves is the second sum of H, unknowns in the order of
            `[shared, frame 0, frame 1, ...]`; it is to be taken away from the matrix.
        """
        surface = self.samples.with_shape(shape)
        size, common = len(rows[0].own.g), len(shape) + 3
        between = np.zeros((len(surface), 2, common + size * len(frames)), np.float32)
        seen = on_threads(lambda pair: self._look(surface, *pair, intrinsics), zip(self.views, frames, strict=True))
        means, total = self._means([look.values for look in seen]), self._total()
        slopes = self._slopes(seen)
        inverse = torch.where(total > 0, total.clamp_min(1e-12).rsqrt(), 0.0).float()
        waiting = dict(enumerate(seen))
        del seen

        def own_blocks(k: int) -> tuple[Tensor, Tensor, float, np.ndarray]:
            """One frame's matrix, gradient, cost and rows by shared unknowns; fills its columns of `between`."""
            # Its Jacobian is as large as its columns of `between`, and goes as they come.
            view, look = self.views[k], waiting.pop(k)
            root, residual = view.weight.sqrt(), look.values - means[view.ids]
            lines, gradient = look.jacobian, np.zeros(look.jacobian.shape[2])
            whitened = (residual * root[:, None]).numpy()
            kernels.shared_rows(lines, look.by_tangent, slopes[view.ids.numpy()], root.numpy(), whitened, gradient)
            ids, spread = view.ids.numpy(), lines * (root * inverse[view.ids]).float().numpy()[:, None, None]
            between[ids, :, common + k * size : common + (k + 1) * size] = spread[..., :size]
            own = squared(torch.from_numpy(lines.reshape(-1, lines.shape[2])).double())
            return own, torch.from_numpy(gradient), 0.5 * float(np.square(whitened).sum()), spread[..., size:].copy()

        blocks = on_threads(own_blocks, range(len(frames)))
        for view, row, (own, gradient, cost, shared) in zip(self.views, rows, blocks, strict=True):
            row.add_matrix(own, gradient, cost)
            between[view.ids.numpy(), :, :common] += shared
        return between.reshape(-1, between.shape[2])

    def _look(self, surface: PointSet, view: ColourView, frame: FrameState, intrinsics: Intrinsics) -> _Look:
        """What a view shows at its samples in a state."""
        motion = ShapeMotion(self.samples.shape_basis[view.ids], self.samples.pivot_basis)
        scale = view.level.scale
        projected = linearise_projection(surface.subset(view.ids), frame, intrinsics.scaled(scale), motion)
        # The principal point counts full pixels; the level's are smaller in number.
        projected.jacobian[..., -2:] *= scale
        along_dolly(projected.jacobian, frame)
        by_tangent = (projected.by_rest @ self.tangents[view.ids].to(projected.by_rest)).numpy()
        count = len(view.ids)
        values, slopes = np.empty((count, 3)), np.empty((count, 3, 2), np.float32)
        picture, pixels = view.level.pixels.numpy(), projected.pixels.numpy()
        kernels.surface_slopes(picture, pixels, view.axes.numpy(), WINDOW, by_tangent, values, slopes)
        if view.gain is not None:
            values /= view.gain.numpy()
            slopes /= view.gain[..., None].numpy()
        return _Look(torch.from_numpy(values), slopes, by_tangent, projected.jacobian.numpy())

    def _slopes(self, seen: Sequence[_Look]) -> np.ndarray:
        """Weighted mean (N, 3, 2) over the frames of the contrast's slope along the surface, a metre."""
        total = torch.zeros(len(self.samples.faces), 3, 2, dtype=torch.float64)
        for view, look in zip(self.views, seen, strict=True):
            total[view.ids] += view.weight[:, None, None].double() * torch.from_numpy(look.slopes).double()
        return (total / self._total().clamp_min(1e-12)[:, None, None]).float().numpy()

    def _total(self) -> Tensor:
        """Total weight (N,) of each sample, float64."""
        total = torch.zeros(len(self.samples.faces), dtype=torch.float64)
        for view in self.views:
            total[view.ids] += view.weight.double()
        return total

    def _means(self, values: Sequence[Tensor]) -> Tensor:
        """Weighted mean (N, 3) of each sample over the frames."""
        total = torch.zeros(len(self.samples.faces), 3, dtype=torch.float64)
        for view, value in zip(self.views, values, strict=True):
            total[view.ids] += view.weight[:, None].double() * value.double()
        return total / self._total().clamp_min(1e-12)[:, None]

    def _cost(self, values: Sequence[Tensor], means: Tensor) -> float:
        cost = 0.0
        for view, value in zip(self.views, values, strict=True):
            cost += 0.5 * float((view.weight[:, None] * (value - means[view.ids]).square()).sum())
        return cost
