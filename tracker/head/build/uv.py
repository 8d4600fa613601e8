"""Texture atlas: one island for the skin, smaller ones for ears, eyeballs, sockets, mouth and the neck's lower end.

The skin is cut along the back from the vertex to the neck, laid inside a convex outline (Tutte, Floater: no triangle
can flip), then relaxed. Mirror images have u -> 1 - u.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from tracker.head.build.assemble import HeadMesh
from tracker.head.build.canonical import smoothstep
from tracker.head.build.mesh import boundary_loops
from tracker.head.build.mouth import TEETH_COLUMNS
from tracker.head.build.relax import RelaxProblem, relax, rest_shapes


@dataclass(frozen=True)
class Atlas:
    """Texture coordinates.

    Attributes:
        uv: (T, 2) in [0, 1], v up.
        triangles: (F, 3) into uv, row by row those of the mesh.
    """

    uv: np.ndarray
    triangles: np.ndarray


# Boxes of the islands: u centre, v centre, u half size, v half size. Symmetric pairs mirror each other.
_SKIN_BOX = (0.5, 0.58, 0.49, 0.41)
_LEFT_BOXES = {
    "left_ear": (0.90, 0.08, 0.085, 0.075),
    "left_eyeball": (0.73, 0.08, 0.07, 0.07),
    "left_socket": (0.605, 0.115, 0.045, 0.04),
}
_MIDDLE_BOXES = {
    "mouth_bag": (0.5, 0.105, 0.05, 0.05),
    "neck_cap": (0.5, 0.03, 0.05, 0.02),
    "upper_teeth": (0.605, 0.05, 0.045, 0.012),
    "lower_teeth": (0.605, 0.018, 0.045, 0.012),
}


# How much larger than the back of the head the face is drawn, beyond 1.
_FACE_MAGNIFICATION = 1.3
_MAGNIFY_POWER = 0.6
_RELAX_STEPS = 250
# Eyeballs are drawn with radius (polar angle)^power, which gives the iris more room than the hidden back.
_BALL_POWER = 0.6


Box = tuple[float, float, float, float]


class _AtlasBuilder:
    def __init__(self, mesh: HeadMesh) -> None:
        self.mesh = mesh
        self.uv: list[np.ndarray] = []
        self.count = 0
        self.triangles = np.full(mesh.triangles.shape, -1)

    def place(self, rows: np.ndarray, plane: np.ndarray, local: np.ndarray, box: Box) -> None:
        """Adds an island: mesh triangles `rows`, whose corners are `local` ids into `plane`, scaled into a box."""
        corners = plane[local]
        u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        if (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum() < 0:
            plane = plane * [-1, 1]
        low, high = plane.min(0), plane.max(0)
        centre, half = np.array(box[:2]), np.array(box[2:])
        self.uv.append(centre + (plane - (low + high) / 2) / ((high - low) / 2) * half)
        self.triangles[rows] = local + self.count
        self.count += len(plane)


def build_atlas(mesh: HeadMesh) -> Atlas:
    """The texture atlas."""
    builder = _AtlasBuilder(mesh)
    part = _part_of_triangles(mesh)
    _place_skin(builder, np.flatnonzero(part == "skin"))
    for name, box in _LEFT_BOXES.items():
        rows = np.flatnonzero(part == name)
        plane, local = _disc(mesh, rows) if name != "left_eyeball" else _ball(mesh, rows, name)
        builder.place(rows, plane, local, box)
        other = name.replace("left", "right")
        _place_mirrored(builder, rows, np.flatnonzero(part == other))
    for name, box in _MIDDLE_BOXES.items():
        rows = np.flatnonzero(part == name)
        plane, local = _box_strip(mesh, rows, name) if name.endswith("teeth") else _disc(mesh, rows)
        builder.place(rows, plane, local, box)
    return Atlas(np.concatenate(builder.uv), builder.triangles)


def _part_of_triangles(mesh: HeadMesh) -> np.ndarray:
    """Name of each triangle's island: a part claims the triangles that touch its own vertices."""
    part = np.full(len(mesh.triangles), "skin", dtype="<U16")
    for name in (*_LEFT_BOXES, *[n.replace("left", "right") for n in _LEFT_BOXES], *_MIDDLE_BOXES):
        part[np.isin(mesh.triangles, mesh.groups[name]).any(1)] = name
    return part


def _compact(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids, local = np.unique(triangles, return_inverse=True)
    return ids, local.reshape(triangles.shape)


def _disc(mesh: HeadMesh, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A part with one boundary loop, laid into a circle."""
    ids, local = _compact(mesh.triangles[rows])
    vertices = mesh.vertices[ids]
    loop = boundary_loops(local)[0]
    length = np.linalg.norm(vertices[np.roll(loop, -1)] - vertices[loop], axis=1)
    angle = 2 * np.pi * np.concatenate([[0], np.cumsum(length)[:-1]]) / length.sum()
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    return tutte(vertices, local, np.array(loop), circle), local


def _ball(mesh: HeadMesh, rows: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """An eyeball seen along its axis (polar angle as radius); the back pole becomes a ring of its own copies."""
    ids = mesh.groups[name]
    unit = mesh.vertices[ids] - mesh.vertices[ids].mean(0)
    centre_z = (mesh.vertices[ids[0], 2] + mesh.vertices[ids[-1], 2]) / 2
    unit[:, 2] = mesh.vertices[ids, 2] - centre_z
    unit[:, :2] = mesh.vertices[ids, :2] - mesh.vertices[ids[0], :2]
    polar = (np.arctan2(np.hypot(unit[:, 0], unit[:, 1]), unit[:, 2]) / np.pi) ** _BALL_POWER
    longitude = np.arctan2(unit[:, 1], unit[:, 0])
    plane = np.column_stack([polar * np.cos(longitude), polar * np.sin(longitude)])[:-1]
    local = np.searchsorted(ids, mesh.triangles[rows])
    last = len(ids) - 1
    back = np.flatnonzero((local == last).any(1))
    copies = []
    for k, row in enumerate(back):
        others = local[row][local[row] != last]
        direction = plane[others].mean(0)
        copies.append(direction / np.linalg.norm(direction))
        local[row][local[row] == last] = last + k
    return np.concatenate([plane, np.array(copies)]), local


def _box_strip(mesh: HeadMesh, rows: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Teeth: every triangle row of the box unrolled; the four sides lie below each other, the ends beside them."""
    triangles = mesh.triangles[rows] - mesh.groups[name][0]
    plane, local = [], np.zeros_like(triangles)
    for row, tri in enumerate(triangles):
        column, corner = tri // 4, tri % 4
        if np.ptp(column) == 0:
            # The two end caps face opposite ways: one lies mirrored.
            first = column[0] == 0
            deep = 0.8 * np.isin(corner, (1, 2))
            at = np.column_stack([-1.2 + deep if first else TEETH_COLUMNS + 1.0 - deep, 0.8 * (corner >= 2)])
        else:
            wraps = set(corner.tolist()) == {0, 3}
            at = np.column_stack([column.astype(float), np.where(wraps & (corner == 0), 4, corner)])
        local[row] = np.arange(3) + 3 * row
        plane.append(at)
    stacked = np.concatenate(plane).astype(float)
    unique, inverse = np.unique(np.round(stacked, 6), axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)[local]


def _place_mirrored(builder: _AtlasBuilder, rows: np.ndarray, other: np.ndarray) -> None:
    """Adds the mirror image of an island that was just placed."""
    mesh = builder.mesh
    placed = builder.uv[-1]
    first = builder.count - len(placed)
    key = {tuple(sorted(tri)): row for row, tri in zip(rows, mesh.mirror[mesh.triangles[rows]].tolist(), strict=True)}
    builder.uv.append(placed * [-1, 1] + [1, 0])
    for row in other:
        source = key[tuple(sorted(mesh.triangles[row].tolist()))]
        image = mesh.mirror[mesh.triangles[source]].tolist()
        order = [image.index(corner) for corner in mesh.triangles[row].tolist()]
        builder.triangles[row] = builder.triangles[source][order] - first + builder.count
    builder.count += len(placed)


def _place_skin(builder: _AtlasBuilder, rows: np.ndarray) -> None:
    mesh = builder.mesh
    seam = _seam(mesh)
    triangles = mesh.triangles[rows].copy()
    right = mesh.vertices[triangles][:, :, 0].mean(1) < 0
    copy_of = {int(vertex): len(mesh.vertices) + k for k, vertex in enumerate(seam[1:])}
    cut = triangles[right]
    for vertex, copy in copy_of.items():
        cut[cut == vertex] = copy
    triangles[right] = cut
    source = np.concatenate([np.arange(len(mesh.vertices)), seam[1:]])
    ids, local = _compact(triangles)
    vertices = mesh.vertices[source[ids]]
    loop = np.array(boundary_loops(local)[0])
    pole = int(np.searchsorted(ids, seam[0]))
    loop = np.roll(loop, -int(np.flatnonzero(loop == pole)[0]))
    length = np.linalg.norm(vertices[np.roll(loop, -1)] - vertices[loop], axis=1)
    share = np.concatenate([[0], np.cumsum(length)[:-1]]) / length.sum()
    direction = 1.0 if ids[loop[1]] >= len(mesh.vertices) else -1.0  # right copies go left of the pole
    angle = np.pi / 2 + direction * 2 * np.pi * share
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    outline = np.sign(circle) * np.abs(circle) ** 0.8
    builder.place(rows, _flatten_skin(vertices, local, loop, outline), local, _SKIN_BOX)


def _flatten_skin(vertices: np.ndarray, triangles: np.ndarray, loop: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Tutte's embedding with the face magnified, then relaxed: (N, 2)."""
    all_triangles, points = fill_holes(vertices, triangles, loop)
    plane = tutte(points, all_triangles, loop, outline)
    mirror = cKDTree(plane).query(plane * [-1, 1])[1]
    plane = _magnify(plane, plane[vertices[:, 2].argmax()], outline)
    facial = smoothstep((points[:, 2] + 55) / 60) * smoothstep((points[:, 1] + 125) / 40)
    size = (1 + _FACE_MAGNIFICATION * facial)[all_triangles].mean(1)
    rest = rest_shapes(points, all_triangles, size)
    # Fillings of the eyes, mouth and ears keep the shape they have in the plane; they only stop the holes from folding.
    filling = np.arange(len(all_triangles)) >= len(triangles)
    corners = plane[all_triangles]
    flat = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 2)
    scale = np.sqrt(np.linalg.det(flat)[~filling].sum() / np.linalg.det(rest)[~filling].sum())
    rest = np.where(filling[:, None, None], flat, rest * scale)
    fixed = np.zeros(len(points), bool)
    fixed[loop] = True
    weights = np.where(filling, 0.3, 1 + 2 * facial[all_triangles].mean(1))
    plane = relax(plane, RelaxProblem(all_triangles, rest, weights, fixed), _RELAX_STEPS)
    plane = (plane + plane[mirror] * [-1, 1]) / 2
    return plane[: len(vertices)]


def _magnify(plane: np.ndarray, centre: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Moves everything away from `centre` along rays, leaving the outline where it is."""
    arm = plane - centre
    angle = np.arctan2(arm[:, 1], arm[:, 0])
    rim = outline - centre
    rim_angle = np.arctan2(rim[:, 1], rim[:, 0])
    order = np.argsort(rim_angle)
    reach = np.interp(angle, rim_angle[order], np.linalg.norm(rim, axis=1)[order], period=2 * np.pi)
    radius = np.linalg.norm(arm, axis=1)
    share = np.clip(radius / reach, 1e-9, 1)
    grown = np.where(share > 1 - 1e-9, 1.0, share ** (_MAGNIFY_POWER - 1))
    return centre + arm * grown[:, None]


def _seam(mesh: HeadMesh) -> np.ndarray:
    """Midline vertices from the top of the head down the back to the neck's rim."""
    skull = mesh.groups["skull"]
    middle = skull[np.abs(mesh.vertices[skull, 0]) < 1e-9]
    top = middle[mesh.vertices[middle, 1].argmax()]
    back = middle[mesh.vertices[middle, 2] < mesh.vertices[top, 2]]
    order = back[np.argsort(-mesh.vertices[back, 1])]
    rim_y = mesh.vertices[skull, 1].min()
    order = order[mesh.vertices[order, 1] >= rim_y]
    return np.concatenate([[top], order])


def fill_holes(vertices: np.ndarray, triangles: np.ndarray, loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closes every boundary loop but `loop` by a fan: triangles (the old ones first) and vertices."""
    filled, points = [triangles], vertices
    for hole in boundary_loops(triangles):
        if set(hole) == set(loop.tolist()):
            continue
        centre = len(points)
        points = np.concatenate([points, points[hole].mean(0, keepdims=True)])
        filled.append(np.array([(b, a, centre) for a, b in zip(hole, np.roll(hole, -1), strict=True)]))
    return np.concatenate(filled), points


def tutte(points: np.ndarray, triangles: np.ndarray, loop: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Mean-value embedding of a disc with its boundary on a convex outline: (N, 2).

    Source: Floater, Mean Value Coordinates, CAGD 2003.
    """
    weights = _mean_value_weights(points, triangles)
    fixed = np.zeros(len(points), bool)
    fixed[loop] = True
    plane = np.zeros((len(points), 2))
    plane[loop] = outline
    laplacian = sparse.diags(np.asarray(weights.sum(1)).ravel()) - weights
    free = ~fixed
    plane[free] = splu(laplacian[free][:, free].tocsc()).solve(-laplacian[free][:, fixed] @ plane[fixed])
    return plane


def _mean_value_weights(points: np.ndarray, triangles: np.ndarray) -> sparse.csr_matrix:
    rows, cols, values = [], [], []
    for k in range(3):
        i, j, o = (triangles[:, (k + s) % 3] for s in range(3))
        u, w = points[j] - points[i], points[o] - points[i]
        lu, lw = np.linalg.norm(u, axis=1), np.linalg.norm(w, axis=1)
        cos = (u * w).sum(1) / np.maximum(lu * lw, 1e-12)
        tan_half = np.sqrt(np.clip((1 - cos) / np.maximum(1 + cos, 1e-6), 0, 1e6))
        for end, length in ((j, lu), (o, lw)):
            rows.append(i)
            cols.append(end)
            values.append(tan_half / np.maximum(length, 1e-6))
    shape = (len(points), len(points))
    return sparse.coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape).tocsr()
