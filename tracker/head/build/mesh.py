"""Triangle-mesh helpers of the head builder: edges, boundary loops, subdivision, Laplacians, mirror maps."""

from collections import defaultdict

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

Edge = tuple[int, int]


def unique_edges(triangles: np.ndarray) -> np.ndarray:
    """Undirected edges, (E, 2) sorted by vertex id, of (F, 3) triangles."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(pairs, 1), axis=0)


def boundary_loops(triangles: np.ndarray) -> list[list[int]]:
    """Boundary loops in the direction of their triangles' half-edges, longest first."""
    directed = {(int(a), int(b)) for tri in triangles for a, b in zip(tri, np.roll(tri, -1), strict=True)}
    following = {a: b for a, b in sorted(directed) if (b, a) not in directed}
    loops = []
    while following:
        start = min(following)
        loop = [start]
        vertex = following.pop(start)
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


def in_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which of (N, 2) points lie inside a polygon (M, 2), by the parity of crossings."""
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    spans = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return (spans & (x < crossing)).sum(1) % 2 == 1


def mirror_map(vertices: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """For each vertex the id of its mirror image across x = 0.

    Raises:
        ValueError: a vertex has no partner within `tolerance`.
    """
    distance, partner = cKDTree(vertices).query(vertices * [-1, 1, 1])
    if distance.max() > tolerance:
        raise ValueError(f"mesh is not symmetric: vertex {int(distance.argmax())} is {distance.max():.4f} off")
    return partner


def adjacency(triangles: np.ndarray, count: int) -> sparse.csr_matrix:
    """Symmetric 0/1 adjacency matrix (count, count)."""
    a, b = unique_edges(triangles).T
    ones = np.ones(len(a))
    upper = sparse.coo_matrix((ones, (a, b)), shape=(count, count))
    return (upper + upper.T).tocsr()


def cotangent_laplacian(vertices: np.ndarray, triangles: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Cotangent Laplacian (rows sum to 0, positive off-diagonals) and barycentric vertex areas.

    Cotangents are floored at 0.02 so that obtuse triangles cannot turn a weight negative.
    """
    count = len(vertices)
    rows, cols, values = [], [], []
    areas = np.zeros(count)
    for k in range(3):
        i, j, o = triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3], triangles[:, k]
        u, v = vertices[i] - vertices[o], vertices[j] - vertices[o]
        twice_area = np.linalg.norm(np.cross(u, v), axis=1)
        cot = np.maximum((u * v).sum(1) / np.maximum(twice_area, 1e-9), 0.02) / 2
        rows += [i, j]
        cols += [j, i]
        values += [cot, cot]
        np.add.at(areas, o, twice_area / 6)
    places = (np.concatenate(rows), np.concatenate(cols))
    weights = sparse.coo_matrix((np.concatenate(values), places), (count, count)).tocsr()
    return weights - sparse.diags(np.asarray(weights.sum(1)).ravel()), np.maximum(areas, 1e-6)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit vertex normals (V, 3)."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def subdivide(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[Edge, int]]:
    """One 1-to-4 subdivision with modified-butterfly midpoints; the old vertices keep id and position.

    Returns:
        Vertices, triangles, and the id of the midpoint of each old edge (keys sorted).

    Source: Zorin, Schroeder and Sweldens, Interpolating Subdivision for Meshes with Arbitrary Topology, SIGGRAPH 1996.
    """
    stencil = ButterflyStencil(triangles)
    midpoint: dict[Edge, int] = {}
    points = list(vertices)
    for a, b in unique_edges(triangles).tolist():
        midpoint[a, b] = len(points)
        points.append(sum(w * vertices[i] for i, w in stencil.weights(a, b)))
    out = []
    for a, b, c in triangles.tolist():
        ab, bc, ca = (midpoint[min(e), max(e)] for e in ((a, b), (b, c), (c, a)))
        out += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.array(points), np.array(out), midpoint


class ButterflyStencil:
    """Vertex weights of new edge points."""

    def __init__(self, triangles: np.ndarray) -> None:
        self.opposite: dict[Edge, int] = {}
        for a, b, c in triangles.tolist():
            self.opposite.update({(a, b): c, (b, c): a, (c, a): b})
        self.boundary: dict[int, list[int]] = defaultdict(list)
        for a, b in self.opposite:
            if (b, a) not in self.opposite:
                self.boundary[a].append(b)
                self.boundary[b].append(a)
        neighbours: dict[int, set[int]] = defaultdict(set)
        for a, b in self.opposite:
            neighbours[a].add(b)
            neighbours[b].add(a)
        self.valence = {vertex: len(ring) for vertex, ring in neighbours.items()}

    def weights(self, a: int, b: int) -> list[tuple[int, float]]:
        """(vertex, weight) pairs of the point that splits edge ab."""
        if (a, b) not in self.opposite or (b, a) not in self.opposite:
            return self._on_boundary(a, b)
        ends = [end for end in (a, b) if end not in self.boundary and self.valence[end] != 6]
        if ends:
            parts = [self._extraordinary(end, b if end == a else a) for end in ends]
            return [(i, w / len(parts)) for part in parts for i, w in part]
        return self._regular(a, b)

    def _on_boundary(self, a: int, b: int) -> list[tuple[int, float]]:
        before = next(i for i in self.boundary[a] if i != b)
        after = next(i for i in self.boundary[b] if i != a)
        return [(a, 9 / 16), (b, 9 / 16), (before, -1 / 16), (after, -1 / 16)]

    def _regular(self, a: int, b: int) -> list[tuple[int, float]]:
        c, d = self.opposite[a, b], self.opposite[b, a]
        out = [(a, 0.5), (b, 0.5)]
        wings = [self.opposite.get(edge) for edge in ((c, b), (a, c), (d, a), (b, d))]
        present = [wing for wing in wings if wing is not None]
        if len(present) < 4:  # beside a boundary: the plain midpoint, bent by the two opposite vertices as far as known
            return out
        return [*out, (c, 1 / 8), (d, 1 / 8), *[(wing, -1 / 16) for wing in present]]

    def _extraordinary(self, centre: int, first: int) -> list[tuple[int, float]]:
        ring = [first]
        while True:
            following = self.opposite.get((centre, ring[-1]))
            if following is None or following == first:
                break
            ring.append(following)
        n = len(ring)
        if n == 3:
            factors = [5 / 12, -1 / 12, -1 / 12]
        elif n == 4:
            factors = [3 / 8, 0.0, -1 / 8, 0.0]
        else:
            angles = 2 * np.pi * np.arange(n) / n
            factors = list((0.25 + np.cos(angles) + 0.5 * np.cos(2 * angles)) / n)
        return [(centre, 1 - sum(factors)), *zip(ring, factors, strict=True)]
