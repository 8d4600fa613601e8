"""Relaxes a flat embedding: least symmetric Dirichlet energy with a wanted size for every triangle, nothing flips.

Sources: Smith and Schaefer, Bijective Parameterization with Free Boundaries, SIGGRAPH 2015 (energy); Claici,
Bessmeltsev, Schaefer and Solomon, Isometry-Aware Preconditioning for Mesh Parameterization, SGP 2017 (descent).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


@dataclass(frozen=True)
class RelaxProblem:
    """A planar mesh and what its triangles should look like.

    Attributes:
        triangles: (F, 3).
        rest: (F, 2, 2) columns are the two edges from the first corner of the wanted triangle.
        weights: (F,) importance.
        fixed: (N,) bool.
    """

    triangles: np.ndarray
    rest: np.ndarray
    weights: np.ndarray
    fixed: np.ndarray


def rest_shapes(vertices: np.ndarray, triangles: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Triangles of a surface laid flat, scaled by `size`: (F, 2, 2)."""
    u = vertices[triangles[:, 1]] - vertices[triangles[:, 0]]
    v = vertices[triangles[:, 2]] - vertices[triangles[:, 0]]
    length = np.maximum(np.linalg.norm(u, axis=1), 1e-9)
    along = (u * v).sum(1) / length
    height = np.maximum(np.linalg.norm(np.cross(u, v), axis=1) / length, 0.02 * length)
    out = np.zeros((len(triangles), 2, 2))
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 1] = length, along, height
    return out * size[:, None, None]


def relax(plane: np.ndarray, problem: RelaxProblem, iterations: int) -> np.ndarray:
    """Lowers the energy by preconditioned descent with backtracking from a valid start: (N, 2) to (N, 2)."""
    inverse = np.linalg.inv(problem.rest)
    solver = _preconditioner(plane, problem)
    free = ~problem.fixed
    energy, gradient = _energy(plane, problem, inverse)
    step = 1.0
    for _ in range(iterations):
        direction = np.zeros_like(plane)
        direction[free] = -solver.solve(gradient[free])
        slope = float((gradient * direction).sum())
        step = min(2 * step, 1.0)
        while step > 1e-8:
            trial = plane + step * direction
            trial_energy, trial_gradient = _energy(trial, problem, inverse)
            if trial_energy <= energy + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        plane, energy, gradient = trial, trial_energy, trial_gradient
    return plane


def _preconditioner(plane: np.ndarray, problem: RelaxProblem):  # type: ignore[no-untyped-def]
    inverse = np.linalg.inv(problem.rest)
    # Gradient of the three hat functions over the wanted triangle.
    hats = np.concatenate([-inverse.sum(1, keepdims=True), inverse], 1)
    area = np.abs(np.linalg.det(problem.rest)) / 2 * problem.weights
    local = np.einsum("fad,fbd,f->fab", hats, hats, 4 * area)
    rows = np.repeat(problem.triangles, 3, axis=1)
    cols = np.tile(problem.triangles, (1, 3))
    count = len(plane)
    matrix = sparse.coo_matrix((local.ravel(), (rows.ravel(), cols.ravel())), (count, count)).tocsr()
    free = ~problem.fixed
    return splu((matrix[free][:, free] + 1e-9 * sparse.identity(int(free.sum()))).tocsc())


def _energy(plane: np.ndarray, problem: RelaxProblem, inverse: np.ndarray) -> tuple[float, np.ndarray]:
    corners = plane[problem.triangles]
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 2)
    jacobian = edges @ inverse
    det = np.linalg.det(jacobian)
    if det.min() <= 1e-7:
        return np.inf, np.zeros_like(plane)
    area = np.abs(np.linalg.det(problem.rest)) / 2 * problem.weights
    norm2 = (jacobian**2).sum((1, 2))
    energy = float((area * norm2 * (1 + 1 / det**2)).sum())
    cofactor = np.stack(
        [np.stack([jacobian[:, 1, 1], -jacobian[:, 1, 0]], 1), np.stack([-jacobian[:, 0, 1], jacobian[:, 0, 0]], 1)], 1
    )
    slope = 2 * jacobian * (1 + 1 / det**2)[:, None, None] - (2 * norm2 / det**3)[:, None, None] * cofactor
    edge_slope = area[:, None, None] * (slope @ np.transpose(inverse, (0, 2, 1)))
    gradient = np.zeros_like(plane)
    np.add.at(gradient, problem.triangles[:, 1], edge_slope[:, :, 0])
    np.add.at(gradient, problem.triangles[:, 2], edge_slope[:, :, 1])
    np.add.at(gradient, problem.triangles[:, 0], -edge_slope.sum(2))
    return energy, gradient
