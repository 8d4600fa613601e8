"""Fairing: the smoothest surface through fixed vertices, attracted to soft targets (bi-Laplacian energy).

Source: Botsch and Kobbelt, An Intuitive Framework for Real-Time Freeform Modeling, SIGGRAPH 2004, section 4.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from tracker.head.build.mesh import adjacency, cotangent_laplacian, vertex_normals


@dataclass(frozen=True)
class SoftTargets:
    """Attraction of vertices to positions.

    Attributes:
        positions: (V, 3) mm.
        weights: (V,) stiffness; 0 leaves a vertex to the fairing alone.
    """

    positions: np.ndarray
    weights: np.ndarray


def fair(
    vertices: np.ndarray, triangles: np.ndarray, fixed: np.ndarray, soft: SoftTargets, iterations: int = 2
) -> np.ndarray:
    """Vertices that minimise the bi-Laplacian energy.

    Args:
        vertices: (V, 3) mm, the start; its triangles supply the cotangent weights.
        triangles: (F, 3).
        fixed: (V,) bool, vertices that stay.
        soft: attraction of the free vertices.
        iterations: solves; each takes its weights from the surface of the last.

    Returns:
        (V, 3) mm.
    """
    out = vertices.copy()
    free = ~fixed
    for _ in range(iterations):
        laplacian, areas = cotangent_laplacian(out, triangles)
        # Mean edge length makes stiffness comparable with the bending term, whose unit is mm^-2 of area weight.
        energy = laplacian @ sparse.diags(1 / areas) @ laplacian
        system = energy + sparse.diags(soft.weights * areas)
        rhs = (soft.weights * areas)[:, None] * soft.positions - energy[:, fixed] @ out[fixed]
        solver = splu(system[free][:, free].tocsc())
        out[free] = solver.solve(rhs[free])
    return out


def fair_values(vertices: np.ndarray, triangles: np.ndarray, fixed: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The smoothest values (V, K) over a surface that keep those of the `fixed` vertices."""
    laplacian, areas = cotangent_laplacian(vertices, triangles)
    energy = (laplacian @ sparse.diags(1 / areas) @ laplacian).tocsr()
    out = values.copy()
    free = ~fixed
    out[free] = splu(energy[free][:, free].tocsc()).solve(-energy[free][:, fixed] @ values[fixed])
    return out


def smooth_tangentially(
    vertices: np.ndarray, triangles: np.ndarray, movable: np.ndarray, rounds: int, step: float = 0.5
) -> np.ndarray:
    """Evens out triangles: moves vertices towards their neighbours' mean, within the tangent plane."""
    out = vertices.copy()
    neighbours = adjacency(triangles, len(vertices))
    degree = np.maximum(np.asarray(neighbours.sum(1)), 1)
    for _ in range(rounds):
        normals = vertex_normals(out, triangles)
        move = neighbours @ out / degree - out
        move -= (move * normals).sum(1, keepdims=True) * normals
        out[movable] += step * move[movable]
    return out
