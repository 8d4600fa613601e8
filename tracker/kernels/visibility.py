"""Surface points as the camera sees them: twins of short torch functions."""

import math

import numba
import numpy as np

# As in torch.nn.functional.normalize.
_SHORTEST = 1e-12
# A landmark's confidence: one where the cosine is at least the first, in proportion below, no less than the second.
_FULL_COSINE, _LEAST_FACING = 0.5, 0.1

_Vector = tuple[float, float, float]


@numba.njit(cache=True, nogil=True, inline="always")
def _at(values: np.ndarray, i: int, j: int, k: int, bary: np.ndarray, n: int) -> _Vector:
    """Value of three corners at barycentric point n."""
    u, v, w = bary[n, 0], bary[n, 1], bary[n, 2]
    return (
        u * values[i, 0] + v * values[j, 0] + w * values[k, 0],
        u * values[i, 1] + v * values[j, 1] + w * values[k, 1],
        u * values[i, 2] + v * values[j, 2] + w * values[k, 2],
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _unit(v: _Vector) -> _Vector:
    length = max(math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), _SHORTEST)
    return v[0] / length, v[1] / length, v[2] / length


@numba.njit(cache=True, nogil=True, inline="always")
def _turned(R: np.ndarray, v: _Vector) -> _Vector:
    return (
        R[0, 0] * v[0] + R[0, 1] * v[1] + R[0, 2] * v[2],
        R[1, 0] * v[0] + R[1, 1] * v[1] + R[1, 2] * v[2],
        R[2, 0] * v[0] + R[2, 1] * v[1] + R[2, 2] * v[2],
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _facing(normal: _Vector, point: _Vector) -> float:
    """Cosine between a unit normal and the direction from a point to the camera."""
    unit = _unit(point)
    return -(normal[0] * unit[0] + normal[1] * unit[1] + normal[2] * unit[2])


@numba.njit(cache=True, nogil=True)
def seen_points(
    mesh: tuple[np.ndarray, np.ndarray, np.ndarray],
    places: tuple[np.ndarray, np.ndarray],
    R: np.ndarray,
    t: np.ndarray,
    camera: np.ndarray,
    depth: np.ndarray,
    tolerance: float,
    min_cosine: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which surface points the camera sees, judged against a depth buffer as in `tracker.rasterizer.visible_points`.

    Args:
        mesh: vertices (V, 3) metres and normals (V, 3) in head space, triangles (F, 3).
        places: triangle ids (N,) and corner weights (N, 3).
        R: (3, 3) head to camera.
        t: (3,) metres.
        camera: (3,) focal length, cx, cy of the depth buffer.
        depth: (H, W) metres, 0 on the background.
        tolerance: how far behind the buffer a point may lie, metres.
        min_cosine: least cosine between the normal and the direction to the camera.

    Returns:
        seen (N,) bool, unit normals (N, 3) in head space, points (N, 3) in the camera frame, cosine (N,).
    """
    vertices, vertex_normals, triangles = mesh
    faces, bary = places
    count = faces.shape[0]
    seen, cosines = np.empty(count, np.bool_), np.empty(count, vertices.dtype)
    normals, points = np.empty((count, 3), vertices.dtype), np.empty((count, 3), vertices.dtype)
    for n in range(count):
        i, j, k = triangles[faces[n], 0], triangles[faces[n], 1], triangles[faces[n], 2]
        normal = _unit(_at(vertex_normals, i, j, k, bary, n))
        x, y, z = _turned(R, _at(vertices, i, j, k, bary, n))
        x, y, z = x + t[0], y + t[1], z + t[2]
        cosine = _facing(_turned(R, normal), (x, y, z))
        normals[n, 0], normals[n, 1], normals[n, 2] = normal
        points[n, 0], points[n, 1], points[n, 2] = x, y, z
        cosines[n] = cosine
        seen[n] = False
        if z > 0 and cosine >= min_cosine:
            u, v = math.floor(camera[0] * x / z + camera[1]), math.floor(camera[0] * y / z + camera[2])
            if 0 <= u < depth.shape[1] and 0 <= v < depth.shape[0]:
                nearest = depth[int(v), int(u)]
                seen[n] = nearest > 0 and z <= nearest + tolerance
    return seen, normals, points, cosines


@numba.njit(cache=True, nogil=True)
def landmark_facing(
    normals: np.ndarray,
    triangles: np.ndarray,
    places: tuple[np.ndarray, np.ndarray],
    rest: np.ndarray,
    R: np.ndarray,
    t: np.ndarray,
) -> np.ndarray:
    """How much each landmark's surface turns to the camera, (N,) in [0.1, 1]: see `tracker.clip.landmark_facing`.

    Args:
        normals: (V, 3) of the vertices, head space.
        triangles: (F, 3).
        places: triangle ids (N,) and corner weights (N, 3).
        rest: (N, 3) positions at rest.
        R: (3, 3) head to camera.
        t: (3,).
    """
    faces, bary = places
    out = np.empty(faces.shape[0])
    for n in range(faces.shape[0]):
        i, j, k = triangles[faces[n], 0], triangles[faces[n], 1], triangles[faces[n], 2]
        normal = _turned(R, _unit(_at(normals, i, j, k, bary, n)))
        x, y, z = _turned(R, (rest[n, 0], rest[n, 1], rest[n, 2]))
        cosine = _facing(normal, (x + t[0], y + t[1], z + t[2]))
        out[n] = min(max(cosine / _FULL_COSINE, _LEAST_FACING), 1.0)
    return out
