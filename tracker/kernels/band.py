"""The smoother's sums over time: changes from frame to frame, and their share of a banded matrix.

A matrix over all frames' unknowns is kept in LAPACK's lower band storage: entry (row, column) at [row - column,
column].
"""

import numba
import numpy as np

from tracker.kernels.options import KERNELS, renew
from tracker.kernels.rotations import differences


@numba.njit(cache=True, nogil=True)
def changes(stacked: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Twin of `tracker.smoother.changes` for N states, each of whose arrays is stacked: R (N, 3, 3), t (N, 3), ….

    Returns:
        (N - 1, 15 + E) change, and (2, N - 1, 3, 3) by how much an increment of the later rotation adds to it.
    """
    R, t, jaw, eyes, lids, expression = stacked
    count, size = R.shape[0] - 1, 15 + expression.shape[1]
    change, later, ones = np.empty((count, size)), np.empty((2, count, 3, 3)), np.ones(size)
    for n in range(count):
        m = n + 1
        before = (R[n], t[n], jaw[n], eyes[n], lids[n], expression[n])
        after = (R[m], t[m], jaw[m], eyes[m], lids[m], expression[m])
        change[n], later[0, n], later[1, n] = differences(after, before, ones)
    return change, later


@numba.njit(cache=True, nogil=True)
def _add_rows(
    band: np.ndarray,
    b: np.ndarray,
    first: int,
    start: int,
    jacobians: np.ndarray,
    residual: np.ndarray,
    weight: np.ndarray,
) -> None:
    """Adds one residual (3,) of K consecutive frames' blocks of three unknowns, weighted (3,).

    Args:
        band: the matrix.
        b: (N, P) its right side.
        first: the first of the frames.
        start: the first of the unknowns.
        jacobians: (K, 3, 3).
        residual: (3,).
        weight: (3,).
    """
    size = b.shape[1]
    for later in range(jacobians.shape[0]):
        weighted = jacobians[later].T * weight
        for row in range(3):
            for k in range(3):
                b[first + later, start + row] += weighted[row, k] * residual[k]
        for earlier in range(later + 1):
            for row in range(3):
                for column in range(row + 1 if earlier == later else 3):
                    product = 0.0
                    for k in range(3):
                        product += weighted[row, k] * jacobians[earlier, k, column]
                    offset = (later - earlier) * size + row - column
                    band[offset, (first + earlier) * size + start + column] += product


@numba.njit(cache=True, nogil=True)
def add_turns(
    band: np.ndarray,
    b: np.ndarray,
    start: int,
    later: np.ndarray,
    change: np.ndarray,
    chains: tuple[np.ndarray, np.ndarray],
    weights: tuple[np.ndarray, np.ndarray],
) -> None:
    """Adds first and second differences of a rotation over time.

    Args:
        band: the matrix.
        b: (N, P) its right side.
        start: the first of the rotation's unknowns.
        later: (N - 1, 3, 3) by how much an increment of the later rotation adds to the change.
        change: (N - 1, P) of all unknowns, from each frame to the next.
        chains: frames (F,) that are linked with their next, and those (S,) linked with their next two.
        weights: of first and of second differences, (P,) each.
    """
    firsts, seconds = chains
    own = slice(start, start + 3)
    walk, weight = weights[0][own], weights[1][own]
    two, three = np.empty((2, 3, 3)), np.empty((3, 3, 3))
    for f in firsts:
        two[0], two[1] = -later[f].T, later[f]
        _add_rows(band, b, f, start, two, change[f, own], walk)
    for f in seconds:
        three[0], three[1], three[2] = later[f].T, -later[f] - later[f + 1].T, later[f + 1]
        _add_rows(band, b, f, start, three, change[f + 1, own] - change[f, own], weight)


renew(add_turns, KERNELS)
