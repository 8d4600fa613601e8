"""Reads the text of OBJ files: positions, texture coordinates, and the faces' corners, in the file's order.

Mesh libraries split or merge vertices at the seams of a texture; here the order is what ties a file to a head model.
"""

from dataclasses import dataclass
from pathlib import Path

from tracker.errors import InputError

# Texture vertex of a corner that has none.
NO_TEXTURE = -1


@dataclass(frozen=True)
class ObjText:
    """What an OBJ says.

    Attributes:
        vertices: x, y, z of each vertex, in the file's unit.
        uv: u, v of each texture vertex.
        faces: each polygon's corners, as (vertex, texture vertex or `NO_TEXTURE`), counted from 0.
    """

    vertices: list[list[float]]
    uv: list[list[float]]
    faces: list[list[tuple[int, int]]]


def read_obj(path: Path, remedy: str, positions: bool = True) -> ObjText:
    """Reads a file.

    Args:
        path: the OBJ.
        remedy: what to do about a damaged one.
        positions: False leaves the vertices out.

    Raises:
        InputError: missing, or a line that is no OBJ's.
    """
    text = ObjText([], [], [])
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            kind, *words = line.split() or [""]
            if kind == "v" and positions:
                text.vertices.append([float(word) for word in words[:3]])
            elif kind == "vt":
                text.uv.append([float(word) for word in words[:2]])
            elif kind == "f":
                text.faces.append([_corner(word) for word in words])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a readable OBJ ({error}); {remedy}") from error
    return text


def _corner(word: str) -> tuple[int, int]:
    vertex, _, rest = word.partition("/")
    texture = rest.partition("/")[0]
    return int(vertex) - 1, int(texture) - 1 if texture else NO_TEXTURE
