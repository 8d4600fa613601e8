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


# A colour, and a colour with its slope by x and by y. Tuples, not arrays: they stay in registers, in less than half of
# the time (docs/performance.md).
_Colour = tuple[float, float, float]
_Sloped = tuple[_Colour, _Colour, _Colour]


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _corner(level: np.ndarray, x: float, y: float) -> tuple[np.uint64, np.uint64, float, float]:
    """Where a continuous pixel's upper and lower neighbours begin in the flat picture, and how far it is from there.

    Clamped to the picture.
    """
    real = level.dtype.type
    height, width = level.shape[0], level.shape[1]
    x = min(max(x - real(0.5), real(0)), real(width - 1.001))
    y = min(max(y - real(0.5), real(0)), real(height - 1.001))
    # Float32 may round the limit up to the edge, and nothing here would notice a place behind it.
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    # Unsigned: no look whether an index counts from the end.
    upper = np.uint64(3 * (top * width + left))
    return upper, upper + np.uint64(3 * width), real(x - left), real(y - top)


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _bilinear(flat: np.ndarray, upper: np.uint64, lower: np.uint64, fx: float, fy: float) -> float:
    """One channel between four neighbours."""
    right = np.uint64(3)
    a, d = flat[upper], flat[lower]
    top, bottom = a + fx * (flat[upper + right] - a), d + fx * (flat[lower + right] - d)
    return top + fy * (bottom - top)


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _bilinear_sloped(
    flat: np.ndarray, upper: np.uint64, lower: np.uint64, fx: float, fy: float
) -> tuple[float, float, float]:
    """The same with its slope by x and y."""
    right = np.uint64(3)
    a, d = flat[upper], flat[lower]
    along, below = flat[upper + right] - a, flat[lower + right] - d
    top, down = a + fx * along, d + fx * below
    return top + fy * (down - top), along + fy * (below - along), down - top


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _colour(level: np.ndarray, flat: np.ndarray, x: float, y: float) -> _Colour:
    """Bilinear colour at a continuous pixel."""
    upper, lower, fx, fy = _corner(level, x, y)
    one, two = np.uint64(1), np.uint64(2)
    return (
        _bilinear(flat, upper, lower, fx, fy),
        _bilinear(flat, upper + one, lower + one, fx, fy),
        _bilinear(flat, upper + two, lower + two, fx, fy),
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _sloped_colour(level: np.ndarray, flat: np.ndarray, x: float, y: float) -> _Sloped:
    """Bilinear colour at a continuous pixel and its slopes."""
    upper, lower, fx, fy = _corner(level, x, y)
    one, two = np.uint64(1), np.uint64(2)
    r, rx, ry = _bilinear_sloped(flat, upper, lower, fx, fy)
    g, gx, gy = _bilinear_sloped(flat, upper + one, lower + one, fx, fy)
    b, bx, by = _bilinear_sloped(flat, upper + two, lower + two, fx, fy)
    return (r, g, b), (rx, gx, bx), (ry, gy, by)


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _dot(a: _Colour, b: _Colour) -> float:
    """Sum over the channels of products."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _plus(total: _Colour, weight: float, more: _Colour) -> _Colour:
    """A weighted colour added to others."""
    return total[0] + weight * more[0], total[1] + weight * more[1], total[2] + weight * more[2]


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _per_mean(colour: _Colour, mean: _Colour, half: float) -> _Colour:
    """Contrast of a colour: `HALF` of its quotient with the mean."""
    return half * colour[0] / mean[0], half * colour[1] / mean[1], half * colour[2] / mean[2]


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _slope(value: _Colour, mean: _Colour, by_pixel: _Colour, mean_by_pixel: _Colour, half: float) -> _Colour:
    """Slope of a contrast from those of the colour and of the mean."""
    return (
        (half * by_pixel[0] - value[0] * mean_by_pixel[0]) / mean[0],
        (half * by_pixel[1] - value[1] * mean_by_pixel[1]) / mean[1],
        (half * by_pixel[2] - value[2] * mean_by_pixel[2]) / mean[2],
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _contrast(level: np.ndarray, flat: np.ndarray, x: float, y: float, axes: np.ndarray, window: np.ndarray) -> _Colour:
    """Local contrast at a continuous pixel: see `tracker.local_contrast`; the plain colour where there is no window."""
    colour = _colour(level, flat, x, y)
    if window.shape[0] == 0:
        return colour
    dark = level.dtype.type(DARKEST_MEAN)
    mean = (dark, dark, dark)
    for k in range(window.shape[0]):
        u, v, w = window[k, 0], window[k, 1], window[k, 2]
        near = _colour(level, flat, x + axes[0, 0] * u + axes[0, 1] * v, y + axes[1, 0] * u + axes[1, 1] * v)
        mean = _plus(mean, w, near)
    return _per_mean(colour, mean, level.dtype.type(HALF))


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _sloped_contrast(
    level: np.ndarray, flat: np.ndarray, x: float, y: float, axes: np.ndarray, window: np.ndarray
) -> _Sloped:
    """The same and its slopes by the pixel."""
    colour, by_x, by_y = _sloped_colour(level, flat, x, y)
    if window.shape[0] == 0:
        return colour, by_x, by_y
    half, dark, none = level.dtype.type(HALF), level.dtype.type(DARKEST_MEAN), level.dtype.type(0)
    mean, mean_x, mean_y = (dark, dark, dark), (none, none, none), (none, none, none)
    for k in range(window.shape[0]):
        u, v, w = window[k, 0], window[k, 1], window[k, 2]
        near, near_x, near_y = _sloped_colour(
            level, flat, x + axes[0, 0] * u + axes[0, 1] * v, y + axes[1, 0] * u + axes[1, 1] * v
        )
        mean, mean_x, mean_y = _plus(mean, w, near), _plus(mean_x, w, near_x), _plus(mean_y, w, near_y)
    value = _per_mean(colour, mean, half)
    return value, _slope(value, mean, by_x, mean_x, half), _slope(value, mean, by_y, mean_y, half)


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _less(colour: _Colour, target: np.ndarray, m: int) -> _Colour:
    """What a colour is off its target."""
    return colour[0] - target[m, 0], colour[1] - target[m, 1], colour[2] - target[m, 2]


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
    flat, window = level.reshape(-1), window.astype(level.dtype)
    total = 0.0
    for m in range(pixels.shape[0]):
        residual = _less(_contrast(level, flat, pixels[m, 0], pixels[m, 1], axes[m], window), target, m)
        squared = _dot(residual, residual) / (3 * sigma * sigma)
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
        level: (H, W, 3) float32, contiguous.
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
    flat, window = level.reshape(-1), window.astype(level.dtype)
    total = 0.0
    for m in range(pixels.shape[0]):
        value, by_x, by_y = _sloped_contrast(level, flat, pixels[m, 0], pixels[m, 1], axes[m], window)
        residual = _less(value, target, m)
        squared = _dot(residual, residual) / (3 * sigma * sigma)
        shrink = _SCALE / (_SCALE + squared)
        total += confidence[m] * squared * shrink
        weight = shrink * shrink * confidence[m] / (3 * sigma * sigma)
        m00, m01, m11 = _dot(by_x, by_x), _dot(by_x, by_y), _dot(by_y, by_y)
        b0, b1 = _dot(by_x, residual) * weight, _dot(by_y, residual) * weight
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
    flat, window = level.reshape(-1), window.astype(level.dtype)
    for m in range(pixels.shape[0]):
        value, by_x, by_y = _sloped_contrast(level, flat, pixels[m, 0], pixels[m, 1], axes[m], window)
        for c in range(3):
            values[m, c] = value[c]
            for k in range(2):
                slopes[m, c, k] = by_x[c] * by_tangent[m, 0, k] + by_y[c] * by_tangent[m, 1, k]


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
    flat, window = level.reshape(-1), window.astype(level.dtype)
    for m in range(pixels.shape[0]):
        out[m, 0], out[m, 1], out[m, 2] = _contrast(level, flat, pixels[m, 0], pixels[m, 1], axes[m], window)
