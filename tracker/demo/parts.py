"""Textured meshes that join the head in the picture, and the shapes that they are built from."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage


@dataclass(frozen=True, eq=False)
class Part:
    """A textured mesh.

    Attributes:
        vertices: (V, 3) float32 metres: head space for what the head carries, else camera axes.
        triangles: (F, 3) int64, counter-clockwise seen from outside.
        uv: (V, 2) float32 in [0, 1].
        texture: (T, T, 3) float32.
        moves: with the head, or along a path of its own in camera axes.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    moves: Literal["head", "alone"]


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh without colour.

    Attributes:
        vertices: (V, 3) metres.
        triangles: (F, 3).
        uv: (V, 2).
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray

    def part(self, texture: np.ndarray, moves: Literal["head", "alone"]) -> Part:
        """The shape with colours."""
        return Part(
            self.vertices.astype(np.float32),
            self.triangles.astype(np.int64),
            self.uv.astype(np.float32),
            texture.astype(np.float32),
            moves,
        )


def joined(shapes: list[Shape]) -> Shape:
    """Several shapes as one."""
    offsets = np.cumsum([0, *[len(shape.vertices) for shape in shapes]])
    return Shape(
        np.concatenate([shape.vertices for shape in shapes]),
        np.concatenate([shape.triangles + offset for shape, offset in zip(shapes, offsets, strict=False)]),
        np.concatenate([shape.uv for shape in shapes]),
    )


def tube(path: np.ndarray, radius: np.ndarray | float, sides: int = 10, closed: bool = False) -> Shape:
    """A pipe along a path; an open one is rounded off by tapering radii or hidden ends.

    Args:
        path: (N, 3) metres.
        radius: (N,) or one for all, metres.
        sides: corners of its cross-section.
        closed: the last point is followed by the first.
    """
    count = len(path)
    tangent = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # The frame is carried along, so that the pipe does not twist.
    across = np.empty_like(path)
    deep = np.array([0, 0, 1.0]) if abs(tangent[0, 2]) < 0.9 else np.array([0, 1.0, 0])
    for place in range(count):
        deep = deep - tangent[place] * (deep @ tangent[place])
        deep = deep / np.linalg.norm(deep)
        across[place] = deep
    side = np.cross(tangent, across)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    radii = np.broadcast_to(radius, count)[:, None, None]
    ring = np.cos(angle)[None, :, None] * across[:, None] + np.sin(angle)[None, :, None] * side[:, None]
    vertices = (path[:, None] + radii * ring).reshape(-1, 3)
    rows = np.arange(count if closed else count - 1)[:, None]
    column = np.arange(sides)[None]
    after, beside = (rows + 1) % count, (column + 1) % sides
    a, b = rows * sides + column, rows * sides + beside
    c, d = after * sides + column, after * sides + beside
    triangles = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    around = np.abs(np.linspace(-1, 1, sides, endpoint=False))
    uv = np.stack(np.broadcast_arrays(around[None], np.linspace(0, 1, count)[:, None]), -1).reshape(-1, 2)
    return outward(Shape(vertices, triangles, uv))


def outward(shape: Shape) -> Shape:
    """A closed shape, or nearly so, with its triangles counter-clockwise seen from outside, by its volume's sign."""
    corners = (shape.vertices - shape.vertices.mean(0))[shape.triangles]
    volume = np.einsum("fk,fk->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return shape if volume > 0 else Shape(shape.vertices, shape.triangles[:, ::-1], shape.uv)


def limb(joints: np.ndarray, radii: np.ndarray, sides: int = 16) -> Shape:
    """A smooth round limb through joints, with rounded ends.

    Args:
        joints: (J, 3) metres.
        radii: (J,) metres.
        sides: corners of its cross-section.
    """
    knots = np.linspace(0, 1, len(joints))
    fine = np.linspace(0, 1, 8 * len(joints))
    path = np.stack([np.interp(fine, knots, joints[:, axis]) for axis in range(3)], 1)
    thick = np.interp(fine, knots, radii)
    path = ndimage.gaussian_filter1d(path, 2.0, axis=0, mode="nearest")
    thick = ndimage.gaussian_filter1d(thick, 2.0, mode="nearest")
    angle = np.linspace(np.pi / 2, 0, 6, endpoint=False)[:, None]
    start, end = path[0] - path[1], path[-1] - path[-2]
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    low = path[0] + thick[0] * np.sin(angle) * start
    high = path[-1] + thick[-1] * np.sin(angle[::-1]) * end
    caps = np.cos(angle[:, 0])
    along = np.concatenate([low, path, high])
    radius = np.concatenate([thick[0] * caps, thick, thick[-1] * caps[::-1]])
    return tube(along, np.maximum(radius, 1e-5), sides)
