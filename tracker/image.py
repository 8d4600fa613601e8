"""Image pyramids and bilinear sampling with its exact derivative, in continuous pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageLevel:
    """One level of a pyramid.

    Attributes:
        pixels: (H, W, 3) float32 sRGB in [0, 1].
        scale: pixels of this level per pixel of the full picture.
    """

    pixels: Tensor
    scale: float


def pyramid(image: np.ndarray, levels: int) -> list[ImageLevel]:
    """Gaussian pyramid, full picture first.

    Args:
        image: (H, W, 3) uint8 RGB.
        levels: number of levels; each is half the size of the one before.

    Returns:
        The levels, each box-aligned with the full picture (edges coincide).
    """
    current: np.ndarray = image.astype(np.float32) * np.float32(1 / 255)
    result = []
    for level in range(levels):
        if level:
            # A slight blur against aliasing, then the mean of 2 x 2 pixels, which keeps the edges aligned.
            current = cv2.resize(
                cv2.GaussianBlur(current, (3, 3), 0.6), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
            )
        result.append(ImageLevel(torch.from_numpy(np.ascontiguousarray(current)), 0.5**level))
    return result


def sample(pixels: Tensor, points_px: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation and its derivative.

    Args:
        pixels: (H, W, C).
        points_px: (N, 2) continuous pixels of this level; clamped to the picture.

    Returns:
        values (N, C) and gradient (N, C, 2) per pixel of this level.
    """
    height, width = pixels.shape[:2]
    x = (points_px[:, 0] - 0.5).clamp(0, width - 1.001)
    y = (points_px[:, 1] - 0.5).clamp(0, height - 1.001)
    left, top = x.floor(), y.floor()
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    corner = (top * width + left).long()
    flat = pixels.reshape(height * width, -1)
    a, b, c, d = flat[corner], flat[corner + 1], flat[corner + width], flat[corner + width + 1]
    upper, lower = torch.lerp(a, b, fx), torch.lerp(c, d, fx)
    dx = torch.lerp(b - a, d - c, fy)
    return torch.lerp(upper, lower, fy), torch.stack([dx, lower - upper], -1)


def inside(points_px: Tensor, size: tuple[int, int], margin_px: float = 1.0) -> Tensor:
    """Which (N, 2) points lie inside a (height, width) picture, away from its edge: (N,) bool."""
    x, y = points_px.unbind(-1)
    height, width = size
    return (x > margin_px) & (y > margin_px) & (x < width - margin_px) & (y < height - margin_px)
