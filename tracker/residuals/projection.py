"""Projected surface points with their derivatives: the part that landmarks and colours share.

On the CPU the compiled kernels of `tracker.kernels` do the work; the functions that end in `_torch` say the same in
torch, run on any device, and are what the kernels are tested against.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics, project, projection_jacobian
from tracker.kernels import points as kernels
from tracker.points import PointSet
from tracker.rotations import skew
from tracker.state import FrameState

# For positions in head space, which do not ask for one.
_NO_CAMERA = Intrinsics(1.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class ShapeMotion:
    """How points move with the identity.

    Attributes:
        basis: (N, 3, S) motion of the points at rest.
        pivots: (3, 3, S) motion of the joints they turn about.
    """

    basis: Tensor
    pivots: Tensor


@dataclass(frozen=True, eq=False)
class ProjectedPoints:
    """Points of one frame, linearised.

    Attributes:
        pixels: (N, 2) continuous pixels.
        jacobian: (N, 2, P) derivative of the pixel by the frame's step; where a `ShapeMotion` was given
            (N, 2, P + S + 3), then also by identity, log focal length and principal point.
        by_rest: (N, 2, 3) derivative of the pixel by the point's own rest position.
    """

    pixels: Tensor
    jacobian: Tensor
    by_rest: Tensor


def project_state(points: PointSet, state: FrameState, intrinsics: Intrinsics) -> Tensor:
    """Pixels (N, 2) of surface points in a state."""
    if points.rest.device.type != "cpu":
        return project_state_torch(points, state, intrinsics)
    return torch.from_numpy(projected_array(points, state, intrinsics))


def projected_array(points: PointSet, state: FrameState, intrinsics: Intrinsics) -> np.ndarray:
    """`project_state` on the CPU."""
    pixels = np.empty((len(points), 2), points.arrays[0].dtype)
    kernels.project(_surface(points, None), _pose(points, state, intrinsics, None), pixels)
    return pixels


def positions_array(points: PointSet, state: FrameState) -> np.ndarray:
    """Head-space positions (N, 3) on the CPU."""
    head = np.empty((len(points), 3), points.arrays[0].dtype)
    kernels.place(_surface(points, None), _pose(points, state, _NO_CAMERA, None), head)
    return head


def linearise_projection(
    points: PointSet, state: FrameState, intrinsics: Intrinsics, shape: ShapeMotion | None = None
) -> ProjectedPoints:
    """Pixels of surface points and their Jacobian in `Layout` order, then the shared unknowns where asked for."""
    if points.rest.device.type != "cpu":
        return linearise_projection_torch(points, state, intrinsics, shape)
    columns = 15 + points.expression_basis.shape[2] + (0 if shape is None else shape.basis.shape[2] + 3)
    pixels, jacobian, by_rest = linearised_arrays(points, state, intrinsics, shape, (len(points), columns))
    return ProjectedPoints(torch.from_numpy(pixels), torch.from_numpy(jacobian), torch.from_numpy(by_rest))


def linearised_arrays(
    points: PointSet, state: FrameState, intrinsics: Intrinsics, shape: ShapeMotion | None, room: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`linearise_projection` on the CPU: pixels, jacobian and by_rest as arrays.

    Args:
        points: N surface points.
        state: where to linearise.
        intrinsics: camera.
        shape: motion with the identity, or None.
        room: groups, at least N, and columns of the Jacobian; what is more than N is left uninitialised.
    """
    dtype, count = points.arrays[0].dtype, len(points)
    pixels, by_rest = np.empty((count, 2), dtype), np.empty((count, 2, 3), dtype)
    jacobian = np.empty((room[0], 2, room[1]), dtype)
    pose = _pose(points, state, intrinsics, shape)
    kernels.linearise(_surface(points, shape), pose, pixels, jacobian, by_rest)
    return pixels, jacobian, by_rest


def project_state_torch(points: PointSet, state: FrameState, intrinsics: Intrinsics) -> Tensor:
    """`project_state` on any device."""
    like = points.rest
    cam = points.positions(state) @ state.R.to(like).T + state.t.to(like)
    return project(cam, intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px)


def linearise_projection_torch(
    points: PointSet, state: FrameState, intrinsics: Intrinsics, shape: ShapeMotion | None = None
) -> ProjectedPoints:
    """`linearise_projection` on any device."""
    like = points.rest
    R = state.R.to(like)
    head, inner = points.linearise(state)
    turned = head @ R.T
    cam = turned + state.t.to(like)
    by_cam = projection_jacobian(cam, intrinsics.focal_px)
    by_head = by_cam @ R
    pixels = project(cam, intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px)
    parts = [-by_cam @ skew(turned), by_cam, by_head @ inner]
    if shape is not None:
        parts.append(by_head @ points.shape_jacobian(state, shape.basis, shape.pivots))
        parts.append(pixels_by_camera(pixels, intrinsics))
    return ProjectedPoints(pixels, torch.cat(parts, 2), by_head @ points.transforms(state))


def along_dolly(jacobian: Tensor, state: FrameState) -> Tensor:
    """The derivative by log focal length when the head's distance grows with the focal length, written in place.

    The head then keeps its size in the picture and only its perspective changes. As unknowns, focal length and distance
    would be nearly the same to the solver, and damping would keep both where they are.

    Args:
        jacobian: (..., P + S + 3) of `linearise_projection` with a `ShapeMotion`.
        state: of the frame.

    Returns:
        The same array.
    """
    jacobian[..., -3] += float(state.t[2]) * jacobian[..., 5]
    return jacobian


def pixels_by_camera(pixels: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Derivative of pixels by (log focal, cx, cy): (N, 2, 3)."""
    centre = torch.tensor([intrinsics.cx_px, intrinsics.cy_px], dtype=pixels.dtype, device=pixels.device)
    identity = torch.eye(2, dtype=pixels.dtype, device=pixels.device).expand(len(pixels), 2, 2)
    return torch.cat([(pixels - centre)[..., None], identity], -1)


def point_arrays(points: PointSet, intrinsics: Intrinsics) -> tuple[kernels.Surface, kernels.Joints, np.ndarray]:
    """Surface, joints and camera of points on the CPU, as `tracker.kernels` take them."""
    pivots, by_expression = points.arrays[5:]
    return _surface(points, None), (pivots, by_expression, _no_shape(pivots.dtype)[1]), _camera(intrinsics)


def _surface(points: PointSet, shape: ShapeMotion | None) -> kernels.Surface:
    arrays = points.arrays
    basis = _no_shape(arrays[0].dtype)[0] if shape is None else shape.basis.numpy()
    return (*arrays[:5], basis)


def _pose(points: PointSet, state: FrameState, intrinsics: Intrinsics, shape: ShapeMotion | None) -> kernels.Pose:
    pivots, by_expression = points.arrays[5:]
    by_shape = _no_shape(pivots.dtype)[1] if shape is None else shape.pivots.numpy()
    R, t, jaw, eyes, lids, expression = state.arrays
    joints = (pivots, by_expression, by_shape)
    pose: kernels.Pose = kernels.posed(R, t, jaw, eyes, lids, expression, joints, _camera(intrinsics))
    return pose


def _camera(intrinsics: Intrinsics) -> np.ndarray:
    return np.array([intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px])


@cache
def _no_shape(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Bases of points and joints without identity."""
    return np.empty((0, 3, 0), dtype), np.empty((3, 3, 0), dtype)
