"""Embeddings of the 478 FaceMesh points and the 68 iBUG points on the template."""

from dataclasses import dataclass

import numpy as np

from tracker.detectors.landmark_maps import IBUG68_FROM_478
from tracker.head.build import eyes
from tracker.head.build.assemble import HeadMesh

# FaceMesh 468 to 472 belong to the subject's right eye (image left), 473 to 477 to the left one. After the centre the
# ring points follow as (x offset sign in the image, y up): see docs/generic_head.md for how the order was checked.
_RIGHT_IRIS_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
_LEFT_IRIS_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True)
class SurfacePoints:
    """Barycentric points: faces (N,), bary (N, 3)."""

    faces: np.ndarray
    bary: np.ndarray


def embed478(mesh: HeadMesh) -> SurfacePoints:
    """All 478 points, each at a vertex."""
    vertex = list(range(468)) + [int(i) for i in _iris_vertices(mesh)]
    return at_vertices(mesh, np.array(vertex))


def embed68(mesh: HeadMesh) -> SurfacePoints:
    """The 68 points: FaceMesh vertices, or the surface point nearest to the mean of two."""
    faces, bary = [], []
    single = at_vertices(mesh, np.arange(468))
    for ids in IBUG68_FROM_478:
        if len(ids) == 1:
            faces.append(single.faces[ids[0]])
            bary.append(single.bary[ids[0]])
        else:
            face, weights = nearest_on_surface(mesh, mesh.vertices[list(ids)].mean(0))
            faces.append(face)
            bary.append(weights)
    return SurfacePoints(np.array(faces), np.array(bary))


def at_vertices(mesh: HeadMesh, ids: np.ndarray) -> SurfacePoints:
    """Points at vertices, each expressed in the lowest-numbered triangle that contains it."""
    first_row = np.full(len(mesh.vertices), -1)
    first_row[mesh.triangles[::-1].ravel()] = np.repeat(np.arange(len(mesh.triangles))[::-1], 3)
    faces = first_row[ids]
    return SurfacePoints(faces, (mesh.triangles[faces] == ids[:, None]).astype(float))


def nearest_on_surface(mesh: HeadMesh, point: np.ndarray) -> tuple[int, np.ndarray]:
    """The nearest point of the face's outer skin: triangle and barycentric weights."""
    rows = np.flatnonzero((mesh.triangles < len(mesh.groups["face"])).all(1))
    corners = mesh.vertices[mesh.triangles[rows]]
    bary = closest_barycentric(corners, point)
    distance = np.linalg.norm((corners * bary[..., None]).sum(1) - point, axis=1)
    best = int(distance.argmin())
    return int(rows[best]), bary[best]


def closest_barycentric(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Weights of the point of each triangle (N, 3, 3) closest to `point`: (N, 3)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    options = [_inside(a, b, c, point)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, j] - corners[:, i]
        t = np.clip(((point - corners[:, i]) * edge).sum(1) / np.maximum((edge**2).sum(1), 1e-12), 0, 1)
        weights = np.zeros((len(corners), 3))
        weights[:, i], weights[:, j] = 1 - t, t
        options.append(weights)
    stacked = np.stack(options)
    valid = (stacked >= -1e-9).all(2)
    distance = np.linalg.norm((corners[None] * stacked[..., None]).sum(2) - point, axis=2)
    best = np.where(valid, distance, np.inf).argmin(0)
    return np.clip(stacked[best, np.arange(len(corners))], 0, 1)


def _inside(a: np.ndarray, b: np.ndarray, c: np.ndarray, point: np.ndarray) -> np.ndarray:
    u, v, w = b - a, c - a, point - a
    uu, uv, vv, wu, wv = ((p * q).sum(1) for p, q in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    determinant = np.maximum(uu * vv - uv * uv, 1e-12)
    s, t = (vv * wu - uv * wv) / determinant, (uu * wv - uv * wu) / determinant
    return np.column_stack([1 - s - t, s, t])


def _iris_vertices(mesh: HeadMesh) -> list[int]:
    ids = []
    for name, directions in (("right", _RIGHT_IRIS_DIRECTIONS), ("left", _LEFT_IRIS_DIRECTIONS)):
        ball = mesh.groups[f"{name}_eyeball"]
        ring = ball[1 + eyes.IRIS_RING * eyes.LONGITUDES :][: eyes.LONGITUDES]
        offset = mesh.vertices[ring] - mesh.vertices[ball[0]]
        ids.append(int(ball[0]))
        ids += [int(ring[(offset[:, 0] * x + offset[:, 1] * y).argmax()]) for x, y in directions]
    return ids
