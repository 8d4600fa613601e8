"""Steps of damped Gauss-Newton within a box: the twin of `tracker.normal_equations.bounded_step_torch`."""

import math

import numba
import numpy as np

# Unknowns that a step would carry over a bound are set on it and the others solved for again, at most so often.
BOUND_PASSES = 5


@numba.njit(cache=True, nogil=True)
def _solved(H: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution (N,) of a symmetric, positive definite (N, N) system; raises numpy's LinAlgError where it is not."""
    L = np.linalg.cholesky(H)
    x = right.copy()
    size = x.shape[0]
    for i in range(size):
        value = x[i]
        for k in range(i):
            value -= L[i, k] * x[k]
        x[i] = value / L[i, i]
    for i in range(size - 1, -1, -1):
        x[i] /= L[i, i]
        for k in range(i):
            x[k] -= L[i, k] * x[i]
    return x


@numba.njit(cache=True, nogil=True)
def _solve_moving(H: np.ndarray, g: np.ndarray, moving: np.ndarray, step: np.ndarray) -> None:
    """Writes the moving unknowns' minimiser into the step; the others keep what it says."""
    ids = np.flatnonzero(moving)
    count = ids.shape[0]
    part, right = np.empty((count, count)), np.empty(count)
    for i in range(count):
        row = H[ids[i]]
        value = g[ids[i]]
        for p in range(row.shape[0]):
            if not moving[p]:
                value += row[p] * step[p]
        right[i] = value
        for k in range(count):
            part[i, k] = row[ids[k]]
    solution = _solved(part, right)
    for i in range(count):
        step[ids[i]] = -solution[i]


@numba.njit(cache=True, nogil=True)
def _let_go(
    H: np.ndarray,
    g: np.ndarray,
    free: np.ndarray,
    moving: np.ndarray,
    step: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
) -> bool:
    """Lets unknowns move again that rest on a bound and would rather come back; whether there are any."""
    found = False
    for p in range(g.shape[0]):
        if free[p] and not moving[p] and lowest[p] < highest[p]:
            slope = g[p]
            for k in range(g.shape[0]):
                slope += H[p, k] * step[k]
            if (step[p] <= lowest[p] and slope < 0) or (step[p] >= highest[p] and slope > 0):
                moving[p] = found = True
    return found


@numba.njit(cache=True, nogil=True)
def bounded(H: np.ndarray, g: np.ndarray, free: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Minimiser (P,) of `0.5 x^T H x + g^T x` over the free unknowns within a box, the others zero.

    Args:
        H: (P, P) float64.
        g: (P,).
        free: (P,) bool.
        lowest: (P,) lower bounds of the step, at most zero.
        highest: (P,) upper bounds, at least zero.

    Raises:
        numpy.linalg.LinAlgError: the matrix of the free unknowns is not positive definite.
    """
    step, moving = np.zeros_like(g), free.copy()
    for _ in range(BOUND_PASSES):
        if not moving.any():
            break
        _solve_moving(H, g, moving, step)
        over = False
        for p in range(g.shape[0]):
            if moving[p] and (step[p] < lowest[p] or step[p] > highest[p]):
                step[p] = min(max(step[p], lowest[p]), highest[p])
                moving[p], over = False, True
        if not over and not _let_go(H, g, free, moving, step, lowest, highest):
            break
    return step


@numba.njit(cache=True, nogil=True, error_model="numpy")
def damped(
    H: np.ndarray,
    g: np.ndarray,
    damping: float,
    scale: np.ndarray,
    frozen: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
) -> np.ndarray:
    """`bounded` with damping: that share of the diagonal, and of what standard deviations `scale` (P,) say, is added.

    Unknowns that are `frozen` (P,) stay.
    """
    matrix, free = H.copy(), ~frozen
    for p in range(g.shape[0]):
        matrix[p, p] += damping * (H[p, p] + 1 / scale[p] ** 2)
    step: np.ndarray = bounded(matrix, g, free, lowest, highest)
    return step


@numba.njit(cache=True, nogil=True)
def decrease(H: np.ndarray, g: np.ndarray, step: np.ndarray) -> float:
    """How far a step lowers `0.5 x^T H x + g^T x`."""
    total = 0.0
    for p in range(g.shape[0]):
        curved = 0.0
        for k in range(g.shape[0]):
            curved += H[p, k] * step[k]
        total -= step[p] * (g[p] + 0.5 * curved)
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def relative_length(step: np.ndarray, scale: np.ndarray) -> float:
    """RMS of a step (P,) in units of `scale` (P,)."""
    total = 0.0
    for p in range(step.shape[0]):
        total += (step[p] / scale[p]) ** 2
    return math.sqrt(total / max(step.shape[0], 1))
