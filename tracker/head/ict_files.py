"""Reads ICT-FaceKit's FaceXModel folder: OBJ files of the mean head, its identity modes and its expressions.

Source: ICT-VGL/ICT-FaceKit (MIT), Li et al., Learning Formation of Physically-Based Face Attributes, CVPR 2020. Every
OBJ file is a whole head in centimetres; a shape is its difference from the neutral one.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.errors import InputError
from tracker.head.ict_parts import KEPT_VERTICES, PUBLISHED_VERTICES
from tracker.obj_file import read_obj

NEUTRAL, INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"
# The folder of the OBJ files in the repository.
FACE_X_MODEL = "FaceXModel"
_METRES = 0.01
_GET = "get FaceXModel from github.com/ICT-VGL/ICT-FaceKit again"

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class IctArrays:
    """The published model, V = 24591 vertices, metres.

    Attributes:
        template: (V, 3) float32 mean head.
        triangles: (F, 3) int64, quads cut in two.
        uv: (T, 2) published texture coordinates, the tile in the whole number of u.
        uv_triangles: (F, 3) int64.
        identity: (V, 3, S) float32, metres a standard deviation.
        expressions: (V, 3, E) float32, metres at full strength.
        names: of the E expressions.
        landmarks68: (68,) vertex ids of the Multi-PIE points.
    """

    template: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray
    identity: np.ndarray
    expressions: np.ndarray
    names: tuple[str, ...]
    landmarks68: np.ndarray


def find_folder(path: Path) -> Path | None:
    """The folder that holds the OBJ files: `path` itself or its FaceXModel; None where there is none."""
    return next((folder for folder in (path, path / FACE_X_MODEL) if (folder / NEUTRAL).is_file()), None)


def source_files(folder: Path) -> list[Path]:
    """The files that a model is made from: indices, neutral head, identity modes, expressions.

    Raises:
        InputError: one is missing, or the indices are damaged.
    """
    names, _ = _indices(folder)
    modes = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    files = [folder / INDICES, folder / NEUTRAL, *modes, *(folder / f"{name}.obj" for name in names)]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not modes:
        raise InputError(f"{folder}: lacks {', '.join(missing[:3]) or 'identity000.obj'}; {_GET}")
    return files


def read_folder(folder: Path, progress: Progress | None = None) -> IctArrays:
    """Reads the whole folder.

    Args:
        folder: with the OBJ files.
        progress: told in words how far it is.

    Raises:
        InputError: a file is missing or damaged.
    """
    names, landmarks68 = _indices(folder)
    files = source_files(folder)
    template = read_vertices(folder / NEUTRAL)
    uv, triangles, uv_triangles = read_faces(folder / NEUTRAL)
    kept = triangles.max(1) < KEPT_VERTICES
    shapes = np.empty((len(files) - 2, KEPT_VERTICES, 3), np.float32)
    for place, file in enumerate(files[2:]):
        if progress is not None and place % 25 == 0:
            progress(f"ICT-FaceKit: reading shape {place + 1} of {len(shapes)}")
        shapes[place] = (read_vertices(file) - template)[:KEPT_VERTICES]
    modes = len(shapes) - len(names)
    return IctArrays(
        template=template[:KEPT_VERTICES].astype(np.float32),
        triangles=triangles[kept],
        uv=uv,
        uv_triangles=uv_triangles[kept],
        identity=np.ascontiguousarray(np.moveaxis(shapes[:modes], 0, 2)),
        expressions=np.ascontiguousarray(np.moveaxis(shapes[modes:], 0, 2)),
        names=names,
        landmarks68=landmarks68,
    )


def _indices(folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the expressions and vertex ids of the 68 points."""
    path = folder / INDICES
    try:
        data = json.loads(path.read_text())
        names, landmarks = tuple(map(str, data["expressions"])), np.array(data["idx_to_landmark_verts"], np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not ICT-FaceKit's table of vertices ({error!r}); {_GET}") from error
    if landmarks.shape != (68,) or not names or landmarks.min() < 0 or landmarks.max() >= KEPT_VERTICES:
        raise InputError(f"{path}: expected 68 landmarks and the expressions' names; {_GET}")
    return names, landmarks


def read_vertices(path: Path, count: int = PUBLISHED_VERTICES) -> np.ndarray:
    """Vertices of an OBJ file of centimetres, (count, 3) float64 metres.

    Raises:
        InputError: missing, or not `count` finite vertices.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_GET}") from error
    # The vertices stand in one block, so that one call parses them all: a tenth of the time of line by line.
    start, last = (b"\n" + text).find(b"\nv "), text.rfind(b"\nv ")
    end = text.find(b"\n", last + 1)
    block = text[max(start, 0) : end if end >= 0 else len(text)].replace(b"\nv ", b"\n").removeprefix(b"v ")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(block.decode("ascii"), np.float64, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise InputError(f"{path}: not an OBJ file of ICT-FaceKit ({error}); {_GET}") from error
    if values.size != 3 * count or not np.isfinite(values).all():
        raise InputError(f"{path}: {values.size // 3} vertices, expected {count} finite ones; {_GET}")
    return _METRES * values.reshape(count, 3)


def read_faces(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texture coordinates and triangles of an OBJ file; polygons are cut into fans from their first corner.

    Returns:
        uv (T, 2) float64, triangles (F, 3) and uv_triangles (F, 3) int64.

    Raises:
        InputError: a face without texture coordinates.
    """
    text = read_obj(path, _GET, positions=False)
    fans = [[face[0], *face[k : k + 2]] for face in text.faces for k in range(1, len(face) - 1)]
    corners = np.array(fans, np.int64).reshape(-1, 3, 2)
    if not len(corners) or corners[..., 1].min() < 0:
        raise InputError(f"{path}: a face without texture coordinates; {_GET}")
    return np.array(text.uv, np.float64).reshape(-1, 2), corners[..., 0].copy(), corners[..., 1].copy()
