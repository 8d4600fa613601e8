"""Surface points of a head model and their analytic derivatives.

The solver never touches the whole mesh: landmarks and photometric samples are points with their own template, bases
and skinning weights, interpolated once. Skinning with interpolated weights differs from interpolating skinned corners
only by the spread of the weights inside one triangle (tests/test_points.py measures it).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tracker.head.model import JAW, LEFT_EYE, RIGHT_EYE, HeadModel, embed
from tracker.rotations import skew
from tracker.state import FrameState, eye_axes, eye_rotations


@dataclass(frozen=True, eq=False)
class PointSet:
    """N surface points of one subject (its identity already applied).

    Attributes:
        rest: (N, 3) metres, head space, without expression.
        expression_basis: (N, 3, E).
        eyelid_basis: (N, 3, 2).
        weights: (N, 3) skinning weights of the jaw, the left and the right eyeball.
        pivots: (3, 3) jaw, left eye, right eye joint, without expression.
        pivot_expression: (3, 3, E) derivative of the joints by the expression (FLAME regresses joints from it too).
        correctives: (N, 3, 27) pose correctives of those joints, or None.
    """

    rest: Tensor
    expression_basis: Tensor
    eyelid_basis: Tensor
    weights: Tensor
    pivots: Tensor
    pivot_expression: Tensor
    correctives: Tensor | None

    def __len__(self) -> int:
        return len(self.rest)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """rest, bases, weights, correctives, pivots and their motion as `tracker.kernels.points` takes them."""
        rest = self.rest.numpy()
        correctives = np.empty((0, 3, 27), rest.dtype) if self.correctives is None else self.correctives.numpy()
        parts = (self.expression_basis, self.eyelid_basis, self.weights)
        joints = (self.pivots.numpy(), self.pivot_expression.numpy())
        return (rest, *(part.numpy() for part in parts), correctives, *joints)

    def subset(self, keep: Tensor) -> "PointSet":
        """The points with the given ids or mask."""
        return PointSet(
            self.rest[keep],
            self.expression_basis[keep],
            self.eyelid_basis[keep],
            self.weights[keep],
            self.pivots,
            self.pivot_expression,
            None if self.correctives is None else self.correctives[keep],
        )

    def single(self) -> "PointSet":
        """The points in float32."""
        return PointSet(
            self.rest.float(),
            self.expression_basis.float(),
            self.eyelid_basis.float(),
            self.weights.float(),
            self.pivots.float(),
            self.pivot_expression.float(),
            None if self.correctives is None else self.correctives.float(),
        )

    def moved(self, offsets_m: Tensor) -> "PointSet":
        """The points shifted by (N, 3) metres at rest."""
        return replace(self, rest=self.rest + offsets_m.to(self.rest.dtype))

    def positions(self, state: FrameState) -> Tensor:
        """Head-space positions (N, 3) of the points in a state."""
        return self._skin(state).positions

    def linearise(self, state: FrameState) -> tuple[Tensor, Tensor]:
        """Head-space positions and their derivative by the inner unknowns.

        Args:
            state: where to linearise.

        Returns:
            positions (N, 3) and Jacobian (N, 3, 9 + E) in the order of `Layout.inner`.
        """
        skin = self._skin(state)
        count, expression_count = len(self), self.expression_basis.shape[2]
        jacobian = self.rest.new_empty(count, 3, 9 + expression_count)
        jaw, eyes = skin.rotations[0], skin.rotations[1:]
        arm = (skin.unposed - skin.pivots[0]) @ jaw.T
        jacobian[:, :, 0:3] = -self.weights[:, 0, None, None] * skew(arm)
        axes = eye_axes(state.eyes).to(self.rest)
        for side in range(2):
            arm = (skin.unposed - skin.pivots[1 + side]) @ eyes[side].T
            moved = torch.linalg.cross(axes[side][None], arm[:, None], dim=-1)
            columns = slice(3 + 2 * side, 5 + 2 * side)
            jacobian[:, :, columns] = (self.weights[:, 1 + side, None, None] * moved).transpose(1, 2)
        if self.correctives is not None:
            parts = [_rotation_derivative(jaw), _axis_derivative(axes[0], eyes[0]), _axis_derivative(axes[1], eyes[1])]
            jacobian[:, :, 0:7] += skin.transform @ (self.correctives @ torch.block_diag(*parts))
        jacobian[:, :, 7:9] = self.eyelid_basis
        jacobian[:, :, 9:] = self._through_skin(skin, self.expression_basis, self.pivot_expression)
        return skin.positions, jacobian

    def shape_jacobian(self, state: FrameState, shape_basis: Tensor, pivot_basis: Tensor) -> Tensor:
        """Derivative of the head-space positions by the shape coefficients.

        Args:
            state: where to linearise.
            shape_basis: (N, 3, S) motion of the points at rest.
            pivot_basis: (3, 3, S) motion of the joints they turn about.

        Returns:
            (N, 3, S).
        """
        return self._through_skin(self._skin(state), shape_basis, pivot_basis)

    def transforms(self, state: FrameState) -> Tensor:
        """Derivative (N, 3, 3) of each head-space position by the point's own rest position."""
        return self._skin(state).transform

    def _through_skin(self, skin: "_Skin", basis: Tensor, pivot_basis: Tensor) -> Tensor:
        """A basis at rest, with the joints' own motion, carried through the skinning: (N, 3, K)."""
        pivots = torch.einsum("jab,jbk->jak", skin.deltas, pivot_basis)
        return skin.transform @ basis - torch.einsum("nj,jak->nak", self.weights, pivots)

    def _skin(self, state: FrameState) -> "_Skin":
        like = self.rest
        expression = state.expression.to(like)
        rotations = torch.cat([state.jaw.to(like)[None], eye_rotations(state.eyes).to(like)])
        identity = torch.eye(3, dtype=like.dtype, device=like.device)
        deltas = rotations - identity
        unposed = like + self.expression_basis @ expression
        pivots = self.pivots + self.pivot_expression @ expression
        if self.correctives is not None:
            unposed = unposed + self.correctives @ deltas.reshape(27)
        turned = torch.einsum("jab,njb->nja", deltas, unposed[:, None] - pivots[None])
        positions = (
            unposed + torch.einsum("nj,nja->na", self.weights, turned) + self.eyelid_basis @ state.eyelids.to(like)
        )
        transform = identity + torch.einsum("nj,jab->nab", self.weights, deltas)
        return _Skin(positions, unposed, transform, rotations, deltas, pivots)


@dataclass(frozen=True, eq=False)
class _Skin:
    """One evaluation of the skinning: positions and unposed (N, 3), transform (N, 3, 3), rotations, deltas, pivots."""

    positions: Tensor
    unposed: Tensor
    transform: Tensor
    rotations: Tensor
    deltas: Tensor
    pivots: Tensor


def _rotation_derivative(rotation: Tensor) -> Tensor:
    """Derivative of vec(R) by w for left increments: (9, 3), rows in row-major order of R."""
    units = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    return torch.stack([(skew(unit) @ rotation).reshape(9) for unit in units], 1)


def _axis_derivative(axes: Tensor, rotation: Tensor) -> Tensor:
    """Derivative of vec(R) by (yaw, pitch): (9, 2)."""
    return torch.stack([(skew(axis) @ rotation).reshape(9) for axis in axes], 1)


@dataclass(frozen=True, eq=False)
class PointTemplate:
    """Surface points of a head model before an identity is chosen.

    Attributes:
        faces: (N,) triangle ids.
        bary: (N, 3) corner weights.
        points: the mean head's points.
        shape_basis: (N, 3, S).
        pivot_basis: (3, 3, S) derivative of the jaw and eye joints.
    """

    faces: Tensor
    bary: Tensor
    points: PointSet
    shape_basis: Tensor
    pivot_basis: Tensor

    def with_shape(self, shape: Tensor) -> PointSet:
        """The points of a subject: (S,) shape coefficients in standard deviations."""
        shape = shape.to(self.shape_basis)
        return replace(
            self.points,
            rest=self.points.rest + self.shape_basis @ shape,
            pivots=self.points.pivots + self.pivot_basis @ shape,
        )

    def subset(self, keep: Tensor) -> "PointTemplate":
        """The points with the given ids."""
        points = self.points.subset(keep)
        return PointTemplate(self.faces[keep], self.bary[keep], points, self.shape_basis[keep], self.pivot_basis)


def vertex_points(model: HeadModel, shape: Tensor) -> PointSet:
    """All vertices of the head with an identity (S,), as points in the identity's dtype."""
    rest, correctives = model.rest_vertices(shape), _inner_correctives(model)
    joints = _joints_in(model, rest.dtype)
    return PointSet(
        rest=rest.contiguous(),
        expression_basis=model.expression_basis.to(rest).contiguous(),
        eyelid_basis=model.eyelid_basis.to(rest).contiguous(),
        weights=model.skin_weights[:, JAW:].to(rest).contiguous(),
        pivots=joints(rest),
        pivot_expression=joints(model.expression_basis),
        correctives=None if correctives is None else correctives.to(rest).contiguous(),
    )


def _inner_correctives(model: HeadModel) -> Tensor | None:
    """Pose correctives (V, 3, 27) of jaw and eyes; columns of the neck are left out: the tracker does not turn it."""
    return None if model.pose_correctives is None else model.pose_correctives[:, :, 9:]


def _joints_in(model: HeadModel, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """What regresses (V, ...) values of the vertices at jaw and eyes, (3, ...), in a dtype."""
    regressor = model.joint_regressor[[JAW, LEFT_EYE, RIGHT_EYE]]
    # Bases are large: only the rows that count are converted.
    carrying = regressor.any(0).nonzero()[:, 0]
    regressor = regressor[:, carrying].to(dtype)
    return lambda values: torch.einsum("jv,v...->j...", regressor, values[carrying].to(dtype)).contiguous()


def point_template(model: HeadModel, faces: Tensor, bary: Tensor, dtype: torch.dtype = torch.float64) -> PointTemplate:
    """Interpolates a head model at surface points.

    Args:
        model: the head model.
        faces: (N,) triangle ids.
        bary: (N, 3) corner weights.
        dtype: of all arrays.

    Returns:
        The points with their bases.
    """
    # Bases are large: only the rows that count are converted.
    near, corners = torch.unique(model.triangles[faces], return_inverse=True)
    every = torch.arange(len(faces))

    def at(values: Tensor) -> Tensor:
        return embed(every, bary, corners, values[near].to(dtype)).contiguous()

    joints, correctives = _joints_in(model, dtype), _inner_correctives(model)
    weights = at(model.skin_weights)
    points = PointSet(
        rest=at(model.template),
        expression_basis=at(model.expression_basis),
        eyelid_basis=at(model.eyelid_basis),
        weights=weights[:, JAW:].contiguous(),
        pivots=joints(model.template),
        pivot_expression=joints(model.expression_basis),
        correctives=None if correctives is None else at(correctives),
    )
    return PointTemplate(faces, bary, points, at(model.shape_basis), joints(model.shape_basis))
