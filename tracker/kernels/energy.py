"""One frame's whole energy in one call: what `tracker.problem.FrameProblem` adds up term by term.

A term's points come as its surface, its joints and its camera (see `tracker.kernels.points`); all points and pictures
have one dtype. A term that is missing has no points.
"""

from typing import Any

import numba
import numpy as np

from tracker.kernels import contrast, landmarks
from tracker.kernels.frame import State, add_gaussian, add_gaze, box, gaussian_cost, gaze_cost
from tracker.kernels.options import KERNELS, renew
from tracker.kernels.points import Joints, Surface, posed, project
from tracker.kernels.points import linearise as linearise_points

# Surface, joints, camera, targets (N, 2), confidence (N,), pairs (K, 2), their confidence (K,), both sigmas.
LandmarkArrays = tuple[Any, ...]
# Surface, joints, camera, level (H, W, 3), axes (M, 2, 2), window, target (M, 3), confidence (M,), sigma.
SampleArrays = tuple[Any, ...]
# Of each: target state and inverse standard deviations (P,).
GaussianArrays = tuple[Any, ...]


@numba.njit(cache=True, nogil=True)
def _projected(now: State, surface: Surface, joints: Joints, camera: np.ndarray, count: int) -> np.ndarray:
    """Pixels (N, 2) of a term's points."""
    R, t, jaw, eyes, lids, expression = now
    pixels = np.empty((count, 2), surface[0].dtype)
    project(surface, posed(R, t, jaw, eyes, lids, expression, joints, camera), pixels)
    return pixels


@numba.njit(cache=True, nogil=True)
def _linearised(
    now: State, surface: Surface, joints: Joints, camera: np.ndarray, count: int, rows: np.ndarray
) -> np.ndarray:
    """The same; their derivatives are written into the first of the rows."""
    R, t, jaw, eyes, lids, expression = now
    pixels, by_rest = np.empty((count, 2), rows.dtype), np.empty((count, 2, 3), rows.dtype)
    linearise_points(surface, posed(R, t, jaw, eyes, lids, expression, joints, camera), pixels, rows, by_rest)
    return pixels


@numba.njit(cache=True, nogil=True)
def _landmark_rows(now: State, term: LandmarkArrays, rows: np.ndarray, g: np.ndarray) -> float:
    surface, joints, camera, targets, confidence, pairs, pair_confidence, sigmas = term
    pixels = _linearised(now, surface, joints, camera, targets.shape[0], rows)
    total: float = landmarks.rows(pixels, rows, targets, confidence, pairs, pair_confidence, sigmas, g)
    return total


@numba.njit(cache=True, nogil=True)
def _landmark_cost(now: State, term: LandmarkArrays) -> float:
    surface, joints, camera, targets, confidence, pairs, pair_confidence, sigmas = term
    pixels = _projected(now, surface, joints, camera, targets.shape[0])
    total: float = landmarks.cost(pixels, targets, confidence, pairs, pair_confidence, sigmas)
    return total


@numba.njit(cache=True, nogil=True)
def _sample_rows(now: State, term: SampleArrays, rows: np.ndarray, g: np.ndarray) -> float:
    surface, joints, camera, level, axes, window, target, confidence, sigma = term
    pixels = _linearised(now, surface, joints, camera, target.shape[0], rows)
    total: float = contrast.rows(level, pixels, rows, axes, window, target, confidence, sigma, g)
    return total


@numba.njit(cache=True, nogil=True)
def _sample_cost(now: State, term: SampleArrays) -> float:
    surface, joints, camera, level, axes, window, target, confidence, sigma = term
    pixels = _projected(now, surface, joints, camera, target.shape[0])
    total: float = contrast.cost(level, pixels, axes, window, target, confidence, sigma)
    return total


@numba.njit(cache=True, nogil=True)
def linearise(
    now: State,
    marks: LandmarkArrays,
    samples: SampleArrays,
    gaussians: GaussianArrays,
    gaze: tuple[float, float],
    limits: np.ndarray,
    held: np.ndarray,
    rows: np.ndarray,
    H: np.ndarray,
    g: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Linearises all terms.

    Args:
        now: the state.
        marks: the landmark term.
        samples: the photometric term.
        gaussians: two, priors and pulls.
        gaze: standard deviations of yaw and pitch between the eyes.
        limits: (P, 2) lowest and highest values.
        held: (P,) bool, not solved for.
        rows: (N + K + M, 2, P) written: landmarks, pairs, samples, as rows whose product with themselves is their share
            of the normal matrix.
        H: (P, P) the other terms' share is added to it.
        g: (P,) the whole gradient is added to it.

    Returns:
        The robust cost, and what the bounds allow, see `tracker.kernels.frame.box`.
    """
    first = marks[3].shape[0] + marks[5].shape[0]
    total = 0.0
    if marks[3].shape[0] > 0:
        total += _landmark_rows(now, marks, rows[:first], g)
    if samples[6].shape[0] > 0:
        total += _sample_rows(now, samples, rows[first:], g)
    for target, inverse_std in gaussians:
        total += add_gaussian(now, target, inverse_std, H, g)
    total += add_gaze(now[3], gaze, H, g)
    frozen, lowest, highest = box(now, limits, held, g)
    return total, frozen, lowest, highest


@numba.njit(cache=True, nogil=True)
def cost(
    now: State, marks: LandmarkArrays, samples: SampleArrays, gaussians: GaussianArrays, gaze: tuple[float, float]
) -> float:
    """The robust cost of all terms; arguments as in `linearise`."""
    total = 0.0
    if marks[3].shape[0] > 0:
        total += _landmark_cost(now, marks)
    if samples[6].shape[0] > 0:
        total += _sample_cost(now, samples)
    for target, inverse_std in gaussians:
        total += gaussian_cost(now, target, inverse_std)
    total += gaze_cost(now[3], gaze)
    return total


renew(linearise, KERNELS)
