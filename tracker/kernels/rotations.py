"""Rotations of the solver in float64; `exp_so3` and `log_so3` are the twins of those of `tracker.rotations`."""

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


@numba.njit(cache=True, nogil=True)
def inverse_left_jacobian(w: np.ndarray) -> np.ndarray:
    """Derivative (3, 3) of log(exp(d) exp(w)) by d at d = 0.

    Source: Sola et al., A micro Lie theory, 2018, equation 146.
    """
    k = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    angle = math.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    if angle < _SMALL_ANGLE:
        factor = 1.0 / 12.0
    else:
        half = angle / 2
        factor = (1 - half / math.tan(half)) / (angle * angle)
    return np.eye(3) - 0.5 * k + factor * (k @ k)


@numba.njit(cache=True, nogil=True)
def differences(
    now: tuple[np.ndarray, ...], then: tuple[np.ndarray, ...], inverse_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whitened difference of two states and its derivative by the two rotations.

    Args:
        now: R (3, 3), t (3,), jaw (3, 3), eyes (2, 2), lids (2,), expression (E,).
        then: the same of the target.
        inverse_std: (15 + E,) in `Layout` order.

    Returns:
        residual (15 + E,), and the (3, 3) blocks of rotation and jaw, whitened.
    """
    R, t, jaw, eyes, lids, expression = now
    R0, t0, jaw0, eyes0, lids0, expression0 = then
    turns = np.empty((2, 3, 3))
    turns[0], turns[1] = R @ R0.T, jaw @ jaw0.T
    logs = log_so3(turns)
    residual = np.empty(15 + expression.shape[0])
    for a in range(3):
        residual[a], residual[3 + a], residual[6 + a] = logs[0, a], t[a] - t0[a], logs[1, a]
    for a in range(2):
        for b in range(2):
            residual[9 + 2 * a + b] = eyes[a, b] - eyes0[a, b]
        residual[13 + a] = lids[a] - lids0[a]
    for e in range(expression.shape[0]):
        residual[15 + e] = expression[e] - expression0[e]
    residual *= inverse_std
    first, second = inverse_left_jacobian(logs[0]), inverse_left_jacobian(logs[1])
    for a in range(3):
        first[a] *= inverse_std[a]
        second[a] *= inverse_std[6 + a]
    return residual, first, second
