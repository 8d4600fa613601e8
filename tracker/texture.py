"""The appearance as a texture in UV space, for pictures: unwrapped from solved frames with the shading divided out.

Texels around the eyes are unwrapped twice, from open and from shut lids (`tracker.shut_look`).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from tracker.appearance import DARKEST_SHADING
from tracker.clip import ClipModel, FrameInput
from tracker.rasterizer import visible_points
from tracker.shading import sh_basis
from tracker.shut_lids import lid_mask
from tracker.shut_look import ShutLids, shut_share
from tracker.state import FrameState
from tracker.surface import depth_buffer, surface_view
from tracker.texels import Texels
from tracker.threads import on_threads

# Texels seen at more than 75 degrees from the line of sight are stretched pixels.
_MIN_COSINE = 0.25
# A texel counts as fully seen when its views add up to this weight per frame; what few frames show at a slant (the rim
# of a lid) is as often the neighbour's colour as its own.
_FULL_WEIGHT = 0.06
# What shut lids keep of their weight where the look of open ones is unwrapped: something, where no frame shows better.
_LEFT_OVER = 1e-3
# A texel counts as seen with shut lids from this summed weight on: one clear view.
_SHUT_WEIGHT = 0.3
# An eye is known shut when this share of the texels around it was seen so.
_SEEN_SHARE = 0.5

# So many frames are unwrapped at once: each takes 28 bytes a texel until it is added up.
_TOGETHER = 4


@dataclass(frozen=True, eq=False)
class AppearanceTexture:
    """The unwrapped appearance.

    Attributes:
        albedo: (T, T, 3) float32 sRGB in [0, 1], row 0 is v = 1; unseen texels take the nearest seen one.
        valid: (T, T) float32, 0 never seen to 1 well seen.
        shut: the same with shut lids; None where no frame shows them.
    """

    albedo: np.ndarray
    valid: np.ndarray
    shut: ShutLids | None = None


def bake_texture(
    clip: ClipModel, frames: tuple[FrameInput, ...], states: tuple[FrameState, ...], size: int
) -> AppearanceTexture:
    """Unwraps the appearance from solved frames.

    Args:
        clip: the calibrated clip.
        frames: K pictures.
        states: their unknowns, light included.
        size: side of the texture, texels.

    Returns:
        Weighted least squares of the pictures over the views, weight the squared cosine to the line of sight; around
        the eyes once for open and once for shut lids.
    """
    texels = Texels.of(clip.model, size)
    count = int(texels.fragments.covered.sum())
    lids = texels.interpolate_vertices(lid_mask(clip.model))
    opened, shut = _Sums.of(count), _Sums.of(count)
    weights = np.zeros(count, np.float32)

    def seen_by(pair: tuple[FrameInput, FrameState]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weight (P,), shading and colours (P, 3) of the texels in one frame."""
        frame, state = pair
        view = surface_view(clip.model, clip.shape, state)
        points = texels.interpolate_vertices(view.vertices_cam_m(state).numpy())
        normals = texels.interpolate_vertices((view.normals_head @ state.R.float().T).numpy())
        normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-6)
        fragments = depth_buffer(clip.model, view, state, clip.intrinsics, clip.size)
        seen = visible_points(fragments, points, normals, clip.intrinsics, min_cosine=_MIN_COSINE)
        cosine = -(normals * points).sum(1) / np.linalg.norm(points, axis=1).clip(1e-6)
        weight = np.where(seen, cosine**2, 0).astype(np.float32)
        shading = (sh_basis(torch.from_numpy(normals)) @ state.light.float()).numpy().clip(DARKEST_SHADING)
        return weight, shading, _sampled(frame.image, points, clip)

    pairs = list(zip(frames, states, strict=True))
    for start in range(0, len(pairs), _TOGETHER):
        block = pairs[start : start + _TOGETHER]
        looks = on_threads(seen_by, block)
        for (_, state), (weight, shading, colours) in zip(block, looks, strict=True):
            share = (lids > 0) @ shut_share(state.eyelids.numpy()).astype(np.float32)
            opened.add(weight * (1 - share).clip(_LEFT_OVER), shading, colours)
            shut.add(weight * share, shading, colours)
            weights += weight
    albedo, valid = _filled(texels, opened.albedo(), weights / len(frames), _FULL_WEIGHT)
    if not shut.weight.any():
        return AppearanceTexture(albedo, valid)
    shut_albedo, sure = _filled(texels, shut.albedo(), shut.weight, _SHUT_WEIGHT)
    mask = np.zeros((size, size, 2), np.float32)
    mask[texels.fragments.covered] = lids
    return AppearanceTexture(albedo, valid, ShutLids(shut_albedo, mask * _seen_nearby(sure, mask)))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over frames of P texels: weight x shading x colour, weight x squared shading (P, 3), and weight (P,)."""

    top: np.ndarray
    bottom: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, count: int) -> "_Sums":
        sums = (np.zeros(shape, np.float32) for shape in ((count, 3), (count, 3), (count,)))
        return cls(*sums)

    def add(self, weight: np.ndarray, shading: np.ndarray, colours: np.ndarray) -> None:
        self.top[:] += weight[:, None] * shading * colours
        self.bottom[:] += weight[:, None] * shading**2
        self.weight[:] += weight

    def albedo(self) -> np.ndarray:
        return (self.top / self.bottom.clip(1e-6)).clip(0, 1)


def _seen_nearby(sure: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(1, 1, 2), 1 for an eye seen with shut lids, 0 for one that no frame shows shut: it keeps its open look."""
    total = mask.sum((0, 1))
    seen = (mask * sure[..., None]).sum((0, 1)) / total.clip(1e-6)
    return (seen >= _SEEN_SHARE).astype(np.float32)[None, None]


def _sampled(image: np.ndarray, points_cam_m: np.ndarray, clip: ClipModel) -> np.ndarray:
    """Colours (P, 3) in [0, 1] of the picture at camera-space points."""
    camera = clip.intrinsics
    z = points_cam_m[:, 2].clip(1e-3)
    # cv2 counts pixel centres at whole numbers.
    x = (camera.focal_px * points_cam_m[:, 0] / z + camera.cx_px - 0.5).astype(np.float32)
    y = (camera.focal_px * points_cam_m[:, 1] / z + camera.cy_px - 0.5).astype(np.float32)
    side = 1 << 14  # cv2.remap takes pictures of at most 2^15 rows
    rows = -(-len(x) // side)
    padded = np.zeros((2, rows * side), np.float32)
    padded[0, : len(x)], padded[1, : len(y)] = x, y
    colours = cv2.remap(
        image,
        padded[0].reshape(rows, side),
        padded[1].reshape(rows, side),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return colours.reshape(-1, 3)[: len(x)].astype(np.float32) / np.float32(255)


def _filled(texels: Texels, albedo: np.ndarray, weights: np.ndarray, full: float) -> tuple[np.ndarray, np.ndarray]:
    """Texel values as pictures; what no view saw takes the nearest seen texel and is marked invalid.

    Args:
        texels: P texels.
        albedo: (P, 3).
        weights: (P,).
        full: the weight of a texel that counts as fully seen.
    """
    covered = texels.fragments.covered
    seen = np.zeros((texels.size, texels.size), np.float32)
    seen[covered] = np.minimum(weights / full, 1)
    picture = np.zeros((texels.size, texels.size, 3), np.float32)
    picture[covered] = albedo
    holes = (seen <= 0).astype(np.uint8)
    if holes.all():
        return picture, seen
    _, labels = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.zeros(labels.max() + 1, np.int64)
    nearest[labels[holes == 0]] = np.flatnonzero(holes.ravel() == 0)
    return picture.reshape(-1, 3)[nearest[labels]], seen
