"""Distance between the head's outline and the person's, along the outline's normal in the picture."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.bundle_equations import FrameRows
from tracker.camera import Intrinsics
from tracker.points import PointTemplate
from tracker.residuals.projection import ShapeMotion, along_dolly, linearise_projection, project_state
from tracker.robust import geman_mcclure
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class ContourTerm:
    """One frame's outline; which points it consists of is held during a solve.

    Attributes:
        points: K surface points on the outline, float64.
        targets_px: (K, 2) where the person's outline is.
        normals_px: (K, 2) unit normals of the outline in the picture.
        sigma_px: standard deviation of the distance.
        weight: share that each point counts, below one as neighbours err together.
    """

    points: PointTemplate
    targets_px: Tensor
    normals_px: Tensor
    sigma_px: float
    weight: float

    def distance_px(self, shape: Tensor, state: FrameState, intrinsics: Intrinsics) -> Tensor:
        """Signed distance (K,) of the head's outline beyond the person's."""
        pixels = project_state(self.points.with_shape(shape), state, intrinsics)
        return ((pixels - self.targets_px) * self.normals_px).sum(1)

    def cost(self, shape: Tensor, state: FrameState, intrinsics: Intrinsics) -> float:
        """Half the robust, weighted sum of squares."""
        distance = self.distance_px(shape, state, intrinsics)
        return 0.5 * self.weight * float(geman_mcclure((distance / self.sigma_px).square())[0].sum())

    def add_to(self, rows: FrameRows, shape: Tensor, state: FrameState, intrinsics: Intrinsics) -> None:
        """Adds the term's share of the frame's blocks."""
        motion = ShapeMotion(self.points.shape_basis, self.points.pivot_basis)
        projected = linearise_projection(self.points.with_shape(shape), state, intrinsics, motion)
        jacobian = along_dolly(projected.jacobian, state)
        distance = ((projected.pixels - self.targets_px) * self.normals_px).sum(1)
        rho, weight = geman_mcclure((distance / self.sigma_px).square())
        root = (self.weight * weight).sqrt() / self.sigma_px
        lines = torch.einsum("kdc,kd->kc", jacobian, self.normals_px) * root[:, None]
        rows.add(lines, lines.T @ (distance * root), 0.5 * self.weight * float(rho.sum()))
