"""One code out of several frames' codes, whatever some of them say."""

from dataclasses import dataclass

import numpy as np

# Noise in 300 dimensions is nearly as long in every frame; a code twice as far out as half of the others is not noise.
_OUTLIER = 2.0
_STEPS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class RobustMean:
    """The common code.

    Attributes:
        code: (D,) float64.
        distances: (N,) of each code from the geometric median, rms over the coefficients.
        outliers: (N,) bool, codes that were left out.
    """

    code: np.ndarray
    distances: np.ndarray
    outliers: np.ndarray


def robust_mean(codes: np.ndarray) -> RobustMean:
    """The mean of the codes that lie about the geometric median.

    The median alone would do: it stays put as long as less than half of the codes are wrong. The mean of those near it
    has less noise.

    Args:
        codes: (N, D), N at least 1.

    Source: Weiszfeld's iteration (Vardi and Zhang, The multivariate L1-median and associated data depth, PNAS 2000).
    """
    codes = np.asarray(codes, np.float64)
    median = _geometric_median(codes)
    distances = np.sqrt(((codes - median) ** 2).mean(1))
    outliers = distances > _OUTLIER * max(float(np.median(distances)), _TOLERANCE)
    return RobustMean(codes[~outliers].mean(0), distances, outliers)


def _geometric_median(codes: np.ndarray) -> np.ndarray:
    """The point whose distances to the codes have the smallest sum."""
    point = np.median(codes, axis=0)
    for _ in range(_STEPS):
        weight = 1 / np.maximum(np.linalg.norm(codes - point, axis=1), _TOLERANCE)
        moved = weight @ codes / weight.sum()
        if np.linalg.norm(moved - point) < _TOLERANCE:
            break
        point = moved
    return moved
