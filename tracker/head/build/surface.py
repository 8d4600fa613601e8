"""The closed outer skin before eyes, mouth and ears: fine face, cranium, neck, faired into one surface."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from tracker.head.build import guide
from tracker.head.build.canonical import smoothstep
from tracker.head.build.fair import SoftTargets, fair, smooth_tangentially
from tracker.head.build.mesh import Edge, boundary_loops, subdivide
from tracker.head.build.skull import HalfSkull, half_skull

FACEMESH_COUNT = 468
_FOREHEAD_MIDDLE, _CHIN_MIDDLE = 10, 152
# Within this distance of the face's edge the surface is shaped by smoothness alone; beyond, the guide holds it.
_FREE_MM = 12.0
_HELD_MM = 55.0
# Stiffness mm^-4: deviations from the guide are smoothed over about 14 mm.
_GUIDE_STIFFNESS = 1 / 14.0**4
_JAW_FREE_MM = 4.0
_JAW_HELD_MM = 26.0
_JAW_STIFFNESS = 1 / 8.0**4


@dataclass(frozen=True)
class OuterSkin:
    """Skin without ears, with open eyes and mouth.

    Attributes:
        vertices: (V, 3) mm; the first 468 are FaceMesh's.
        triangles: (F, 3) outward.
        face_count: vertices that belong to the subdivided face.
        ear_rings: root rings of the left and the right ear, counter-clockwise seen from the left side (left ear)
            and mirrored (right ear).
        inside_ears: ids of the vertices inside those rings.
        midpoints: edge of two FaceMesh points to the id of its midpoint.
        neck_rim: ids of the rim of the neck's lower end, in order.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    face_count: int
    ear_rings: tuple[np.ndarray, np.ndarray]
    inside_ears: tuple[np.ndarray, np.ndarray]
    midpoints: dict[Edge, int]
    neck_rim: np.ndarray


def outer_skin(coarse_vertices: np.ndarray, coarse_triangles: np.ndarray) -> OuterSkin:
    """Refines the face once and builds cranium and neck around it."""
    face, face_triangles, midpoints = subdivide(coarse_vertices, coarse_triangles)
    face[np.abs(face[:, 0]) < 1e-6, 0] = 0.0
    left_edge = _half_edge(face, face_triangles)
    skull = half_skull(face[left_edge])
    joined = _join(face, face_triangles, left_edge, skull)
    vertices = _fair(joined)
    rim = next(loop for loop in boundary_loops(joined.triangles) if vertices[loop[0], 1] < guide.NECK_BOTTOM_Y_MM + 1)
    return OuterSkin(
        vertices, joined.triangles, len(face), joined.ear_rings, joined.inside_ears, midpoints, np.array(rim)
    )


def _half_edge(face: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The face's edge on the left side, from the forehead's to the chin's middle."""
    ring = boundary_loops(triangles)[0]
    loop = np.roll(ring, -ring.index(_FOREHEAD_MIDDLE))
    if face[loop[1], 0] < 0:
        loop = np.concatenate([loop[:1], loop[1:][::-1]])
    return loop[: list(loop).index(_CHIN_MIDDLE) + 1]


def _join(face: np.ndarray, face_triangles: np.ndarray, left_edge: np.ndarray, skull: HalfSkull) -> OuterSkin:
    mirror = cKDTree(face).query(face * [-1, 1, 1])[1]
    new = skull.points[skull.boundary_count :]
    on_middle = np.abs(new[:, 0]) < 1e-6
    first_new = len(face)
    left_ids = np.concatenate([left_edge, first_new + np.arange(len(new))])
    first_right = first_new + len(new)
    right_new = np.where(on_middle, left_ids[skull.boundary_count :], first_right + np.cumsum(~on_middle) - 1)
    right_ids = np.concatenate([mirror[left_edge], right_new])
    vertices = np.concatenate([face, new, new[~on_middle] * [-1, 1, 1]])
    triangles = np.concatenate([face_triangles, left_ids[skull.triangles], right_ids[skull.triangles][:, ::-1]])
    return OuterSkin(
        vertices,
        triangles,
        len(face),
        (left_ids[skull.ear_ring], right_ids[skull.ear_ring]),
        (left_ids[skull.inside_ear], right_ids[skull.inside_ear]),
        {},
        np.array([], int),
    )


def _fair(skin: OuterSkin) -> np.ndarray:
    vertices, triangles = skin.vertices, skin.triangles
    is_face = np.arange(len(vertices)) < skin.face_count
    distance, _ = cKDTree(vertices[is_face]).query(vertices)
    fixed = np.arange(len(vertices)) < FACEMESH_COUNT
    fixed |= np.abs(vertices[:, 1] - guide.NECK_BOTTOM_Y_MM) < 1e-6
    for loop in boundary_loops(triangles):
        fixed[loop] = True
    held = smoothstep((distance - _FREE_MM) / (_HELD_MM - _FREE_MM)) * _GUIDE_STIFFNESS
    # Under the jaw the surface turns in sharply: the guide takes hold close to the edge.
    under_jaw = smoothstep((-35 - vertices[:, 1]) / 25)
    firm = smoothstep((distance - _JAW_FREE_MM) / (_JAW_HELD_MM - _JAW_FREE_MM)) * _JAW_STIFFNESS
    held = held + under_jaw * (firm - held)
    target = vertices.copy()
    for _ in range(3):
        vertices = fair(vertices, triangles, fixed, SoftTargets(target, held), iterations=1)
        vertices = smooth_tangentially(vertices, triangles, ~fixed & ~is_face, rounds=4)
    return vertices
