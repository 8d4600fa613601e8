"""Appearance and light of a clip from its calibration frames, poses known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.appearance import estimate_light, mean_albedo, unwrap
from tracker.clip import ClipModel
from tracker.image import ImageLevel, inside, sample
from tracker.light_response import is_steady, surface_response
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
# Of the error that one contrast for all frames leaves, one that follows the light leaves less than this, if it does.
_FOLLOWED = 0.85
# Every so many samples tell whether the light moves.
_LOOK_STRIDE = 4
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
        rotations: (K, 3, 3) head to camera, float64.
        widths_m: standard deviation of the local mean's disc at each level.
    """

    colours: Tensor
    contrast: Tensor
    weight: Tensor
    normals_cam: Tensor
    rotations: Tensor
    widths_m: tuple[float, ...]


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
    rotations, widths_m = torch.stack([state.R for state in states]), [level.scale for level in pictures[0]]
    return SampleViews(
        colours=torch.stack(colours),
        contrast=torch.stack(contrasts, 1),
        weight=torch.stack(weights),
        normals_cam=torch.stack(normals),
        rotations=rotations,
        widths_m=tuple(clip.contrast_sigma_m(sigma_px, scale) for scale in widths_m),
    )


def with_appearance(clip: ClipModel, views: SampleViews) -> tuple[ClipModel, tuple[Tensor, ...]]:
    """The clip with contrast, albedo and mean light of its samples, and each frame's light (9, 3) in camera axes.

    Where the light moves, the contrast follows it (`tracker.light_response`).
    """
    moving = _under_moving_light(clip, views)
    if moving is not None:
        return moving
    clip = _under_steady_light(clip, views)
    return clip, tuple(_frame_lights(clip, views))


def _under_steady_light(clip: ClipModel, views: SampleViews) -> ClipModel:
    """One contrast, albedo and light for all frames."""
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
        albedo, light = _rescaled(albedo, seen, light, mean)
    return replace(clip, contrast=contrasts, albedo=albedo.clamp(0, 1), seen=seen, light=light, response=None)


def _under_moving_light(clip: ClipModel, views: SampleViews) -> tuple[ClipModel, tuple[Tensor, ...]] | None:
    """What `with_appearance` gives where the light moves; None where it is steady, or contrast does not follow it."""
    few = slice(None, None, _LOOK_STRIDE)
    some = replace(
        views, colours=views.colours[:, few], weight=views.weight[:, few], normals_cam=views.normals_cam[:, few]
    )
    if is_steady(_own_lights(some)[1]):
        return None
    albedo, lights = _own_lights(views)
    albedo = albedo.clamp(0, 1)
    response = surface_response(clip.model, clip.shape, clip.samples.surface, albedo, views.widths_m)
    everyone, contrasts, better = torch.arange(views.weight.shape[1]), [], []
    for level, values in enumerate(views.contrast):
        gain = response.gain(level, everyone, lights, views.rotations)
        plain = unwrap(values, torch.ones_like(values), views.weight)[0]
        contrasts.append(unwrap(values, gain, views.weight)[0])
        better.append(_error(values - gain * contrasts[-1], views.weight) / _error(values - plain, views.weight))
    if not float(torch.stack(better).mean()) < _FOLLOWED:
        return None
    seen, light = views.weight.sum(0), lights.mean(0)
    contrast = torch.stack(contrasts)
    clip = replace(clip, contrast=contrast, albedo=albedo, seen=seen, light=light, response=response)
    return clip, tuple(lights)


def _error(residual: Tensor, weight: Tensor) -> Tensor:
    """Median over the frames of the weighted RMS of residuals (K, N, 3)."""
    return ((weight[..., None] * residual.square()).sum((1, 2)) / weight.sum(1).clamp_min(1e-9)).sqrt().median()


def _own_lights(views: SampleViews) -> tuple[Tensor, Tensor]:
    """Albedo (N, 3) and a light of its own for each frame (K, 9, 3), camera axes, fitted in turn."""
    mean = mean_albedo(views.colours, views.weight)
    brightness = torch.stack(
        [mean_albedo(*frame) for frame in zip(views.colours[:, None], views.weight[:, None], strict=True)]
    )
    priors = torch.zeros(len(brightness), 9, 3, dtype=torch.float64)
    priors[:, 0] = _AMBIENT * (brightness / mean.clamp_min(1e-3)).double()
    lights, inverse_std = priors, 1 / (_CLIP_LIGHT_STD * priors[:, 0].mean(1).clamp_min(1e-3))
    albedo = unwrap(views.colours, _shading(views, lights), views.weight)[0]
    for _ in range(_ALTERNATIONS):
        fitted = []
        for k, colours in enumerate(views.colours):
            normals, std = views.normals_cam[k], inverse_std[k].expand(9)
            weight = views.weight[k] * _robust(colours, albedo, normals, lights[k])
            fitted.append(estimate_light(colours, albedo, normals, weight, priors[k], std))
        lights = torch.stack(fitted)
        albedo, seen = unwrap(views.colours, _shading(views, lights), views.weight)
        albedo, lights = _rescaled(albedo, seen, lights, mean)
    return albedo, lights


def _rescaled(albedo: Tensor, seen: Tensor, light: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo (N, 3) and light (..., 9, 3) at the scale that they share: the albedo's mean is the pictures' (3,)."""
    # A black channel, too, has a light.
    scale = (mean / mean_albedo(albedo[None], seen[None]).clamp_min(1e-3)).clamp_min(1e-3)
    return albedo * scale, light / scale.double()


def _shading(views: SampleViews, lights: Tensor) -> Tensor:
    """Shading (K, N, 3) of the samples, each frame under its own light (K, 9, 3)."""
    return sh_basis(views.normals_cam) @ lights.float()


def _frame_lights(clip: ClipModel, views: SampleViews) -> list[Tensor]:
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
