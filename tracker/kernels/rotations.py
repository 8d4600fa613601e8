"""Exponential and logarithm of SO(3) for float64 arrays: the twins of `tracker.rotations.exp_so3` and `log_so3`."""

import math

import numba
import numpy as np

# Below this angle (radians) the closed forms lose digits and their Taylor series are exact to float64.
_SMALL_ANGLE = 1e-4


@numba.njit(cache=True, nogil=True)
def exp_so3(w: np.ndarray) -> np.ndarray:
    """(N, 3) axis-angle vectors to (N, 3, 3) matrices (Rodrigues)."""
    out = np.empty((w.shape[0], 3, 3))
    for n in range(w.shape[0]):
        x, y, z = w[n, 0], w[n, 1], w[n, 2]
        squared = x * x + y * y + z * z
        if squared < _SMALL_ANGLE * _SMALL_ANGLE:
            a, b = 1 - squared / 6, 0.5 - squared / 24
        else:
            angle = math.sqrt(squared)
            a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / squared
        out[n, 0, 0] = 1 - b * (y * y + z * z)
        out[n, 1, 1] = 1 - b * (x * x + z * z)
        out[n, 2, 2] = 1 - b * (x * x + y * y)
        out[n, 0, 1], out[n, 1, 0] = b * x * y - a * z, b * x * y + a * z
        out[n, 0, 2], out[n, 2, 0] = b * x * z + a * y, b * x * z - a * y
        out[n, 1, 2], out[n, 2, 1] = b * y * z - a * x, b * y * z + a * x
    return out


@numba.njit(cache=True, nogil=True)
def log_so3(R: np.ndarray) -> np.ndarray:
    """(N, 3, 3) matrices to (N, 3) axis-angle vectors, by the unit quaternion of the largest component."""
    out = np.empty((R.shape[0], 3))
    q = np.empty(4)
    for n in range(R.shape[0]):
        m = R[n]
        trace = m[0, 0] + m[1, 1] + m[2, 2]
        if trace >= max(m[0, 0], m[1, 1], m[2, 2]):
            q[0], q[1], q[2], q[3] = 1 + trace, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
        elif m[0, 0] >= m[1, 1] and m[0, 0] >= m[2, 2]:
            q[0], q[1], q[2], q[3] = m[2, 1] - m[1, 2], 1 + 2 * m[0, 0] - trace, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]
        elif m[1, 1] >= m[2, 2]:
            q[0], q[1], q[2], q[3] = m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 + 2 * m[1, 1] - trace, m[1, 2] + m[2, 1]
        else:
            q[0], q[1], q[2], q[3] = m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 + 2 * m[2, 2] - trace
        length = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
        sign = -1.0 if q[0] < 0 else 1.0
        for k in range(4):
            q[k] *= sign / length
        norm = math.sqrt(q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
        scale = 2 / max(q[0], 0.5) if norm < _SMALL_ANGLE else 2 * math.atan2(norm, q[0]) / norm
        for k in range(3):
            out[n, k] = scale * q[k + 1]
    return out
