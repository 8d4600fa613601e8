"""The landmark term in one pass over the points: the twin of `tracker.residuals.landmark` in torch.

Groups are two residuals each: first the N points (fitted minus detected pixel, in units of the detector's noise), then
the K closure pairs (the vector between two points, in its own unit). The kernel is Huber's, see `tracker.robust`.
"""

import math

import numba
import numpy as np

from tracker.kernels.options import FAST

# Standard deviations at which Huber's kernel turns linear.
KNEE = 2.0


@numba.njit(cache=True, nogil=True, inline="always")
def _huber(squared: float) -> tuple[float, float]:
    """Robust cost and weight of a squared whitened norm."""
    if squared <= KNEE * KNEE:
        return squared, 1.0
    norm = math.sqrt(squared)
    return 2 * KNEE * norm - KNEE * KNEE, KNEE / norm


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def cost(
    pixels: np.ndarray,
    targets: np.ndarray,
    confidence: np.ndarray,
    pairs: np.ndarray,
    pair_confidence: np.ndarray,
    sigmas: tuple[float, float],
) -> float:
    """Half the robust, confidence-weighted sum of squares; arguments as in `rows`."""
    total = 0.0
    for n in range(pixels.shape[0]):
        x, y = (pixels[n, 0] - targets[n, 0]) / sigmas[0], (pixels[n, 1] - targets[n, 1]) / sigmas[0]
        total += confidence[n] * _huber(x * x + y * y)[0]
    for k in range(pairs.shape[0]):
        a, b = pairs[k, 0], pairs[k, 1]
        x = (pixels[a, 0] - targets[a, 0] - pixels[b, 0] + targets[b, 0]) / sigmas[1]
        y = (pixels[a, 1] - targets[a, 1] - pixels[b, 1] + targets[b, 1]) / sigmas[1]
        total += pair_confidence[k] * _huber(x * x + y * y)[0]
    return 0.5 * total


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def rows(
    pixels: np.ndarray,
    jacobian: np.ndarray,
    targets: np.ndarray,
    confidence: np.ndarray,
    pairs: np.ndarray,
    pair_confidence: np.ndarray,
    sigmas: tuple[float, float],
    gradient: np.ndarray,
) -> float:
    """Turns the pixels' derivatives into rows of the normal equations.

    Args:
        pixels: (N, 2) fitted points.
        jacobian: (N + K, 2, P); the first N are the derivatives of the pixels. Overwritten by the rows of points and
            pairs, each times the square root of its weight.
        targets: (N, 2) detected points, pixels.
        confidence: (N,).
        pairs: (K, 2) ids into the points.
        pair_confidence: (K,).
        sigmas: standard deviations of a point and of a pair's vector, pixels.
        gradient: (P,) float64, added to.

    Returns:
        Half the robust, confidence-weighted sum of squares.
    """
    count, total = pixels.shape[0], 0.0
    for k in range(pairs.shape[0]):
        a, b = pairs[k, 0], pairs[k, 1]
        x = (pixels[a, 0] - targets[a, 0] - pixels[b, 0] + targets[b, 0]) / sigmas[1]
        y = (pixels[a, 1] - targets[a, 1] - pixels[b, 1] + targets[b, 1]) / sigmas[1]
        rho, weight = _huber(x * x + y * y)
        total += pair_confidence[k] * rho
        root = math.sqrt(pair_confidence[k] * weight)
        scale, x, y = root / sigmas[1], x * root, y * root
        first, second = jacobian[count + k, 0], jacobian[count + k, 1]
        for p in range(jacobian.shape[2]):
            first[p] = scale * (jacobian[a, 0, p] - jacobian[b, 0, p])
            second[p] = scale * (jacobian[a, 1, p] - jacobian[b, 1, p])
            gradient[p] += x * first[p] + y * second[p]
    for n in range(count):
        x, y = (pixels[n, 0] - targets[n, 0]) / sigmas[0], (pixels[n, 1] - targets[n, 1]) / sigmas[0]
        rho, weight = _huber(x * x + y * y)
        total += confidence[n] * rho
        root = math.sqrt(confidence[n] * weight)
        scale, x, y = root / sigmas[0], x * root, y * root
        first, second = jacobian[n, 0], jacobian[n, 1]
        for p in range(jacobian.shape[2]):
            first[p] *= scale
            second[p] *= scale
            gradient[p] += x * first[p] + y * second[p]
    return 0.5 * total
