"""The jaw contour (iBUG 0 to 16) as it slides over the face with yaw.

On the side that turns away, the visible outline is no longer the fixed jaw point but the point of the cheek that
reaches furthest out in the picture; on the near side the fixed point stays. Rows follow FLAME (`ContourEmbedding`):
row a from 0 to 39 has the subject's left side (x > 0) turned away by a degrees, row 39 + a the right side.
"""

import numpy as np

from tracker.head.build.assemble import HeadMesh
from tracker.head.build.landmarks import SurfacePoints, embed68

CONTOUR_POINTS = 17
GREATEST_YAW_DEG = 39
# A slid point may not lie further from the jaw point than this along the face, lest it jump to the nose.
_MAX_SLIDE_MM = 75.0


def build_contour(mesh: HeadMesh) -> SurfacePoints:
    """Faces (79, 17), bary (79, 17, 3)."""
    static = embed68(mesh)
    corners = mesh.vertices[mesh.triangles[static.faces[:CONTOUR_POINTS]]]
    base = (corners * static.bary[:CONTOUR_POINTS, :, None]).sum(1)
    normals = _outward(base)
    yaws = [*range(GREATEST_YAW_DEG + 1), *range(-1, -GREATEST_YAW_DEG - 1, -1)]
    faces = np.tile(static.faces[:CONTOUR_POINTS], (len(yaws), 1))
    bary = np.tile(static.bary[:CONTOUR_POINTS], (len(yaws), 1, 1))
    for point in range(CONTOUR_POINTS):
        rows, weights, places = _slice(mesh, base[point], normals[point])
        for row, yaw in enumerate(yaws):
            turned_away = yaw * base[point, 0] > 0
            if not turned_away or len(rows) == 0:
                continue
            angle = np.deg2rad(yaw)
            across = places[:, 0] * np.cos(angle) + places[:, 2] * np.sin(angle)
            reach = normals[point, 0] * across + normals[point, 1] * places[:, 1]
            best = int(reach.argmax())
            faces[row, point], bary[row, point] = rows[best], weights[best]
    return SurfacePoints(faces, bary)


def _outward(base: np.ndarray) -> np.ndarray:
    """Outward unit normals of the frontal contour in the xy plane: (17, 2)."""
    tangent = np.gradient(base[:, :2], axis=0)
    normal = np.column_stack([tangent[:, 1], -tangent[:, 0]])
    normal *= np.sign((normal * (base[:, :2] - [0, -20])).sum(1, keepdims=True))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _slice(mesh: HeadMesh, base: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the plane through `base`, spanned by its outward direction and the view axis, cuts the face before `base`.

    Returns:
        Triangles (N,), barycentric weights (N, 3), positions (N, 3) of the cut edges' points.
    """
    rows = np.flatnonzero((mesh.triangles < len(mesh.groups["face"])).all(1))
    tangent = np.array([-normal[1], normal[0], 0.0])
    height = (mesh.vertices[mesh.triangles[rows]] - base) @ tangent
    out_rows, out_weights = [], []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        crossing = height[:, i] * height[:, j] < 0
        share = height[crossing, i] / (height[crossing, i] - height[crossing, j])
        weights = np.zeros((int(crossing.sum()), 3))
        weights[:, i], weights[:, j] = 1 - share, share
        out_rows.append(rows[crossing])
        out_weights.append(weights)
    cut, weights = np.concatenate(out_rows), np.concatenate(out_weights)
    places = (mesh.vertices[mesh.triangles[cut]] * weights[..., None]).sum(1)
    same_side = places[:, 0] * base[0] >= 0
    near = np.linalg.norm(places - base, axis=1) < _MAX_SLIDE_MM
    keep = same_side & near & (places[:, 2] >= base[2])
    return cut[keep], weights[keep], places[keep]
