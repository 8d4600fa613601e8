"""A plain painted face for any head model, so that a detector trained on photographs finds its points.

Features are placed by what every model brings: the iBUG points, the eyeballs' joints, regions where they are named.
Folds and nostrils are darkened by how much of the surroundings they see.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tracker.camera import Intrinsics
from tracker.head.build.mesh import in_polygon
from tracker.head.model import LEFT_EYE, RIGHT_EYE, HeadModel, embed
from tracker.rasterizer import rasterize, visible_points
from tracker.render_kernels import mesh_normals

# Radii of iris and pupil, metres (Forrester et al., The Eye, 2016).
_IRIS_M, _PUPIL_M = 0.0059, 0.0021
_SCLERA, _PUPIL = np.array([0.88, 0.86, 0.84]), np.array([0.03, 0.03, 0.03])
_MOUTH, _TEETH = np.array([0.22, 0.08, 0.07]), np.array([0.82, 0.79, 0.72])
_BROW_HALF_M, _LASH_HALF_M = 0.0034, 0.0007
_BROWS, _EYES = ((17, 22), (22, 27)), ((36, 42), (42, 48))
_OUTER_LIPS = slice(48, 60)
# Lips reach this far behind their corners, metres.
_LIP_DEPTH_M = 0.012
_MOUTH_REGIONS, _TOOTH_REGIONS = ("inner_mouth", "mouth_socket", "gums"), ("teeth",)
# Directions and buffer of the test that tells how much a vertex sees.
_DIRECTIONS, _BUFFER = 48, 256
# From this far away, metres, so that the buffer's rays are nearly parallel.
_FAR_M = 5.0
_DARKEST = 0.25


@dataclass(frozen=True, eq=False)
class Complexion:
    """Colours of one person, (3,) sRGB each."""

    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    iris: np.ndarray


def draw_complexion(rng: np.random.Generator) -> Complexion:
    """Colours from fair to dark, the lips redder than the skin, the hair mostly darker."""
    tone = rng.uniform()
    skin = (1 - tone) * np.array([0.86, 0.68, 0.58]) + tone * np.array([0.47, 0.31, 0.23])
    lips = skin * np.array([0.92, 0.66, 0.68]) * rng.uniform(0.9, 1.05)
    hair = np.array([0.30, 0.21, 0.15]) * rng.uniform(0.25, 1.3)
    iris = np.array([[0.36, 0.23, 0.13], [0.20, 0.12, 0.07], [0.34, 0.45, 0.56], [0.36, 0.42, 0.30]])[rng.integers(4)]
    return Complexion(skin, lips, hair, iris)


def paint(model: HeadModel, points_m: np.ndarray, ids: np.ndarray, bary: np.ndarray, colours: Complexion) -> np.ndarray:
    """Colours of surface points.

    Args:
        model: the head.
        points_m: (P, 3) on the mean head.
        ids: (P, 3) vertices around each point.
        bary: (P, 3) their weights.
        colours: of the person.

    Returns:
        (P, 3) float32 sRGB albedo.
    """
    marks = landmarks68_m(model)

    def share(vertices: np.ndarray) -> np.ndarray:
        return (vertices[ids] * bary).sum(1)[:, None]

    out = np.tile(colours.skin, (len(points_m), 1))
    out = _mix(out, colours.hair, share(_named(model, ("scalp",))))
    out = _mix(out, colours.lips, _lips(points_m, marks))
    for first, last in _BROWS:
        line = marks[first:last]
        distance = _line_distance(points_m, line)
        out = _mix(out, 0.6 * colours.hair + 0.1 * colours.skin, 0.8 * _edge(distance, _BROW_HALF_M, 0.0012)[:, None])
    for first, last in _EYES:
        line = np.concatenate([marks[first:last], marks[first : first + 1]])
        out = _mix(out, 0.35 * colours.hair, 0.7 * _edge(_line_distance(points_m, line), _LASH_HALF_M, 0.0006)[:, None])
    out = _mix(out, _MOUTH, share(_named(model, _MOUTH_REGIONS)))
    out = _mix(out, _TEETH, share(_named(model, _TOOTH_REGIONS)))
    joints = model.joints(model.neutral().shape).numpy()
    for joint, region in ((LEFT_EYE, "iris_left"), (RIGHT_EYE, "iris_right")):
        ball = share(model.skin_weights[:, joint].numpy() > 0.5)
        out = _mix(out, _eye(points_m - joints[joint], _axis(model, joints[joint], region), colours.iris), ball)
    return out.astype(np.float32)


def openness(model: HeadModel, seed: int = 0) -> np.ndarray:
    """How much of its half space each vertex sees, (V,) in [0.25, 1]; ambient occlusion from depth buffers."""
    vertices, triangles = model.template.numpy().astype(np.float64), model.triangles.numpy()
    normals = mesh_normals(vertices.astype(np.float32), triangles).astype(np.float64)
    centre = (vertices.min(0) + vertices.max(0)) / 2
    reach = float(np.linalg.norm(vertices - centre, axis=1).max())
    camera = Intrinsics(0.5 * _BUFFER * _FAR_M / reach, _BUFFER / 2, _BUFFER / 2)
    rng = np.random.default_rng(seed)
    seen, total = np.zeros(len(vertices)), np.full(len(vertices), 1e-9)
    for direction in rng.standard_normal((_DIRECTIONS, 3)):
        R = _looking_along(direction / np.linalg.norm(direction))
        cam = (vertices - centre) @ R.T + [0, 0, _FAR_M]
        buffer = rasterize(cam.astype(np.float32), triangles, camera, (_BUFFER, _BUFFER), "numba")
        facing = np.clip(-(normals @ R.T)[:, 2], 0, 1)
        seen += facing * visible_points(buffer, cam, normals @ R.T, camera, min_cosine=0.0)
        total += facing
    return np.clip(seen / total, _DARKEST, 1).astype(np.float32)


def landmarks68_m(model: HeadModel) -> np.ndarray:
    """(68, 3) iBUG points of the mean head, metres; the jaw's where it faces the camera."""
    at = model.landmarks68
    return embed(at.faces, at.bary, model.triangles, model.template).double().numpy()


def _named(model: HeadModel, names: tuple[str, ...]) -> np.ndarray:
    """(V,) 1.0 in the regions that the model names."""
    inside = np.zeros(model.vertex_count)
    for name in names:
        if name in model.regions:
            inside[model.regions[name].numpy()] = 1
    return inside


def _lips(points_m: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """(P, 1) 1 within the outer lip points, seen from the front."""
    outer = marks[_OUTER_LIPS]
    depth = points_m[:, 2] > outer[:, 2].min() - _LIP_DEPTH_M
    low, high = outer[:, :2].min(0), outer[:, :2].max(0)
    near = depth & ((points_m[:, :2] > low) & (points_m[:, :2] < high)).all(1)
    inside = np.zeros(len(points_m))
    distance = _line_distance(points_m[near] * [1, 1, 0], np.concatenate([outer, outer[:1]]) * [1, 1, 0])
    inside[near] = np.where(in_polygon(points_m[near, :2], outer[:, :2]), np.clip(distance / 0.0008, 0, 1), 0.0)
    return inside[:, None]


def _looking_along(direction: np.ndarray) -> np.ndarray:
    """A camera's rotation (3, 3) whose third row is a unit direction."""
    helper = np.eye(3)[np.abs(direction).argmin()]
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])


def _axis(model: HeadModel, centre_m: np.ndarray, region: str) -> np.ndarray:
    """Unit axis of an eye at rest: through the named iris, else straight ahead."""
    if region not in model.regions:
        return np.array([0.0, 0.0, 1.0])
    axis = model.template[model.regions[region]].double().numpy().mean(0) - centre_m
    return axis / np.linalg.norm(axis)


def _eye(arms_m: np.ndarray, axis: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """(P, 3) sclera, iris and pupil by the distance from the eye's axis."""
    ahead = arms_m @ axis
    off = np.where(ahead > 0, np.linalg.norm(arms_m - ahead[:, None] * axis, axis=1), 1.0)
    ring = iris * (1.1 - 0.5 * np.clip(off / _IRIS_M, 0, 1) ** 4)[:, None]
    inner = _mix(ring, _PUPIL, _edge(off, _PUPIL_M, 0.0004)[:, None])
    return _mix(_SCLERA, inner, _edge(off, _IRIS_M, 0.0005)[:, None])


def _line_distance(points_m: np.ndarray, line: np.ndarray) -> np.ndarray:
    """(P,) distance to a line through (K, 3) points."""
    best = np.full(len(points_m), np.inf)
    for a, b in pairwise(line):
        along = b - a
        place = np.clip((points_m - a) @ along / max(float(along @ along), 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points_m - a - place[:, None] * along, axis=1))
    return best


def _edge(distance_m: np.ndarray, radius_m: float, soft_m: float) -> np.ndarray:
    """(P,) 1 within a radius, falling to 0 over a soft edge."""
    return np.clip((radius_m - distance_m) / soft_m + 0.5, 0, 1)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (1 - share) * a + share * b
