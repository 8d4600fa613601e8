"""Visibility and normals of surface samples in a state: the one rasterisation a frame costs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel, vertex_normals
from tracker.kernels.visibility import seen_points
from tracker.points import PointSet, vertex_points
from tracker.rasterizer import rasterize
from tracker.rasterizer.fragments import VISIBILITY_TOLERANCE_M, Fragments
from tracker.residuals.projection import positions_array
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
    vertices = torch.from_numpy(positions_array(_subject_points(model, shape), state))
    return SurfaceView(vertices, vertex_normals(vertices, model.triangles))


@lru_cache(maxsize=2)
def _subject_points(model: HeadModel, shape: Tensor) -> PointSet:
    """The vertices of the head with an identity; kept for a clip's next frames.

    Model and code are known by identity, and neither is ever changed in place.
    """
    return vertex_points(model, shape.float())


def depth_buffer(
    model: HeadModel,
    view: SurfaceView,
    state: FrameState,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    cull_back: bool = False,
) -> Fragments:
    """Rasterises the head at (height, width), without barycentric coordinates; `cull_back` as in `rasterize`."""
    vertices, triangles = view.vertices_cam_m(state).numpy(), model.triangles.numpy()
    return rasterize(vertices, triangles, intrinsics, size, cull_back=cull_back, weights=False)


def sample_visibility(
    model: HeadModel,
    samples: SurfaceSamples,
    view: SurfaceView,
    camera: tuple[FrameState, Intrinsics],
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which samples the camera sees.

    Args:
        model: the head model.
        samples: N surface samples.
        view: the head in the state.
        camera: state and intrinsics of the picture.
        size: (height, width) of the picture.

    Returns:
        visible (N,) bool; float32 normals (N, 3) in head space, points (N, 3) metres in the camera frame, and cosine
        (N,) of the angle to the line of sight.
    """
    state, intrinsics = camera
    factor = VISIBILITY_SIZE / max(size)
    small = intrinsics.scaled(factor)
    height, width = (max(1, round(side * factor)) for side in size)
    # A head is closed but for its neck: whatever hides a sample, its front comes first.
    fragments = depth_buffer(model, view, state, small, (height, width), cull_back=True)
    R, t, *_ = state.arrays
    mesh = view.vertices_head_m.numpy(), view.normals_head.numpy(), model.triangles.numpy()
    lens = np.array([small.focal_px, small.cx_px, small.cy_px])
    places = samples.faces.numpy(), samples.bary.numpy()
    found = seen_points(mesh, places, R, t, lens, fragments.depth_m, VISIBILITY_TOLERANCE_M, MIN_COSINE)
    seen, normals, points, cosine = map(torch.from_numpy, found)
    return seen, normals, points, cosine
