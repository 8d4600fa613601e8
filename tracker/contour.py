"""Where the head's outline lies on its surface, and where the person's outline lies in the picture.

A surface point is on the outline of a view where front- and back-facing triangles meet with nothing of the head behind.
Only outlines of face and ears count: hair is thicker than the scalp, and collars hide the neck. The person's outline is
the half level of a matte, looked for along the outline's normal; a silhouette says nothing of the motion along itself.

Source of the idea: Bas et al., Fitting a 3D Morphable Model to Edges, ACCV workshops 2016 (hard correspondences of
occluding boundaries, found anew in turn with the fit).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel
from tracker.state import FrameState
from tracker.surface import SurfaceView, depth_buffer, surface_view

# Regions whose outline is skin against the background, as far as the model names them.
_REGIONS = ("face", "left_ear", "right_ear")
_EXCLUDED = ("scalp", "neck", "boundary", "left_eyeball", "right_eyeball", "inner_mouth")
# Side of the buffer that tells outlines before the background from those before the head itself.
_BUFFER = 512
# Pixels of that buffer outwards that must be background, from nearest to farthest.
_CLEAR = (1.5, 3.0, 6.0, 12.0)
# The matte's half level lies outside the true outline by this share of the picture's longer side: 0.35 to 0.48 px of
# 512 in the mean over the calibration frames of four rendered heads.
_MATTE_BIAS = 0.0008
# How far from the head's outline the person's is looked for.
_REACH_M = 0.015
_STEPS = 61
# The matte must fall from person to background this clearly within the reach.
_INSIDE, _OUTSIDE = 0.8, 0.2


@dataclass(frozen=True, eq=False)
class Outline:
    """Outline points of one frame.

    Attributes:
        faces: (K,) triangle ids.
        bary: (K, 3) corner weights.
        normals_px: (K, 2) unit normals in the picture, outwards.
        targets_px: (K, 2) the person's outline along the normals.
    """

    faces: Tensor
    bary: Tensor
    normals_px: Tensor
    targets_px: Tensor

    def __len__(self) -> int:
        return len(self.faces)


def find_outline(
    model: HeadModel, shape: Tensor, state: FrameState, intrinsics: Intrinsics, matte: np.ndarray
) -> Outline:
    """Outline points of the head in a state, and where the matte has the person's.

    Args:
        model: the head.
        shape: (S,) identity.
        state: pose and expression.
        intrinsics: camera of the picture.
        matte: (H, W) float32, 1 on the person.

    Returns:
        Those points whose normal meets exactly one clear fall of the matte; there may be none.
    """
    view = surface_view(model, shape, state)
    cam = view.vertices_cam_m(state).double().numpy()
    triangles = model.triangles.numpy()
    front, ends = _rim(cam, triangles, _allowed(model))
    middle = cam[ends].mean(1)
    scale = intrinsics.focal_px / middle[:, 2]
    pixels = middle[:, :2] * scale[:, None] + [intrinsics.cx_px, intrinsics.cy_px]
    along = cam[ends[:, 1], :2] / cam[ends[:, 1], 2:] - cam[ends[:, 0], :2] / cam[ends[:, 0], 2:]
    normals = np.stack([along[:, 1], -along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1), 1e-12)[:, None]
    inner = cam[triangles[front]].mean(1)
    inwards = inner[:, :2] / inner[:, 2:] * intrinsics.focal_px + [intrinsics.cx_px, intrinsics.cy_px] - pixels
    normals *= -np.sign((normals * inwards).sum(1))[:, None]
    open_ = _before_background(model, view, state, (intrinsics, matte.shape), (pixels, normals))
    targets, found = _matte_edge(matte, pixels, normals, scale * _REACH_M)
    targets -= _MATTE_BIAS * max(matte.shape) * normals
    keep = np.flatnonzero(open_ & found)
    faces = front[keep]
    corners = triangles[faces]
    bary = 0.5 * ((corners == ends[keep, :1]) | (corners == ends[keep, 1:])).astype(np.float64)
    double = torch.float64
    return Outline(
        torch.from_numpy(faces),
        torch.from_numpy(bary),
        torch.from_numpy(normals[keep]).to(double),
        torch.from_numpy(targets[keep]).to(double),
    )


def _allowed(model: HeadModel) -> np.ndarray:
    """(V,) vertices whose outline counts."""
    allowed = np.zeros(model.vertex_count, bool)
    for name in _REGIONS:
        if name in model.regions:
            allowed[model.regions[name].numpy()] = True
    for name in _EXCLUDED:
        if name in model.regions:
            allowed[model.regions[name].numpy()] = False
    return allowed


def _rim(cam: np.ndarray, triangles: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges between a front- and a back-facing triangle: the front one (K,) and the edge's ends (K, 2)."""
    corners = cam[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    front = (normal * corners[:, 0]).sum(1) < 0
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    owner = np.repeat(np.arange(len(triangles)), 3)
    key = edges[:, 0].astype(np.int64) * len(cam) + edges[:, 1]
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    a, b = order[same], order[same + 1]
    turning = (front[owner[a]] != front[owner[b]]) & allowed[edges[a]].all(1)
    a, b = a[turning], b[turning]
    return np.where(front[owner[a]], owner[a], owner[b]), edges[a]


def _before_background(
    model: HeadModel,
    view: SurfaceView,
    state: FrameState,
    camera: tuple[Intrinsics, tuple[int, ...]],
    rim: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Whether nothing of the head lies beyond each outline point (K,)."""
    intrinsics, size = camera
    pixels, normals = rim
    factor = _BUFFER / max(size[:2])
    height, width = (max(1, round(side * factor)) for side in size[:2])
    covered = depth_buffer(model, view, state, intrinsics.scaled(factor), (height, width)).covered
    clear = np.ones(len(pixels), bool)
    for distance in _CLEAR:
        where = np.floor(pixels * factor + distance * normals).astype(int)
        inside = (where >= 0).all(1) & (where[:, 0] < width) & (where[:, 1] < height)
        clear &= inside
        clear[inside] &= ~covered[where[inside, 1], where[inside, 0]]
    return clear


def _matte_edge(
    matte: np.ndarray, pixels: np.ndarray, normals: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The half level of the matte along each normal (K, 2), and whether there is exactly one clear fall (K,)."""
    steps = np.linspace(-1, 1, _STEPS)[None] * reach[:, None]
    where = pixels[:, None] + steps[..., None] * normals[:, None]
    height, width = matte.shape
    inside = ((where >= 0.5) & (where < np.array([width, height]) - 0.5)).all((1, 2))
    x, y = np.clip(where[..., 0] - 0.5, 0, width - 1.001), np.clip(where[..., 1] - 0.5, 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    fx, fy = x - column, y - row
    upper = matte[row, column] * (1 - fx) + matte[row, column + 1] * fx
    lower = matte[row + 1, column] * (1 - fx) + matte[row + 1, column + 1] * fx
    profile = upper * (1 - fy) + lower * fy
    falls = (profile[:, :-1] >= 0.5) & (profile[:, 1:] < 0.5)
    rises = (profile[:, :-1] < 0.5) & (profile[:, 1:] >= 0.5)
    found = inside & (falls.sum(1) == 1) & ~rises.any(1)
    found &= (profile[:, 0] > _INSIDE) & (profile[:, -1] < _OUTSIDE)
    at = falls.argmax(1)
    everyone = np.arange(len(pixels))
    high, low = profile[everyone, at], profile[everyone, at + 1]
    share = (high - 0.5) / np.maximum(high - low, 1e-6)
    distance = steps[everyone, at] + share * (steps[everyone, at + 1] - steps[everyone, at])
    return pixels + distance[:, None] * normals, found
