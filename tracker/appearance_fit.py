"""Appearance and light of a clip from its calibration frames, poses known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.appearance import estimate_light, mean_albedo, unwrap
from tracker.clip import ClipModel
from tracker.image import ImageLevel, inside, sample
from tracker.local_contrast import local_contrast, window_axes
from tracker.residuals.projection import project_state
from tracker.shading import SH_CONSTANTS, sh_basis
from tracker.state import FrameState
from tracker.surface import sample_visibility, surface_view
from tracker.threads import on_threads

# The coefficient of ambient light of brightness one.
_AMBIENT = 1 / SH_CONSTANTS[0]
# Spreads of a light coefficient, in ambient units: directional light is weaker than ambient; a frame's own light stays
# close to the clip's, the rest is skin that moves.
_CLIP_LIGHT_STD, _FRAME_LIGHT_STD = 0.5, 0.1
# Light and albedo are fitted in turn; the split settles within a few.
_ALTERNATIONS = 3


@dataclass(frozen=True, eq=False)
class SampleViews:
    """K frames seen at N samples.

    Attributes:
        colours: (K, N, 3) sRGB of the full picture.
        contrast: (L, K, N, 3) local contrast at each pyramid level.
        weight: (K, N) visibility times the squared cosine to the line of sight.
        normals_cam: (K, N, 3) camera frame.
    """

    colours: Tensor
    contrast: Tensor
    weight: Tensor
    normals_cam: Tensor


def view_samples(
    clip: ClipModel, states: Sequence[FrameState], pictures: Sequence[list[ImageLevel]], sigma_px: float
) -> SampleViews:
    """Samples the calibration frames.

    Args:
        clip: geometry and samples.
        states: K solved frames.
        pictures: their pyramids.
        sigma_px: width of the local mean, pixels of each level.
    """

    def one(pair: tuple[FrameState, list[ImageLevel]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        state, levels = pair
        view = surface_view(clip.model, clip.shape, state)
        camera = (state, clip.intrinsics)
        visible, normals_head, _, cosine = sample_visibility(clip.model, clip.samples.surface, view, camera, clip.size)
        pixels = project_state(clip.sample_points, state, clip.intrinsics)
        normals_cam = normals_head @ state.R.float().T
        points = clip.samples.surface.at(clip.model, view.vertices_cam_m(state))
        values = []
        for level in levels:
            lens, sigma_m = clip.intrinsics.scaled(level.scale), clip.contrast_sigma_m(sigma_px, level.scale)
            values.append(local_contrast(level, pixels * level.scale, window_axes(points, normals_cam, lens, sigma_m)))
        weight = (visible & inside(pixels, clip.size)).float() * cosine.clamp_min(0) ** 2
        return sample(levels[0].pixels, pixels)[0], torch.stack(values), weight, normals_cam

    colours, contrasts, weights, normals = zip(*on_threads(one, zip(states, pictures, strict=True)), strict=True)
    return SampleViews(torch.stack(colours), torch.stack(contrasts, 1), torch.stack(weights), torch.stack(normals))


def with_appearance(clip: ClipModel, views: SampleViews) -> ClipModel:
    """The clip with contrast, albedo and mean light of its samples."""
    ones = torch.ones_like(views.colours)
    contrasts = torch.stack([unwrap(level, ones, views.weight)[0] for level in views.contrast])
    mean = mean_albedo(views.colours, views.weight)
    albedo, light = mean.expand(views.colours.shape[1], 3), _AMBIENT * torch.eye(9, 3, dtype=torch.float64)[:, :1]
    light = light.repeat(1, 3)
    seen = views.weight.sum(0)
    for _ in range(_ALTERNATIONS):
        light = _clip_light(views, albedo, light)
        shading = sh_basis(views.normals_cam) @ light.float()
        albedo, seen = unwrap(views.colours, shading, views.weight)
        # The scale that light and albedo share: the albedo's mean is the pictures' mean.
        scale = mean / mean_albedo(albedo[None], seen[None]).clamp_min(1e-3)
        albedo, light = albedo * scale, light / scale.double()
    return replace(clip, contrast=contrasts, albedo=albedo.clamp(0, 1), seen=seen, light=light)


def frame_lights(clip: ClipModel, views: SampleViews) -> list[Tensor]:
    """Light (9, 3) of each frame around the clip's, camera axes."""
    inverse_std = torch.full((9,), 1 / (_FRAME_LIGHT_STD * _AMBIENT), dtype=torch.float64)
    lights = []
    for colours, weight, normals in zip(views.colours, views.weight, views.normals_cam, strict=True):
        robust = weight * _robust(colours, clip.albedo, normals, clip.light)
        lights.append(estimate_light(colours, clip.albedo, normals, robust, clip.light, inverse_std))
    return lights


def _clip_light(views: SampleViews, albedo: Tensor, prior: Tensor) -> Tensor:
    """One light for all frames, robust against what is not skin."""
    flat, normals = views.colours.reshape(-1, 3), views.normals_cam.reshape(-1, 3)
    repeated = albedo.repeat(len(views.colours), 1)
    weight = views.weight.reshape(-1) * _robust(flat, repeated, normals, prior)
    inverse_std = torch.full((9,), 1 / (_CLIP_LIGHT_STD * _AMBIENT), dtype=torch.float64)
    return estimate_light(flat, repeated, normals, weight, prior, inverse_std)


def _robust(colours: Tensor, albedo: Tensor, normals_cam: Tensor, light: Tensor) -> Tensor:
    """Geman-McClure weights (N,) of colours under a light, divided by the colour variance."""
    residual = (colours - albedo * (sh_basis(normals_cam) @ light.float())).abs().mean(1)
    sigma = max(1.4826 * float(residual.median()), 0.02)
    return 1 / (1 + (residual / (2 * sigma)) ** 2) ** 2 / sigma**2
