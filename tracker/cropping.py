"""The crop around the head: metrical-tracker's box, padding with zeros, resizing; and the map from source to crop."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

# Bicubic reads 4 x 4 pixels whatever the factor, so shrinking by more than this skips pixels and aliases; the mean
# over the covered area does not. Near 1 bicubic is the sharper of the two, and it is what metrical-tracker uses.
_SHRINK_NEEDS_AREA = 1.5


@dataclass(frozen=True)
class CropGeometry:
    """A box of the source picture, padded with zeros to the aspect of the result, then resized.

    Attributes:
        box_px: (xmin, xmax, ymin, ymax) whole source pixels, the upper ends excluded.
        pad_px: (left, right, top, bottom) zeros added around the box, source pixels.
        size: (height, width) of the result, pixels.
    """

    box_px: tuple[int, int, int, int]
    pad_px: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Result pixels per source pixel, the same in x and y."""
        return self.size[1] / (self.box_px[1] - self.box_px[0] + self.pad_px[0] + self.pad_px[1])

    def affine(self) -> np.ndarray:
        """(2, 3) float64 map of continuous source pixels to continuous result pixels (edges aligned)."""
        s = self.scale
        x0, y0 = self.box_px[0] - self.pad_px[0], self.box_px[2] - self.pad_px[2]
        return np.array([[s, 0, -x0 * s], [0, s, -y0 * s]], np.float64)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Cuts a picture: (H, W, 3) uint8 to (*size, 3) uint8."""
        xmin, xmax, ymin, ymax = self.box_px
        return self.resize(image[ymin:ymax, xmin:xmax])

    def resize(self, part: np.ndarray) -> np.ndarray:
        """Pads and resizes what lies within the box: (ymax - ymin, xmax - xmin, 3) uint8 to (*size, 3) uint8."""
        left, right, top, bottom = self.pad_px
        if any(self.pad_px):
            part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        method = cv2.INTER_AREA if self.scale < 1 / _SHRINK_NEEDS_AREA else cv2.INTER_CUBIC
        return cv2.resize(part, (self.size[1], self.size[0]), interpolation=method)


def geometry(box_px: tuple[int, int, int, int], source_size: tuple[int, int], size: tuple[int, int]) -> CropGeometry:
    """Clips a box to the picture and pads it to the aspect of the result.

    Args:
        box_px: (xmin, xmax, ymin, ymax), source pixels.
        source_size: (height, width) of the source picture.
        size: (height, width) of the result.

    Returns:
        The geometry; an odd remainder of the padding goes to the right and the bottom.

    Raises:
        ValueError: the box lies outside the picture.
    """
    height, width = source_size
    xmin, ymin = max(box_px[0], 0), max(box_px[2], 0)
    xmax, ymax = min(box_px[1], width), min(box_px[3], height)
    if xmax - xmin < 2 or ymax - ymin < 2:
        raise ValueError(f"the box {tuple(box_px)} lies outside the picture of {width} x {height}")
    # Whole multiples of the reduced aspect (1:1, 9:16, …) make the scale exactly the same in x and y.
    divisor = math.gcd(*size)
    rows, columns = size[0] // divisor, size[1] // divisor
    unit = max(math.ceil((ymax - ymin) / rows), math.ceil((xmax - xmin) / columns))
    extra_x, extra_y = unit * columns - (xmax - xmin), unit * rows - (ymax - ymin)
    pad = (extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2)
    return CropGeometry((xmin, xmax, ymin, ymax), pad, size)


def landmark_bounds(points_px: np.ndarray) -> np.ndarray:
    """Bounds of (N, 2) points: (4,) xmin, xmax, ymin, ymax."""
    low, high = points_px.min(0), points_px.max(0)
    return np.array([low[0], high[0], low[1], high[1]])


def head_box(bounds_px: np.ndarray, source_size: tuple[int, int], scale: float) -> np.ndarray:
    """metrical-tracker's crop box from the bounds of the 68 landmarks.

    Args:
        bounds_px: (4,) xmin, xmax, ymin, ymax of the landmarks, counted as cv2 and FAN do (first centre at 0).
        source_size: (height, width) of the picture.
        scale: side of the box as a multiple of the landmarks' longer extent.

    Returns:
        (4,) int64 xmin, xmax, ymin, ymax: centre at the bounds' midpoint, side int(scale x 2 x the longer half extent),
        clamped to the picture, an odd extent shortened by one. Whole numbers are cut as there, by truncation.
    """
    height, width = source_size
    left, right, top, bottom = (int(value) for value in bounds_px)
    x_centre, y_centre = int((left + right) / 2), int((top + bottom) / 2)
    half = int(scale * 2 * max(x_centre - left, y_centre - top)) // 2
    xmin, xmax = max(x_centre - half, 0), min(x_centre + half, width - 1)
    ymin, ymax = max(y_centre - half, 0), min(y_centre + half, height - 1)
    xmin += (xmax - xmin) % 2
    ymin += (ymax - ymin) % 2
    return np.array([xmin, xmax, ymin, ymax], np.int64)
