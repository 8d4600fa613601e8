"""The photometric residual in one pass over the samples: the twin of `tracker.residuals.photometric` in torch.

The three channels of a sample share its derivative by the pixel. With their gradients g_c (2,) and residuals r_c the
sample's share of the normal equations is J^T M J, M = w sum_c g_c g_c^T (2 x 2), and J^T w sum_c g_c r_c, with J
(2 x P) the pixel's derivative. With M = L L^T the rows L^T J are two, not three, and H is their product with
themselves.
"""

import math

import numba
import numpy as np

from tracker.kernels.options import FAST

# Added to the local mean, sRGB units: in black areas the quotient would be sensor noise.
DARKEST_MEAN = 0.03
# The contrast of an even area.
HALF = 0.5
# Scale of the Geman-McClure kernel, squared standard deviations: see `tracker.robust`.
_SCALE = 16.0


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _sample(level: np.ndarray, x: float, y: float, value: np.ndarray, slope: np.ndarray) -> None:
    """Bilinear value (3,) and gradient (3, 2) at a continuous pixel, clamped to the picture."""
    height, width = level.shape[0], level.shape[1]
    x = min(max(x - 0.5, 0.0), width - 1.001)
    y = min(max(y - 0.5, 0.0), height - 1.001)
    left, top = int(x), int(y)
    fx, fy = x - left, y - top
    for c in range(3):
        a, b = level[top, left, c], level[top, left + 1, c]
        d, e = level[top + 1, left, c], level[top + 1, left + 1, c]
        upper, lower = a + fx * (b - a), d + fx * (e - d)
        value[c] = upper + fy * (lower - upper)
        slope[c, 0] = (b - a) + fy * ((e - d) - (b - a))
        slope[c, 1] = lower - upper


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _contrast(
    level: np.ndarray,
    x: float,
    y: float,
    axes: np.ndarray,
    window: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """Local contrast (3,) and its gradient (3, 2) at a continuous pixel: see `tracker.local_contrast`."""
    if window.shape[0] == 0:
        _sample(level, x, y, value, slope)
        return
    for c in range(3):
        for k in range(3):
            scratch[c, k] = 0
    for k in range(window.shape[0]):
        u, v, w = window[k, 0], window[k, 1], window[k, 2]
        _sample(level, x + axes[0, 0] * u + axes[0, 1] * v, y + axes[1, 0] * u + axes[1, 1] * v, value, slope)
        for c in range(3):
            scratch[c, 0] += w * value[c]
            scratch[c, 1] += w * slope[c, 0]
            scratch[c, 2] += w * slope[c, 1]
    _sample(level, x, y, value, slope)
    for c in range(3):
        inverse = 1 / (scratch[c, 0] + DARKEST_MEAN)
        contrast = HALF * value[c] * inverse
        slope[c, 0] = HALF * inverse * slope[c, 0] - contrast * inverse * scratch[c, 1]
        slope[c, 1] = HALF * inverse * slope[c, 1] - contrast * inverse * scratch[c, 2]
        value[c] = contrast


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def cost(
    level: np.ndarray,
    pixels: np.ndarray,
    axes: np.ndarray,
    window: np.ndarray,
    target: np.ndarray,
    confidence: np.ndarray,
    sigma: float,
) -> float:
    """Half the robust, confidence-weighted sum of squares; arguments as in `rows`."""
    value, slope, scratch = np.empty(3), np.empty((3, 2)), np.empty((3, 3))
    total = 0.0
    for m in range(pixels.shape[0]):
        _contrast(level, pixels[m, 0], pixels[m, 1], axes[m], window, value, slope, scratch)
        squared = 0.0
        for c in range(3):
            squared += (value[c] - target[m, c]) ** 2
        squared /= 3 * sigma * sigma
        total += confidence[m] * squared * _SCALE / (_SCALE + squared)
    return 0.5 * total


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def rows(
    level: np.ndarray,
    pixels: np.ndarray,
    jacobian: np.ndarray,
    axes: np.ndarray,
    window: np.ndarray,
    target: np.ndarray,
    confidence: np.ndarray,
    sigma: float,
    gradient: np.ndarray,
) -> float:
    """Turns the pixels' derivatives into rows of the normal equations.

    Args:
        level: (H, W, 3) float32.
        pixels: (M, 2) continuous pixels of the level.
        jacobian: (M, 2, C) derivative of the pixels; overwritten by the rows.
        axes: (M, 2, 2) columns: pixels of one standard deviation along two directions of the surface.
        window: (K, 3) places of the local mean in standard deviations, and weights that sum to one; K = 0 for the plain
            picture.
        target: (M, 3).
        confidence: (M,).
        sigma: standard deviation of a channel's residual.
        gradient: (C,) float64, added to.

    Returns:
        Half the robust, confidence-weighted sum of squares.
    """
    value, slope, scratch = np.empty(3), np.empty((3, 2)), np.empty((3, 3))
    total = 0.0
    for m in range(pixels.shape[0]):
        _contrast(level, pixels[m, 0], pixels[m, 1], axes[m], window, value, slope, scratch)
        squared, m00, m01, m11, b0, b1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for c in range(3):
            residual = value[c] - target[m, c]
            s0, s1 = slope[c, 0], slope[c, 1]
            squared += residual * residual
            m00 += s0 * s0
            m01 += s0 * s1
            m11 += s1 * s1
            b0 += s0 * residual
            b1 += s1 * residual
        squared /= 3 * sigma * sigma
        shrink = _SCALE / (_SCALE + squared)
        total += confidence[m] * squared * shrink
        weight = shrink * shrink * confidence[m] / (3 * sigma * sigma)
        b0, b1 = b0 * weight, b1 * weight
        l00 = math.sqrt(m00 * weight)
        l10 = m01 * weight / l00 if l00 > 0 else 0.0
        l11 = math.sqrt(max(m11 * weight - l10 * l10, 0.0))
        first, second = jacobian[m, 0], jacobian[m, 1]
        for k in range(jacobian.shape[2]):
            j0, j1 = first[k], second[k]
            gradient[k] += b0 * j0 + b1 * j1
            first[k] = l00 * j0 + l10 * j1
            second[k] = l11 * j1
    return 0.5 * total


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def channel_rows(
    level: np.ndarray,
    pixels: np.ndarray,
    jacobian: np.ndarray,
    axes: np.ndarray,
    window: np.ndarray,
    root: np.ndarray,
    values: np.ndarray,
    rows_: np.ndarray,
) -> None:
    """Values (M, 3) of the picture and their derivatives (M, 3, C), a row for each channel, both written.

    Rows are multiplied by `root` (M,), the square root of the samples' weights; other arguments as in `rows`.
    """
    value, slope, scratch = np.empty(3), np.empty((3, 2)), np.empty((3, 3))
    for m in range(pixels.shape[0]):
        _contrast(level, pixels[m, 0], pixels[m, 1], axes[m], window, value, slope, scratch)
        first, second = jacobian[m, 0], jacobian[m, 1]
        for c in range(3):
            values[m, c] = value[c]
            s0, s1 = np.float32(root[m] * slope[c, 0]), np.float32(root[m] * slope[c, 1])
            row = rows_[m, c]
            for k in range(jacobian.shape[2]):
                row[k] = s0 * first[k] + s1 * second[k]


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def values(level: np.ndarray, pixels: np.ndarray, axes: np.ndarray, window: np.ndarray, out: np.ndarray) -> None:
    """Writes the contrast (M, 3) at pixels; arguments as in `rows`."""
    value, slope, scratch = np.empty(3), np.empty((3, 2)), np.empty((3, 3))
    for m in range(pixels.shape[0]):
        _contrast(level, pixels[m, 0], pixels[m, 1], axes[m], window, value, slope, scratch)
        for c in range(3):
            out[m, c] = value[c]
