"""Visibility and normals of surface samples in a state: the one rasterisation a frame costs."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel, vertex_normals
from tracker.rasterizer import rasterize
from tracker.rasterizer.fragments import Fragments, visible_points
from tracker.samples import SurfaceSamples
from tracker.state import FrameState

# Side of the depth buffer of the visibility test, pixels; its tolerance is 3 mm.
VISIBILITY_SIZE = 256
# Samples that turn away further than this (cosine) are left out: near a silhouette the picture mixes with background.
MIN_COSINE = 0.2


@dataclass(frozen=True, eq=False)
class SurfaceView:
    """The whole head in one state.

    Attributes:
        vertices_head_m: (V, 3) float32.
        normals_head: (V, 3) float32.
    """

    vertices_head_m: Tensor
    normals_head: Tensor

    def vertices_cam_m(self, state: FrameState) -> Tensor:
        """(V, 3) metres, camera frame."""
        return self.vertices_head_m @ state.R.float().T + state.t.float()


def surface_view(model: HeadModel, shape: Tensor, state: FrameState) -> SurfaceView:
    """Vertices and normals of the head in a state."""
    subject, no_shape = _subject_head(model, shape)
    params = state.head_params(no_shape)
    as_float = type(params)(**{name: value.float() for name, value in vars(params).items() if value is not None})
    vertices = subject.vertices(as_float)
    return SurfaceView(vertices, vertex_normals(vertices, model.triangles))


@lru_cache(maxsize=2)
def _subject_head(model: HeadModel, shape: Tensor) -> tuple[HeadModel, Tensor]:
    """The head with an identity put into its template, and the empty code that is left; kept for a clip's next frames.

    Model and code are known by identity, and neither is ever changed in place.
    """
    shaped = replace(model, template=model.rest_vertices(shape.float()))
    return shaped.with_modes(0, model.expression_count), shape[:0]


def depth_buffer(
    model: HeadModel, view: SurfaceView, state: FrameState, intrinsics: Intrinsics, size: tuple[int, int]
) -> Fragments:
    """Rasterises the head at (height, width), without barycentric coordinates."""
    return rasterize(view.vertices_cam_m(state).numpy(), model.triangles.numpy(), intrinsics, size, weights=False)


def sample_visibility(
    model: HeadModel,
    samples: SurfaceSamples,
    view: SurfaceView,
    camera: tuple[FrameState, Intrinsics],
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Which samples the camera sees.

    Args:
        model: the head model.
        samples: N surface samples.
        view: the head in the state.
        camera: state and intrinsics of the picture.
        size: (height, width) of the picture.

    Returns:
        visible (N,) bool, normals (N, 3) float32 in head space, cosine (N,) of the angle to the line of sight.
    """
    state, intrinsics = camera
    factor = VISIBILITY_SIZE / max(size)
    small = intrinsics.scaled(factor)
    height, width = (max(1, round(side * factor)) for side in size)
    fragments = depth_buffer(model, view, state, small, (height, width))
    normals = torch.nn.functional.normalize(samples.at(model, view.normals_head), dim=1)
    points_cam = samples.at(model, view.vertices_cam_m(state))
    normals_cam = normals @ state.R.float().T
    cosine = -(normals_cam * torch.nn.functional.normalize(points_cam, dim=1)).sum(1)
    seen = visible_points(fragments, points_cam.numpy(), normals_cam.numpy(), small, min_cosine=MIN_COSINE)
    return torch.from_numpy(np.asarray(seen)), normals, cosine
