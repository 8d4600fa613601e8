"""Hair over the forehead: ribbons that hang from the hairline in locks, combed to one side."""

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from tracker.demo.parts import Part, Shape, joined
from tracker.head.model import HeadModel, embed
from tracker.render_kernels import mesh_normals

_STRANDS, _LOCKS, _POINTS = 260, 19, 14
_BREADTH_M = 0.0036
# Roots lie up to this far above the forehead's top; tips end between the brows and a third of the way up to it.
_ROOT_ABOVE_M = (0.002, 0.036)
_HALF_SPREAD_M = 0.060
_COMBED_M = 0.020
_LIFT_M = (0.002, 0.008)
_FOREHEAD_TOP, _BROW = 10, 105
# The same points by iBUG number, for a model without FaceMesh points: the brow, and the nose's root plus a forehead.
_FALLBACK = {_FOREHEAD_TOP: (27, 0.06), _BROW: (19, 0.0)}
_TEXTURE_SIZE = 512


def make_fringe(model: HeadModel, vertices: np.ndarray, palette: np.ndarray, seed: int) -> Part:
    """Strands over the forehead of a subject.

    Args:
        model: tells where forehead and brows are.
        vertices: (V, 3) head space of the subject at rest.
        palette: (256, 3) hair colours from dark to light.
        seed: of the strands.
    """
    rng = np.random.default_rng((seed, 31))
    top, brow = _height(model, vertices, _FOREHEAD_TOP), _height(model, vertices, _BROW)
    surface = _Front(model, vertices, brow - 0.02)
    combed = rng.choice([-1, 1]) * _COMBED_M
    lock_x, lock_tip = rng.uniform(-1, 1, _LOCKS), rng.uniform(0, 0.35, _LOCKS)
    share = np.linspace(0, 1, _POINTS)
    shapes = []
    for number in range(_STRANDS):
        lock = int(rng.integers(_LOCKS))
        root_x = np.clip(lock_x[lock] + 0.09 * rng.standard_normal(), -1, 1) * _HALF_SPREAD_M
        # Strands of a lock come together at its tip.
        tip_x = 0.55 * lock_x[lock] * _HALF_SPREAD_M + 0.45 * root_x + combed * (0.6 + lock_tip[lock])
        tip_y = brow - 0.004 + (top - brow) * (lock_tip[lock] + 0.04 * rng.standard_normal())
        root_y = top + rng.uniform(*_ROOT_ABOVE_M)
        path = np.stack([root_x + (tip_x - root_x) * share**1.6, root_y + (tip_y - root_y) * share], 1)
        # Hair springs from the skin, arches, and comes near it again.
        lift = 0.0006 + rng.uniform(*_LIFT_M) * np.sin(np.pi * 0.9 * share)
        shapes.append(_ribbon(surface(path), lift, (number + 0.5) / _STRANDS))
    return joined(shapes).part(_strand_texture(palette, rng), "head")


def _height(model: HeadModel, vertices: np.ndarray, index: int) -> float:
    """Height of a FaceMesh landmark of the subject."""
    at = (model.landmarks478.indices == index).nonzero()[:, 0]
    points, pick, above = model.landmarks478, at[:1], 0.0
    if not len(at):
        place, above = _FALLBACK[index]
        points, pick = model.landmarks68, torch.tensor([place])
    found = embed(points.faces[pick], points.bary[pick], model.triangles, torch.from_numpy(vertices))
    return float(found[0, 1]) + above


class _Front:
    """The front of the head above a height, over (x, y): positions and normals; beyond its edge those of the edge."""

    def __init__(self, model: HeadModel, vertices: np.ndarray, above: float) -> None:
        normals = mesh_normals(vertices.astype(np.float32), model.triangles.numpy())
        chosen = (normals[:, 2] > 0.05) & (vertices[:, 1] > above) & (vertices[:, 2] > 0)
        for name in ("left_eyeball", "right_eyeball"):
            if name in model.regions:
                chosen[model.regions[name].numpy()] = False
        values = np.concatenate([vertices[chosen], normals[chosen]], 1)
        self._inside = LinearNDInterpolator(vertices[chosen, :2], values)
        self._beyond = NearestNDInterpolator(vertices[chosen, :2], values)

    def __call__(self, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self._inside(path)
        outside = ~np.isfinite(values[:, 0])
        values[outside] = self._beyond(path[outside])
        values = ndimage.gaussian_filter1d(values, 1.0, axis=0, mode="nearest")
        return values[:, :3], values[:, 3:] / np.linalg.norm(values[:, 3:], axis=1, keepdims=True)


def _ribbon(at: tuple[np.ndarray, np.ndarray], lift: np.ndarray, column: float) -> Shape:
    """A tapering band over the skin, its face outwards."""
    skin, normals = at
    middle = skin + lift[:, None] * normals
    tangent = np.gradient(middle, axis=0)
    side = np.cross(tangent, normals)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    share = np.linspace(0, 1, len(middle))
    half = 0.5 * _BREADTH_M * np.minimum(1, 0.15 + 4 * share) * np.sqrt(np.clip(1 - share, 0.01, 1))
    # The middle lies higher than the edges, as a lock's does.
    left, right = middle - half[:, None] * side, middle + half[:, None] * side
    vertices = np.stack([left, middle + 0.25 * half[:, None] * normals, right], 1).reshape(-1, 3)
    row = 3 * np.arange(len(middle) - 1)[:, None] + np.arange(2)[None]
    a, b, c, d = row, row + 1, row + 3, row + 4
    triangles = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)])
    corners = vertices[triangles[0]]
    if np.cross(corners[1] - corners[0], corners[2] - corners[0]) @ normals[0] < 0:
        triangles = triangles[:, ::-1]
    u = column + np.array([-0.4, 0.0, 0.4]) / _STRANDS
    uv = np.stack(np.broadcast_arrays(u[None], (1 - share)[:, None]), -1).reshape(-1, 2)
    return Shape(vertices, triangles, uv)


def _strand_texture(palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, T, 3): a column a strand, fine lines along it, darker at the root."""
    size = _TEXTURE_SIZE
    fine = ndimage.gaussian_filter(rng.standard_normal((size, 4 * size)), (24, 2.0), mode="wrap")
    fine = fine[:, ::4] / fine.std()
    strand = np.repeat(rng.standard_normal(size // 2), 2)[None]
    rise = np.linspace(-0.10, 0.10, size)[:, None]
    level = np.clip(0.40 + 0.14 * fine + 0.10 * strand + rise, 0, 1)
    return palette[(level * 255).astype(int)].astype(np.float32)
