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
# At grazing angles a step across the line of sight counts as if it moved the pixel by at least this share of one along
# the surface's other direction. Of 0.1, 0.3 and 0.6, on six clips with truth (docs/results.md).
_GRAZING = 0.3


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
def surface_slopes(
    level: np.ndarray,
    pixels: np.ndarray,
    axes: np.ndarray,
    window: np.ndarray,
    by_tangent: np.ndarray,
    values: np.ndarray,
    slopes: np.ndarray,
) -> None:
    """Writes the contrast `values` (M, 3) and its change along the surface, `slopes` (M, 3, 2).

    `by_tangent` (M, 2, 2) is the pixel's derivative by a step along two directions of the surface; other arguments as
    in `rows`.
    """
    value, slope, scratch = np.empty(3), np.empty((3, 2)), np.empty((3, 3))
    for m in range(pixels.shape[0]):
        _contrast(level, pixels[m, 0], pixels[m, 1], axes[m], window, value, slope, scratch)
        for c in range(3):
            values[m, c] = value[c]
            for k in range(2):
                slopes[m, c, k] = slope[c, 0] * by_tangent[m, 0, k] + slope[c, 1] * by_tangent[m, 1, k]


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _by_pixel(by_tangent: np.ndarray, out: np.ndarray) -> None:
    """Inverse (2, 2) of the pixel's derivative by a step along the surface.

    Where the surface is seen at a grazing angle the lesser singular value is raised to a share of the greater one.
    """
    a, b, c, d = by_tangent[0, 0], by_tangent[0, 1], by_tangent[1, 0], by_tangent[1, 1]
    # Left singular vectors: the eigenvectors of A A^T, which is [[p, q], [q, r]].
    p, q, r = a * a + b * b, a * c + b * d, c * c + d * d
    angle = 0.5 * math.atan2(2 * q, p - r)
    x, y = math.cos(angle), math.sin(angle)
    greater = math.sqrt(p * x * x + 2 * q * x * y + r * y * y) + 1e-12
    lesser = math.sqrt(max(p * y * y - 2 * q * x * y + r * x * x, 0.0)) + 1e-9 * greater
    first, second = 1 / greater**2, 1 / (lesser * max(lesser, _GRAZING * greater))
    # A^T U diag U^T.
    m00 = first * x * x + second * y * y
    m01 = (first - second) * x * y
    m11 = first * y * y + second * x * x
    out[0, 0], out[0, 1] = a * m00 + c * m01, a * m01 + c * m11
    out[1, 0], out[1, 1] = b * m00 + d * m01, b * m01 + d * m11


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def shared_rows(
    jacobian: np.ndarray,
    by_tangent: np.ndarray,
    slopes: np.ndarray,
    root: np.ndarray,
    residual: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Turns the pixels' derivatives into rows of the normal equations, with given slopes along the surface.

    The three channels' slopes are a (3, 2) matrix D a sample; with D^T D = L L^T the two rows L^T A^-1 J have the same
    product with themselves as its three.

    Args:
        jacobian: (M, 2, C) derivative of the pixels; overwritten by the rows.
        by_tangent: (M, 2, 2) A, the pixel's derivative by a step along the surface.
        slopes: (M, 3, 2) change of the contrast along it.
        root: (M,) square root of the samples' weights.
        residual: (M, 3) times `root`.
        gradient: (C,) float64, added to.
    """
    inverse = np.empty((2, 2))
    for m in range(jacobian.shape[0]):
        _by_pixel(by_tangent[m], inverse)
        d00, d01, d11, b0, b1 = 0.0, 0.0, 0.0, 0.0, 0.0
        for c in range(3):
            s0, s1 = slopes[m, c, 0], slopes[m, c, 1]
            d00 += s0 * s0
            d01 += s0 * s1
            d11 += s1 * s1
            b0 += s0 * residual[m, c]
            b1 += s1 * residual[m, c]
        l00 = math.sqrt(d00)
        l10 = d01 / l00 if l00 > 0 else 0.0
        l11 = math.sqrt(max(d11 - l10 * l10, 0.0))
        weight = root[m]
        b0, b1 = weight * b0, weight * b1
        g0, g1 = b0 * inverse[0, 0] + b1 * inverse[1, 0], b0 * inverse[0, 1] + b1 * inverse[1, 1]
        # L^T A^-1, times the root.
        l00, l10, l11 = weight * l00, weight * l10, weight * l11
        r00, r01 = l00 * inverse[0, 0] + l10 * inverse[1, 0], l00 * inverse[0, 1] + l10 * inverse[1, 1]
        r10, r11 = l11 * inverse[1, 0], l11 * inverse[1, 1]
        first, second = jacobian[m, 0], jacobian[m, 1]
        for k in range(jacobian.shape[2]):
            j0, j1 = first[k], second[k]
            gradient[k] += g0 * j0 + g1 * j1
            first[k] = r00 * j0 + r01 * j1
            second[k] = r10 * j0 + r11 * j1


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def values(level: np.ndarray, pixels: np.ndarray, axes: np.ndarray, window: np.ndarray, out: np.ndarray) -> None:
    """Writes the contrast (M, 3) at pixels; arguments as in `rows`."""
    value, slope, scratch = np.empty(3), np.empty((3, 2)), np.empty((3, 3))
    for m in range(pixels.shape[0]):
        _contrast(level, pixels[m, 0], pixels[m, 1], axes[m], window, value, slope, scratch)
        for c in range(3):
            out[m, c] = value[c]
