"""A frame's light from its colours: the twin of `tracker.appearance.estimate_light` with its robust weights."""

from pathlib import Path

import numba
import numpy as np

from tracker import sh_constants
from tracker.kernels.options import renew

_BANDS = 9
_CONSTANTS = np.array(sh_constants.SH_CONSTANTS)


@numba.njit(cache=True, nogil=True, inline="always")
def _basis(x: float, y: float, z: float, out: np.ndarray) -> None:
    """The nine scaled basis functions at a unit normal, see `tracker.shading.sh_basis`."""
    out[0], out[1], out[2], out[3] = 1, x, y, z
    out[4], out[5], out[6], out[7], out[8] = x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1
    for band in range(_BANDS):
        out[band] *= _CONSTANTS[band]


@numba.njit(cache=True, nogil=True, inline="always")
def _error(colours: np.ndarray, albedo: np.ndarray, basis: np.ndarray, light: np.ndarray, n: int) -> float:
    """Mean over the channels of the absolute colour error of sample n."""
    total = 0.0
    for c in range(3):
        shading = 0.0
        for band in range(_BANDS):
            shading += basis[n, band] * light[band, c]
        total += abs(colours[n, c] - albedo[n, c] * shading)
    return total / 3


@numba.njit(cache=True, nogil=True)
def fitted_light(
    colours: np.ndarray,
    albedo: np.ndarray,
    normals_cam: np.ndarray,
    cosine: np.ndarray,
    prior: np.ndarray,
    inverse_std: np.ndarray,
    limits: tuple[float, float],
) -> tuple[np.ndarray, float]:
    """Robust least-squares light of one picture.

    Args:
        colours: (N, 3) picture at the samples.
        albedo: (N, 3).
        normals_cam: (N, 3) unit normals, camera frame.
        cosine: (N,) of the angle to the line of sight, the samples' weight.
        prior: (9, 3) light around which it is sought.
        inverse_std: (9,) reciprocal standard deviation of each coefficient around it.
        limits: least noise of a colour, and its ratio to the median of the colour errors under the prior.

    Returns:
        (9, 3) light, and the mean absolute colour error under it.
    """
    count = colours.shape[0]
    basis, residual = np.empty((count, _BANDS)), np.empty(count)
    for n in range(count):
        _basis(normals_cam[n, 0], normals_cam[n, 1], normals_cam[n, 2], basis[n])
        residual[n] = _error(colours, albedo, basis, prior, n)
    # The lower of two middle values, as torch's median.
    middle = (count - 1) // 2
    sigma = max(limits[1] * np.partition(residual, middle)[middle], limits[0])
    H, right = np.zeros((3, _BANDS, _BANDS)), np.zeros((3, _BANDS))
    for n in range(count):
        spread = 1 + (residual[n] / (3 * sigma)) ** 2
        weight = cosine[n] / (sigma * sigma * spread * spread)
        for c in range(3):
            share = weight * albedo[n, c]
            for i in range(_BANDS):
                right[c, i] += share * colours[n, c] * basis[n, i]
                for k in range(i + 1):
                    H[c, i, k] += share * albedo[n, c] * basis[n, i] * basis[n, k]
    light = np.empty((_BANDS, 3))
    for c in range(3):
        for i in range(_BANDS):
            for k in range(i):
                H[c, k, i] = H[c, i, k]
            precision = inverse_std[i] * inverse_std[i]
            H[c, i, i] += precision
            right[c, i] += precision * prior[i, c]
        light[:, c] = np.linalg.solve(H[c], right[c])
    total = 0.0
    for n in range(count):
        total += _error(colours, albedo, basis, light, n)
    return light, total / max(count, 1)


renew(fitted_light, [Path(sh_constants.__file__)])
