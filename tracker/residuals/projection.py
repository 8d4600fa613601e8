"""Projected surface points with their derivative by the frame's unknowns: the part that landmarks and colours share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.camera import Intrinsics, project, projection_jacobian
from tracker.points import PointSet
from tracker.rotations import skew
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class ProjectedPoints:
    """Points of one frame, linearised.

    Attributes:
        pixels: (N, 2) continuous pixels.
        points_cam_m: (N, 3) metres, camera frame.
        by_point: (N, 2, 3) derivative of the pixel by the head-space point.
        jacobian: (N, 2, P) derivative of the pixel by the frame's step.
    """

    pixels: Tensor
    points_cam_m: Tensor
    by_point: Tensor
    jacobian: Tensor


def project_state(points: PointSet, state: FrameState, intrinsics: Intrinsics) -> Tensor:
    """Pixels (N, 2) of surface points in a state."""
    like = points.rest
    cam = points.positions(state) @ state.R.to(like).T + state.t.to(like)
    return project(cam, intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px)


def linearise_projection(points: PointSet, state: FrameState, intrinsics: Intrinsics) -> ProjectedPoints:
    """Pixels of surface points and their Jacobian in `Layout` order."""
    like = points.rest
    R = state.R.to(like)
    head, inner = points.linearise(state)
    turned = head @ R.T
    cam = turned + state.t.to(like)
    by_cam = projection_jacobian(cam, intrinsics.focal_px)
    by_point = by_cam @ R
    jacobian = like.new_empty(len(points), 2, 6 + inner.shape[2])
    jacobian[:, :, 0:3] = -by_cam @ skew(turned)
    jacobian[:, :, 3:6] = by_cam
    jacobian[:, :, 6:] = by_point @ inner
    pixels = project(cam, intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px)
    return ProjectedPoints(pixels, cam, by_point, jacobian)


def pixels_by_camera(pixels: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Derivative of pixels by (log focal, cx, cy): (N, 2, 3)."""
    centre = torch.tensor([intrinsics.cx_px, intrinsics.cy_px], dtype=pixels.dtype, device=pixels.device)
    identity = torch.eye(2, dtype=pixels.dtype, device=pixels.device).expand(len(pixels), 2, 2)
    return torch.cat([(pixels - centre)[..., None], identity], -1)
