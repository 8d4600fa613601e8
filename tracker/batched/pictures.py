"""Pictures of B frames on a device: pyramid, bilinear samples and local contrast, each with its slope.

Batched twins of `tracker.image` and `tracker.local_contrast`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.image import pyramid
from tracker.kernels.contrast import DARKEST_MEAN, HALF
from tracker.local_contrast import WINDOW

# Weights of a Gaussian of standard deviation 0.6 over three pixels, as OpenCV's GaussianBlur has them.
_BLUR = tuple(np.exp(-0.5 * (np.arange(-1, 2) / 0.6) ** 2) / np.exp(-0.5 * (np.arange(-1, 2) / 0.6) ** 2).sum())


@dataclass(frozen=True, eq=False)
class BatchLevel:
    """One level of B pyramids.

    Attributes:
        pixels: (B, H, W, 3) float32 sRGB in [0, 1].
        scale: pixels of this level per pixel of the full picture.
    """

    pixels: Tensor
    scale: float


def pyramids(images: Sequence[np.ndarray], levels: int, device: torch.device | str) -> list[BatchLevel]:
    """Gaussian pyramids of pictures of one size, full picture first.

    Args:
        images: B pictures (H, W, 3), uint8 RGB.
        levels: number of levels; each is half the size of the one before.
        device: where they are made; only the bytes of the pictures travel. Where a level would have half a pixel
            over, OpenCV makes them on the host.
    """
    if any(side % 2 ** (levels - 1) for side in images[0].shape[:2]):
        made = [pyramid(image, levels) for image in images]
        return [
            BatchLevel(torch.stack([one[k].pixels for one in made]).to(device), made[0][k].scale) for k in range(levels)
        ]
    current = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() * (1 / 255)
    result = []
    for level in range(levels):
        if level:
            current = torch.nn.functional.avg_pool2d(_blurred(current), 2)
        result.append(BatchLevel(current.permute(0, 2, 3, 1).contiguous(), 0.5**level))
    return result


def _blurred(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) pictures after a slight blur against aliasing; the border is mirrored."""
    a, b, c = _BLUR
    wide = torch.nn.functional.pad(pictures, (1, 1, 1, 1), mode="reflect")
    rows = a * wide[..., :-2] + b * wide[..., 1:-1] + c * wide[..., 2:]
    return a * rows[..., :-2, :] + b * rows[..., 1:-1, :] + c * rows[..., 2:, :]


def sample(pixels: Tensor, points_px: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation and its derivative.

    Args:
        pixels: (B, H, W, 3).
        points_px: (B, N, 2) continuous pixels; clamped to the picture.

    Returns:
        values (B, N, 3) and gradient (B, N, 3, 2) per pixel.
    """
    batch, height, width = pixels.shape[:3]
    x = (points_px[..., 0] - 0.5).clamp(0, width - 1.001)
    y = (points_px[..., 1] - 0.5).clamp(0, height - 1.001)
    left, top = x.floor(), y.floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    first = torch.arange(batch, device=pixels.device)[:, None] * (height * width)
    # Counted in whole numbers: beyond 2^24 pixels float32 would miss some. What is not finite reads the first pixel.
    corner = first + torch.nan_to_num(top).long() * width + torch.nan_to_num(left).long()
    flat = pixels.reshape(-1, pixels.shape[-1])
    a, b, c, d = (flat[corner + offset] for offset in (0, 1, width, width + 1))
    upper, lower = torch.lerp(a, b, fx), torch.lerp(c, d, fx)
    return torch.lerp(upper, lower, fy), torch.stack([torch.lerp(b - a, d - c, fy), lower - upper], -1)


def local_contrast(pixels: Tensor, points_px: Tensor, axes: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast and its gradient by the pixel.

    Args:
        pixels: (B, H, W, 3).
        points_px: (B, N, 2) continuous pixels.
        axes: (B, N, 2, 2) discs, see `tracker.local_contrast.window_axes`.
        window: (K + 1, 3) of `window_on`.

    Returns:
        (B, N, 3) and (B, N, 3, 2).
    """
    count = points_px.shape[1]
    where = points_px[:, :, None] + window[:, :2] @ axes.mT
    around, slopes = (part.unflatten(1, (count, -1)) for part in sample(pixels, where.flatten(1, 2)))
    mean = (around * window[:, 2:]).sum(2) + DARKEST_MEAN
    mean_slope = (slopes * window[:, 2:, None]).sum(2)
    contrast = HALF * around[:, :, -1] / mean
    return contrast, (HALF * slopes[:, :, -1] - contrast[..., None] * mean_slope) / mean[..., None]


def window_on(device: torch.device | str) -> Tensor:
    """Places of the local mean and their weights, then the point itself with weight zero: (K + 1, 3)."""
    return torch.from_numpy(np.concatenate([WINDOW, np.zeros((1, 3))])).float().to(device)
