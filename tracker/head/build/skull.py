"""Connectivity of cranium and neck around the face: points spread evenly over the guide, Delaunay in its conformal map.

Only the left half (x >= 0) is triangulated; the right half is its mirror image, so the head is exactly symmetric.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from tracker.head.build import guide
from tracker.head.build.mesh import in_polygon

SPACING_MM = 8.2
EAR_RING_COUNT = 36
# The ear's root: middle (y, azimuth chosen so that it lies behind the face's edge), half height, half width, tilt.
EAR_CENTRE_Y_MM = 12.0
EAR_CENTRE_Z_MM = -43.0
EAR_HALF_HEIGHT_MM = 25.0
EAR_HALF_WIDTH_MM = 9.0
EAR_TILT_RAD = np.deg2rad(14.0)


@dataclass(frozen=True)
class HalfSkull:
    """The left half of cranium and neck.

    Attributes:
        points: (N, 3) mm; the first `boundary_count` are the face's edge from forehead to chin.
        triangles: (F, 3), outward.
        boundary_count: number of vertices shared with the face.
        ear_ring: ids of the ear's root ring, counter-clockwise seen from the left side.
        inside_ear: ids of the plain skin vertices inside that ring (removed when the ear is set in).
    """

    points: np.ndarray
    triangles: np.ndarray
    boundary_count: int
    ear_ring: np.ndarray
    inside_ear: np.ndarray


def half_skull(face_edge: np.ndarray) -> HalfSkull:
    """Triangulates the left half around the face.

    Args:
        face_edge: (B, 3) mm, the face's edge from forehead middle to chin middle, x >= 0.
    """
    ring = ear_ring_on_guide()
    fixed = np.concatenate([face_edge, ring, _midline(face_edge)])
    points = np.concatenate([fixed, _fill(fixed, face_edge)])
    plane = _to_plane(points)
    triangles = Delaunay(plane).simplices
    centroid = plane[triangles].mean(1)
    triangles = triangles[~in_polygon(centroid, _face_outline(plane[: len(face_edge)]))]
    triangles = _without_slivers(points, triangles)
    first = len(face_edge)
    ear_ring = np.arange(first, first + EAR_RING_COUNT)
    inside = in_polygon(plane, plane[ear_ring])
    inside[: first + EAR_RING_COUNT] = False
    return HalfSkull(points, _outward(points, plane, triangles), first, ear_ring, np.flatnonzero(inside))


def ear_ring_on_guide() -> np.ndarray:
    """The ear's root ring on the guide, (36, 3) mm, from the back upwards over the top to the front and down."""
    theta = 2 * np.pi * np.arange(EAR_RING_COUNT) / EAR_RING_COUNT
    back, up = EAR_HALF_WIDTH_MM * np.cos(theta), EAR_HALF_HEIGHT_MM * np.sin(theta)
    tilt_cos, tilt_sin = np.cos(EAR_TILT_RAD), np.sin(EAR_TILT_RAD)
    y = EAR_CENTRE_Y_MM + tilt_cos * up - tilt_sin * back
    z = EAR_CENTRE_Z_MM - tilt_sin * up - tilt_cos * back
    at = guide.section(y)
    azimuth = np.arccos(np.clip((z - at.centre) / at.half_depth, -1, 1))
    return guide.surface(azimuth, y)


def _to_plane(points: np.ndarray) -> np.ndarray:
    azimuth = np.abs(guide.azimuth_of(points))
    azimuth[np.abs(points[:, 0]) < 1e-6] = np.where(points[np.abs(points[:, 0]) < 1e-6, 2] > -45.0, 0.0, np.pi)
    return np.stack([azimuth, -guide.mercator(points[:, 1])], 1)


def _face_outline(edge_plane: np.ndarray) -> np.ndarray:
    """The face's half in the map, closed well beyond the midline."""
    return np.concatenate([edge_plane, [[-9, edge_plane[-1, 1]], [-9, edge_plane[0, 1]]]])


def _midline(face_edge: np.ndarray) -> np.ndarray:
    """Points of the plane x = 0: forehead over vertex and nape to the neck's end, throat; and the neck's rim."""
    heights = np.linspace(guide.VERTEX_Y_MM - 0.4, guide.NECK_BOTTOM_Y_MM, 3000)
    back = guide.surface(np.full(3000, np.pi), heights)
    front = guide.surface(np.zeros(3000), heights)
    crown = front[heights > face_edge[0, 1]][::-1]
    throat = front[heights < face_edge[-1, 1]]
    crown[:, 2] += (face_edge[0, 2] - crown[0, 2]) * np.linspace(1, 0, len(crown))
    over = np.concatenate([[face_edge[0]], crown, back])
    under = np.concatenate([[face_edge[-1]], throat])
    rim_angle = np.linspace(0, np.pi, 29)[1:-1]
    rim = guide.surface(rim_angle, np.full(27, guide.NECK_BOTTOM_Y_MM))
    return np.concatenate([_resample(over)[1:], _resample(under)[1:], rim])


def _resample(line: np.ndarray) -> np.ndarray:
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    count = round(length[-1] / SPACING_MM) + 1
    at = np.linspace(0, length[-1], count)
    return np.stack([np.interp(at, length, line[:, k]) for k in range(3)], 1)


def _spacing(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Wanted distance between points: fine beside the ear's root, `SPACING_MM` elsewhere."""
    distance, _ = cKDTree(ring).query(points)
    return np.clip(3.6 + 0.22 * distance, 3.6, SPACING_MM)


def _fill(fixed: np.ndarray, face_edge: np.ndarray) -> np.ndarray:
    """Farthest-point samples of the guide between the fixed points."""
    azimuth, height = np.meshgrid(
        np.linspace(0.01, np.pi - 0.01, 220), np.linspace(0, 1, 320)[1:-1] ** 1.15, indexing="ij"
    )
    y = guide.VERTEX_Y_MM - (guide.VERTEX_Y_MM - guide.NECK_BOTTOM_Y_MM) * height.ravel()
    candidates = guide.surface(azimuth.ravel(), y)
    plane = _to_plane(candidates)
    candidates = candidates[~in_polygon(plane, _face_outline(_to_plane(face_edge)))]
    ring = fixed[len(face_edge) : len(face_edge) + EAR_RING_COUNT]
    spacing = _spacing(candidates, ring)
    nearest, _ = cKDTree(fixed).query(candidates)
    # Points nearer to the midline than half a spacing would make slivers with their mirror image.
    ratio = np.minimum(nearest, 1.6 * np.abs(candidates[:, 0])) / spacing
    chosen = []
    while ratio.max() > 0.82:
        pick = int(ratio.argmax())
        chosen.append(candidates[pick])
        distance = np.linalg.norm(candidates - candidates[pick], axis=1)
        ratio = np.minimum(ratio, distance / spacing)
    return np.array(chosen)


def _without_slivers(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Drops hull triangles that span the straight sides of the map (all three corners on the midline or the rim)."""
    on_mid = np.abs(points[triangles][:, :, 0]).max(1) < 1e-6
    on_rim = np.abs(points[triangles][:, :, 1] - guide.NECK_BOTTOM_Y_MM).max(1) < 1e-6
    return triangles[~(on_mid | on_rim)]


def _outward(points: np.ndarray, plane: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Turns all triangles the same way round in the map, and that way outward on the head."""
    a, b, c = (plane[triangles[:, k]] for k in range(3))
    u, v = b - a, c - a
    clockwise = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] < 0
    turned = np.where(clockwise[:, None], triangles[:, ::-1], triangles)
    corners = points[turned]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # On the left half most of the surface faces left.
    return turned if normals[:, 0].sum() > 0 else turned[:, ::-1]
