"""Priors, bounds and steps of one frame's unknowns, in `tracker.state.Layout` order.

A state is a tuple of float64 arrays: R (3, 3), t (3,), jaw (3, 3), eyes (2, 2), lids (2,), expression (E,); P = 15 + E.
Twins of `tracker.residuals.prior`, `tracker.problem.Bounds` and `tracker.state.FrameState.retract` in torch.
"""

import numba
import numpy as np

from tracker.kernels.options import KERNELS, renew
from tracker.kernels.rotations import differences, exp_so3

_EYES, _LIDS, _EXPRESSION = 9, 13, 15
State = tuple[np.ndarray, ...]


@numba.njit(cache=True, nogil=True)
def add_gaussian(now: State, then: State, inverse_std: np.ndarray, H: np.ndarray, g: np.ndarray) -> float:
    """Adds an independent normal distribution of every unknown around a target state.

    Args:
        now: the state.
        then: its mean.
        inverse_std: (P,).
        H: (P, P) added to.
        g: (P,) added to.

    Returns:
        Half the sum of squares.
    """
    residual, rotation, jaw = differences(now, then, inverse_std)
    total = 0.0
    for p in range(residual.shape[0]):
        total += residual[p] * residual[p]
        if p >= _EYES or 3 <= p < 6:
            H[p, p] += inverse_std[p] * inverse_std[p]
            g[p] += inverse_std[p] * residual[p]
    for a in range(3):
        for b in range(3):
            for k in range(3):
                H[a, b] += rotation[k, a] * rotation[k, b]
                H[6 + a, 6 + b] += jaw[k, a] * jaw[k, b]
            g[a] += rotation[b, a] * residual[b]
            g[6 + a] += jaw[b, a] * residual[6 + b]
    return 0.5 * total


@numba.njit(cache=True, nogil=True)
def gaussian_cost(now: State, then: State, inverse_std: np.ndarray) -> float:
    """Half the sum of squares of `add_gaussian`."""
    residual = differences(now, then, inverse_std)[0]
    total = 0.0
    for p in range(residual.shape[0]):
        total += residual[p] * residual[p]
    return 0.5 * total


@numba.njit(cache=True, nogil=True)
def add_gaze(eyes: np.ndarray, stds: tuple[float, float], H: np.ndarray, g: np.ndarray) -> float:
    """Adds the symmetry of gaze: yaw and pitch of both eyes differ by `stds`; returns half the sum of squares."""
    total = 0.0
    for angle in range(2):
        left, right = _EYES + angle, _EYES + 2 + angle
        precision, difference = 1 / stds[angle] ** 2, eyes[0, angle] - eyes[1, angle]
        H[left, left] += precision
        H[right, right] += precision
        H[left, right] -= precision
        H[right, left] -= precision
        g[left] += precision * difference
        g[right] -= precision * difference
        total += precision * difference * difference
    return 0.5 * total


@numba.njit(cache=True, nogil=True)
def gaze_cost(eyes: np.ndarray, stds: tuple[float, float]) -> float:
    """Half the sum of squares of `add_gaze`."""
    yaw, pitch = (eyes[0, 0] - eyes[1, 0]) / stds[0], (eyes[0, 1] - eyes[1, 1]) / stds[1]
    return 0.5 * (yaw * yaw + pitch * pitch)


@numba.njit(cache=True, nogil=True)
def box(
    now: State, limits: np.ndarray, held: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the bounds allow.

    Args:
        now: the state.
        limits: (P, 2) lowest and highest value; infinite for the unknowns of the pose.
        held: (P,) bool, not solved for.
        gradient: (P,).

    Returns:
        (P,) bool: held, or at a bound that descent would push further out; smallest and largest step (P,).
    """
    size = limits.shape[0]
    frozen, lowest, highest = held.copy(), np.full(size, -np.inf), np.full(size, np.inf)
    for p in range(_EYES, size):
        if p < _LIDS:
            value = now[3][(p - _EYES) // 2, (p - _EYES) % 2]
        elif p < _EXPRESSION:
            value = now[4][p - _LIDS]
        else:
            value = now[5][p - _EXPRESSION]
        low, high = limits[p, 0], limits[p, 1]
        if (value <= low and gradient[p] > 0) or (value >= high and gradient[p] < 0):
            frozen[p] = True
        lowest[p], highest[p] = min(low - value, 0.0), max(high - value, 0.0)
    return frozen, lowest, highest


@numba.njit(cache=True, nogil=True)
def retract(now: State, step: np.ndarray, limits: np.ndarray) -> State:
    """The state after a step (P,), clamped to `limits` (P, 2)."""
    turns = np.empty((2, 3))
    turns[0], turns[1] = step[0:3], step[6:9]
    turned = exp_so3(turns)
    eyes, lids, expression = now[3].copy(), now[4].copy(), now[5].copy()
    for a in range(2):
        for b in range(2):
            p = _EYES + 2 * a + b
            eyes[a, b] = max(min(eyes[a, b] + step[p], limits[p, 1]), limits[p, 0])
        lids[a] = max(min(lids[a] + step[_LIDS + a], limits[_LIDS + a, 1]), limits[_LIDS + a, 0])
    for e in range(expression.shape[0]):
        p = _EXPRESSION + e
        expression[e] = max(min(expression[e] + step[p], limits[p, 1]), limits[p, 0])
    return turned[0] @ now[0], now[1] + step[3:6], turned[1] @ now[2], eyes, lids, expression


renew(retract, KERNELS)
