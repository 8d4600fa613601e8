"""The photometric residual in one pass over the samples: the twin of `tracker.residuals.photometric` in torch.

The three channels of a sample share its derivative by the pixel. With their gradients g_c (2,) and residuals r_c the
sample's share of the normal equations is J^T M J, M = w sum_c g_c g_c^T (2 x 2), and J^T w sum_c g_c r_c, with J (2 x P)
the pixel's derivative. With M = L L^T the rows L^T J are two, not three, and H is their product with themselves.
"""

import math

import numba
import numpy as np

from tracker.kernels.options import FAST

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


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def cost(level: np.ndarray, pixels: np.ndarray, target: np.ndarray, confidence: np.ndarray, sigma: float) -> float:
    """Half the robust, confidence-weighted sum of squares.

    Args:
        level: (H, W, 3) float32.
        pixels: (M, 2) continuous pixels of the level.
        target: (M, 3).
        confidence: (M,).
        sigma: standard deviation of a channel's residual.
    """
    value, slope = np.empty(3), np.empty((3, 2))
    total = 0.0
    for m in range(pixels.shape[0]):
        _sample(level, pixels[m, 0], pixels[m, 1], value, slope)
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
        target: (M, 3).
        confidence: (M,).
        sigma: standard deviation of a channel's residual.
        gradient: (C,) float64, added to.

    Returns:
        Half the robust, confidence-weighted sum of squares.
    """
    value, slope = np.empty(3), np.empty((3, 2))
    total = 0.0
    for m in range(pixels.shape[0]):
        _sample(level, pixels[m, 0], pixels[m, 1], value, slope)
        squared, m00, m01, m11, b0, b1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for c in range(3):
            residual = value[c] - target[m, c]
            squared += residual * residual
            m00 += slope[c, 0] * slope[c, 0]
            m01 += slope[c, 0] * slope[c, 1]
            m11 += slope[c, 1] * slope[c, 1]
            b0 += slope[c, 0] * residual
            b1 += slope[c, 1] * residual
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
