"""Texture coordinates of a head model from an OBJ of the same topology."""

from pathlib import Path

import numpy as np

from tracker.errors import InputError
from tracker.obj_file import read_obj


def read_template_uv(path: Path, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads an OBJ whose faces are the model's, in any order.

    Args:
        path: the OBJ; its faces have texture coordinates.
        triangles: (F, 3) of the model.

    Returns:
        uv (T, 2) float32, and uv_triangles (F, 3) int64 in the order of `triangles`.

    Raises:
        InputError: the file is not such an OBJ, or of another topology.
    """
    text = read_obj(path, "get it anew", positions=False)
    if any(len(face) != 3 for face in text.faces):
        raise InputError(f"{path}: has faces that are not triangles; export it triangulated, or get the published one")
    found = np.array(text.faces, np.int64).reshape(-1, 3, 2)
    if not text.uv or not len(found) or found[..., 1].min() < 0 or found[..., 1].max() >= len(text.uv):
        raise InputError(f"{path}: has no texture coordinates; export it with them, or get the published one")
    return np.array(text.uv, np.float32), _in_order(path, found, triangles)


def _in_order(path: Path, found: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Texture triangles in the model's order of triangles and corners."""
    if len(found) != len(triangles):
        raise InputError(f"{path}: {len(found)} triangles, the model has {len(triangles)}; they do not belong together")
    by_vertices = {
        frozenset(face.tolist()): dict(corners.tolist()) for face, corners in zip(found[..., 0], found, strict=True)
    }
    out = np.empty_like(triangles)
    for row, triangle in enumerate(triangles.tolist()):
        corners = by_vertices.get(frozenset(triangle))
        if corners is None:
            raise InputError(f"{path}: lacks the model's triangle {triangle}; they do not belong together")
        out[row] = [corners[vertex] for vertex in triangle]
    return out
