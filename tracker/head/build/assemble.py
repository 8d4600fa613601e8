"""Puts the parts together into one mesh with named vertex groups."""

from dataclasses import dataclass, field

import numpy as np

from tracker.head.build import ears, eyes, mouth
from tracker.head.build.canonical import coarse_face
from tracker.head.build.fair import SoftTargets, fair
from tracker.head.build.mesh import Edge, boundary_loops, mirror_map, vertex_normals
from tracker.head.build.surface import FACEMESH_COUNT, OuterSkin, outer_skin


@dataclass
class HeadMesh:
    """The template and where its parts are.

    Attributes:
        vertices: (V, 3) mm.
        triangles: (F, 3) outward.
        groups: part name to vertex ids (face, skull, neck_cap, left_ear, right_ear, left_socket, right_socket,
            mouth_bag, upper_teeth, lower_teeth, left_eyeball, right_eyeball, left_lid_loop, right_lid_loop, lip_loop).
        midpoints: edge of two FaceMesh points (ids rising) to the vertex that splits it.
        mirror: (V,) id of each vertex's mirror image.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    midpoints: dict[Edge, int] = field(default_factory=dict)
    mirror: np.ndarray = field(default_factory=lambda: np.array([], int))


class _Assembly:
    """A growing mesh."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray) -> None:
        self.vertices = vertices
        self.triangles = triangles
        self.groups: dict[str, np.ndarray] = {}

    def add(self, name: str, vertices: np.ndarray, triangles: np.ndarray, loop: np.ndarray | None = None) -> None:
        """Appends a part; triangle ids below len(loop) mean that loop of existing vertices."""
        loop = np.array([], int) if loop is None else loop
        ids = np.concatenate([loop, len(self.vertices) + np.arange(len(vertices))])
        self.vertices = np.concatenate([self.vertices, vertices])
        self.triangles = np.concatenate([self.triangles, ids[triangles]])
        self.groups[name] = ids[len(loop) :]


def build_mesh() -> HeadMesh:
    """The mean head's mesh."""
    coarse, coarse_triangles = coarse_face()
    skin = outer_skin(eyes.fit_lids(coarse, coarse_triangles), coarse_triangles)
    skin, loops = _clean(skin)
    parts = _Assembly(skin.vertices, skin.triangles)
    parts.groups.update(loops)
    parts.groups["face"] = np.arange(skin.face_count)
    parts.groups["skull"] = np.arange(skin.face_count, len(skin.vertices))
    _add_ears(parts, skin)
    _add_neck_cap(parts, skin.neck_rim)
    loop = loops["left_lid_loop"]
    socket, socket_triangles = eyes.socket(parts.vertices[loop], 1)
    parts.add("left_socket", socket, socket_triangles, loop)
    right_loop = mirror_map(skin.vertices)[loop]
    parts.add("right_socket", socket * [-1, 1, 1], socket_triangles[:, ::-1], right_loop)
    parts.groups["right_lid_loop"] = right_loop
    lip_loop = loops["lip_loop"]
    parts.add("mouth_bag", *mouth.bag(lip_loop, parts.vertices[lip_loop]), lip_loop)
    for name in ("upper", "lower"):
        parts.add(f"{name}_teeth", *mouth.teeth(parts.vertices[lip_loop], name == "upper"))
    for name, side in (("left", 1), ("right", -1)):
        ball = eyes.eyeball(side)
        parts.add(f"{name}_eyeball", ball.vertices, ball.triangles)
    return HeadMesh(parts.vertices, parts.triangles, parts.groups, skin.midpoints, mirror_map(parts.vertices))


def _clean(skin: OuterSkin) -> tuple[OuterSkin, dict[str, np.ndarray]]:
    """Keeps skin off the eyeballs, cuts the ear holes, drops unused vertices; names the openings."""
    vertices = eyes.keep_off_eyeballs(skin.vertices)
    vertices[np.abs(vertices[:, 0]) < 1e-9, 0] = 0.0
    removed = np.isin(skin.triangles, np.concatenate(skin.inside_ears)).any(1)
    removed |= np.isin(skin.triangles, skin.ear_rings[0]).all(1) | np.isin(skin.triangles, skin.ear_rings[1]).all(1)
    triangles = skin.triangles[~removed]
    used = np.zeros(len(vertices), bool)
    used[triangles] = True
    used[:FACEMESH_COUNT] = True
    new_id = np.cumsum(used) - 1
    triangles = new_id[triangles]
    vertices = vertices[used]
    out = OuterSkin(
        vertices,
        triangles,
        skin.face_count,
        (new_id[skin.ear_rings[0]], new_id[skin.ear_rings[1]]),
        (np.array([], int), np.array([], int)),
        skin.midpoints,
        new_id[skin.neck_rim],
    )
    named = {}
    for loop in boundary_loops(triangles):
        ids = np.array(loop)
        middle = vertices[ids].mean(0)
        if 13 in loop:
            named["lip_loop"] = ids
        elif 159 in loop or 386 in loop:
            named["left_lid_loop" if middle[0] > 0 else "right_lid_loop"] = ids
    return out, named


def _add_ears(parts: _Assembly, skin: OuterSkin) -> None:
    left, right = skin.ear_rings
    normals = vertex_normals(parts.vertices, parts.triangles)
    vertices, triangles = ears.ear(parts.vertices[left], normals[left].mean(0))
    loops = boundary_loops(skin.triangles)
    on_boundary = {a: b for loop in loops for a, b in zip(loop, np.roll(loop, -1), strict=True)}
    if on_boundary[left[0]] != left[1]:
        triangles = triangles[:, ::-1]
    parts.add("left_ear", vertices, triangles, left)
    parts.add("right_ear", vertices * [-1, 1, 1], triangles[:, ::-1], right)
    _blend_ear_roots(parts, skin.ear_rings, len(left))


def _blend_ear_roots(parts: _Assembly, rings: tuple[np.ndarray, np.ndarray], ring_size: int) -> None:
    """Fairs the strip between head and ear, so that the ear grows out of the head without a crease."""
    free = np.zeros(len(parts.vertices), bool)
    for name in ("left_ear", "right_ear"):
        free[parts.groups[name][:ring_size]] = True
    for ring in rings:
        free[ring] = True
    nowhere = SoftTargets(parts.vertices, np.zeros(len(parts.vertices)))
    parts.vertices = fair(parts.vertices, parts.triangles, ~free, nowhere, iterations=2)


def _add_neck_cap(parts: _Assembly, rim: np.ndarray) -> None:
    edge = parts.vertices[rim]
    middle = edge.mean(0) * [0, 1, 1]
    # The first two rings round the rim off.
    shares_drops = ((0.98, 1.6), (0.93, 2.6), (0.7, 2.8), (0.38, 2.8))
    rings = [middle + share * (edge - middle) - [0, drop, 0] for share, drop in shares_drops]
    middle = middle - [0, 2.8, 0]
    parts.add("neck_cap", np.concatenate([*rings, middle[None]]), eyes.closing_rings(len(rim), len(rings)), rim)
