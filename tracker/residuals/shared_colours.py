"""The photometric residual of several frames at once, their common appearance eliminated.

A surface sample j shows the same contrast m_j in every frame f, so the residual is C_f(p_fj) - m_j with weights w_fj.
For given geometry the best m_j is the weighted mean over the frames; put in, geometry alone is left (variable
projection). Solving for geometry and appearance in turn reaches the same place, but slowly: an appearance unwrapped
with a wrong geometry pulls towards it.

With J_fj the derivative of C_f(p_fj) by all unknowns, the Gauss-Newton matrix is

    H = sum_fj w_fj J_fj^T J_fj - sum_j a_j^T a_j / W_j,    a_j = sum_f w_fj J_fj,    W_j = sum_f w_fj

and the gradient sum_fj w_fj J_fj^T (C_f(p_fj) - m_j). Source: Golub and Pereyra, The differentiation of pseudo-inverses
and nonlinear least squares problems whose variables separate, 1973; Kaufman's simplification, 1975.
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
    """

    ids: Tensor
    level: ImageLevel
    axes: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class SharedColours:
    """Pictures of several frames at the same surface samples.

    Attributes:
        samples: N samples before identity.
        views: one a frame.
    """

    samples: PointTemplate
    views: tuple[ColourView, ...]

    def cost(self, shape: Tensor, frames: Sequence[FrameState], intrinsics: Intrinsics) -> float:
        """Half the weighted sum of squares around each sample's own mean."""
        surface = self.samples.with_shape(shape)
        values = []
        for view, frame in zip(self.views, frames, strict=True):
            pixels = project_state(surface.subset(view.ids), frame, intrinsics.scaled(view.level.scale))
            values.append(local_contrast(view.level, pixels, view.axes))
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
            (3 N, S + 3 + F P) rows a_j / sqrt(W_j), unknowns in the order of `[shared, frame 0, frame 1, ...]`; their
            product with themselves is to be taken away from the matrix.
        """
        surface = self.samples.with_shape(shape)
        size, common = len(rows[0].own.g), len(shape) + 3
        between = np.zeros((len(surface), 3, common + size * len(frames)), np.float32)
        everything = on_threads(
            lambda pair: self._lines(surface, *pair, intrinsics), zip(self.views, frames, strict=True)
        )
        values = [value for value, _ in everything]
        means = self._means(values)
        total = self._total()
        inverse = torch.where(total > 0, total.clamp_min(1e-12).rsqrt(), 0.0).float()

        def own_blocks(k: int) -> tuple[Tensor, Tensor, float, np.ndarray]:
            """One frame's matrix, gradient, cost and rows by shared unknowns; fills its columns of `between`."""
            view, (value, lines) = self.views[k], everything[k]
            root = view.weight.sqrt()
            ids, spread = view.ids.numpy(), lines * (root * inverse[view.ids]).numpy()[:, None, None]
            between[ids, :, common + k * size : common + (k + 1) * size] = spread[..., :size]
            own = squared(torch.from_numpy(lines.reshape(-1, lines.shape[2])).double())
            residual = ((value - means[view.ids]) * root[:, None]).reshape(-1)
            gradient = torch.from_numpy(lines.reshape(len(residual), -1).T @ residual.float().numpy()).double()
            return own, gradient, 0.5 * float(residual.double().square().sum()), spread[..., size:]

        blocks = on_threads(own_blocks, range(len(frames)))
        for view, row, (own, gradient, cost, shared) in zip(self.views, rows, blocks, strict=True):
            row.add_matrix(own, gradient, cost)
            between[view.ids.numpy(), :, :common] += shared
        return between.reshape(-1, between.shape[2])

    def _lines(
        self, surface: PointSet, view: ColourView, frame: FrameState, intrinsics: Intrinsics
    ) -> tuple[Tensor, np.ndarray]:
        """Contrast (M, 3) of a view's samples and its weighted derivatives (M, 3, P + S + 3)."""
        motion = ShapeMotion(self.samples.shape_basis[view.ids], self.samples.pivot_basis)
        scale = view.level.scale
        projected = linearise_projection(surface.subset(view.ids), frame, intrinsics.scaled(scale), motion)
        # The principal point counts full pixels; the level's are smaller in number.
        projected.jacobian[..., -2:] *= scale
        along_dolly(projected.jacobian, frame)
        count, root = len(view.ids), view.weight.sqrt().numpy()
        value = np.empty((count, 3), np.float32)
        lines = np.empty((count, 3, projected.jacobian.shape[2]), np.float32)
        picture, pixels, jacobian = (x.numpy() for x in (view.level.pixels, projected.pixels, projected.jacobian))
        kernels.channel_rows(picture, pixels, jacobian, view.axes.numpy(), WINDOW, root, value, lines)
        return torch.from_numpy(value), lines

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
