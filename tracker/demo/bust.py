"""Shoulders in a roll-neck pullover, so that the head does not float; scenery, no part of the tracked model."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from tracker.errors import InputError
from tracker.head.model import HeadModel

_SECTORS = 96
_TEXTURE_SIZE = 512
CLOTH = np.array([0.20, 0.27, 0.36], np.float32)
# Rings from the collar's inside over its rim to the waist: height below the collar's top (m), half breadth and half
# depth beyond the neck's (m, collar) or absolute (m, body), shift backwards (m).
_COLLAR = ((0.035, 0.001), (0.004, 0.003), (0.0, 0.006), (0.003, 0.0095), (0.014, 0.011), (0.026, 0.011))
_BODY = (
    (0.045, 0.082, 0.074, 0.000),
    (0.058, 0.112, 0.086, 0.004),
    (0.072, 0.148, 0.095, 0.008),
    (0.092, 0.178, 0.104, 0.010),
    (0.125, 0.198, 0.112, 0.010),
    (0.180, 0.208, 0.118, 0.008),
    (0.260, 0.210, 0.124, 0.004),
    (0.420, 0.200, 0.126, 0.000),
)
# Shoulders are squarer than an ellipse.
_BODY_POWER = 2.6


@dataclass(frozen=True, eq=False)
class Bust:
    """A textured mesh in the head space of the resting head.

    Attributes:
        vertices: (V, 3) float32 metres.
        triangles: (F, 3) outward.
        uv: (V, 2).
        texture: (T, T, 3) float32.
        collar_top_m: height of the collar's rim.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    collar_top_m: float


def make_bust(model: HeadModel, vertices_head_m: np.ndarray, seed: int, cloth: np.ndarray = CLOTH) -> Bust:
    """Builds the bust around a head's neck.

    Args:
        model: tells the chin.
        vertices_head_m: (V, 3) of the subject at rest.
        seed: of the knit's texture.
        cloth: (3,) its colour.
    """
    top, centre, half = _neck(model, vertices_head_m)
    angle = np.linspace(0, 2 * np.pi, _SECTORS + 1)
    rings = [_ring(top - down, centre, half + grow, 2.0, angle) for down, grow in _COLLAR]
    for down, breadth, depth, back in _BODY:
        middle = centre - np.array([0, back])
        rings.append(_ring(top - down, middle, np.array([breadth, depth]), _BODY_POWER, angle))
    vertices = np.concatenate(rings).astype(np.float32)
    columns = _SECTORS + 1
    first = (np.arange(len(rings) - 1)[:, None] * columns + np.arange(_SECTORS)).ravel()
    quads = np.stack([first, first + columns, first + columns + 1, first, first + columns + 1, first + 1], 1)
    length = np.cumsum([0, *[np.linalg.norm(b[0] - a[0]) for a, b in pairwise(rings)]])
    v = 1 - np.repeat(length / length[-1], columns)
    uv = np.stack([np.tile(angle / (2 * np.pi), len(rings)), v], 1).astype(np.float32)
    return Bust(vertices, quads.reshape(-1, 3), uv, _knit(seed, cloth), top)


def _neck(model: HeadModel, vertices: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Height of the collar's top, (x, z) centre and half axes of the neck there."""
    triangles = model.landmarks68
    chin = vertices[model.triangles[triangles.faces[8]].numpy()][np.argmax(triangles.bary[8])]
    top = float(chin[1]) - 0.048
    near = vertices[np.abs(vertices[:, 1] - top) < 0.008]
    if not len(near):
        raise InputError(f"{model.name}: has no neck 48 mm below the chin, where a collar would begin")
    low, high = near.min(0), near.max(0)
    return top, np.array([(low[0] + high[0]) / 2, (low[2] + high[2]) / 2]), (high - low)[[0, 2]] / 2


def _ring(y: float, centre: np.ndarray, half: np.ndarray, power: float, angle: np.ndarray) -> np.ndarray:
    """A superellipse at a height, counter-clockwise seen from above, starting at the back, where the seam hides."""
    sine, cosine = -np.sin(angle), -np.cos(angle)
    x = np.sign(sine) * np.abs(sine) ** (2 / power) * half[0] + centre[0]
    z = np.sign(cosine) * np.abs(cosine) ** (2 / power) * half[1] + centre[1]
    return np.stack([x, np.full_like(x, y), z], 1)


def _knit(seed: int, cloth: np.ndarray) -> np.ndarray:
    """Ribbed knit with slow changes of brightness."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((_TEXTURE_SIZE, _TEXTURE_SIZE))
    ribs = np.sin(np.arange(_TEXTURE_SIZE) / _TEXTURE_SIZE * 2 * np.pi * 130)
    slow = ndimage.gaussian_filter(noise, 24, mode="wrap")
    fine = ndimage.gaussian_filter(noise, 0.8, mode="wrap")
    level = 1 + 0.09 * ribs[None] + 0.10 * slow / slow.std() + 0.06 * fine / fine.std()
    return (cloth * level[..., None]).clip(0, 1).astype(np.float32)
