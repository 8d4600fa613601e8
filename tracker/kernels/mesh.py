"""Normals of a mesh, values at its surface points, discs in the picture: twins of short torch functions."""

import math

import numba
import numpy as np

# As in torch.nn.functional.normalize.
_SHORTEST = 1e-12


@numba.njit(cache=True, nogil=True, inline="always")
def _normalise(v: np.ndarray) -> None:
    length = max(math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), _SHORTEST)
    for a in range(3):
        v[a] /= length


@numba.njit(cache=True, nogil=True)
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted normals (V, 3), unit length: twin of `tracker.head.model.vertex_normals_torch`."""
    normals = np.zeros_like(vertices)
    u, v = np.empty(3, vertices.dtype), np.empty(3, vertices.dtype)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        for a in range(3):
            u[a], v[a] = vertices[j, a] - vertices[i, a], vertices[k, a] - vertices[i, a]
        for a in range(3):
            b, c = (a + 1) % 3, (a + 2) % 3
            value = u[b] * v[c] - u[c] * v[b]
            normals[i, a] += value
            normals[j, a] += value
            normals[k, a] += value
    for n in range(normals.shape[0]):
        _normalise(normals[n])
    return normals


@numba.njit(cache=True, nogil=True)
def at_points(values: np.ndarray, triangles: np.ndarray, faces: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """(V, C) values at N barycentric points, (N, C): twin of `tracker.head.model.embed_torch`."""
    out = np.empty((faces.shape[0], values.shape[1]), values.dtype)
    for n in range(faces.shape[0]):
        i, j, k = triangles[faces[n], 0], triangles[faces[n], 1], triangles[faces[n], 2]
        for c in range(values.shape[1]):
            out[n, c] = bary[n, 0] * values[i, c] + bary[n, 1] * values[j, c] + bary[n, 2] * values[k, c]
    return out


@numba.njit(cache=True, nogil=True)
def window_axes(points: np.ndarray, normals: np.ndarray, focal: float, sigma: float, out: np.ndarray) -> None:
    """Discs on the surface as the camera sees them: twin of `tracker.local_contrast.window_axes_torch`.

    Args:
        points: (N, 3) camera frame.
        normals: (N, 3) camera frame, unit length.
        focal: pixels.
        sigma: standard deviation of the disc, metres.
        out: (N, 2, 2) written; columns: pixels of one standard deviation along two directions of the surface.
    """
    first, second = np.empty(3), np.empty(3)
    for n in range(points.shape[0]):
        x, y, z = normals[n, 0], normals[n, 1], normals[n, 2]
        # The cross product with the axis that the normal is farthest from.
        if abs(x) <= abs(y) and abs(x) <= abs(z):
            first[0], first[1], first[2] = 0.0, z, -y
        elif abs(y) <= abs(z):
            first[0], first[1], first[2] = -z, 0.0, x
        else:
            first[0], first[1], first[2] = y, -x, 0.0
        _normalise(first)
        second[0] = y * first[2] - z * first[1]
        second[1] = z * first[0] - x * first[2]
        second[2] = x * first[1] - y * first[0]
        depth = points[n, 2]
        scale = sigma * focal / depth
        across, down = points[n, 0] / depth, points[n, 1] / depth
        out[n, 0, 0], out[n, 0, 1] = scale * (first[0] - across * first[2]), scale * (second[0] - across * second[2])
        out[n, 1, 0], out[n, 1, 1] = scale * (first[1] - down * first[2]), scale * (second[1] - down * second[2])


@numba.njit(cache=True, nogil=True)
def skin(
    rest: np.ndarray,
    weights: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    lid_basis: np.ndarray,
    lids: np.ndarray,
) -> np.ndarray:
    """Linear blend skinning, then the lids: twin of `tracker.head.model.skin_torch`.

    Args:
        rest: (V, 3).
        weights: (V, J).
        rotations: (J, 3, 3) of each joint, applied to unposed points.
        translations: (J, 3).
        lid_basis: (V, 3, 2).
        lids: (2,).

    Returns:
        (V, 3).
    """
    out = np.empty_like(rest)
    for v in range(rest.shape[0]):
        for a in range(3):
            value = lid_basis[v, a, 0] * lids[0] + lid_basis[v, a, 1] * lids[1]
            for j in range(weights.shape[1]):
                w = weights[v, j]
                if w != 0:
                    turned = translations[j, a]
                    for b in range(3):
                        turned += rotations[j, a, b] * rest[v, b]
                    value += w * turned
            out[v, a] = value
    return out
