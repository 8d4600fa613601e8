"""BFM to FLAME: `python -m tracker.head.bfm albedo …` and `python -m tracker.head.bfm mesh …`.

albedo MODEL.h5 --correspondence cached_data.npy [--inpainting mask_inpainting.npz] [--output FILE] writes
FLAME_albedo_from_BFM.npz, a texture space for `tex_space_path`. mesh MESH --correspondence BFM_to_FLAME_corr.npz
--flame FOLDER --output FILE.obj writes a BFM mesh (.obj, .ply) as a FLAME mesh in the same frame and unit. The
correspondences are those of TimoBolkart/BFM_to_FLAME. Exit code 1 and one line on bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracker.atomic_write import check_writable, write_atomic, write_bytes
from tracker.bfm_albedo import read_bfm_colour, read_inpainting, read_texel_correspondence, write_albedo_space
from tracker.command_line import OneLineParser
from tracker.errors import InputError
from tracker.head.flame_arrays import read_flame_arrays
from tracker.head.flame_places import model_file
from tracker.npz import DAMAGE, one_line
from tracker.obj_file import read_obj

_WANTED = "expected triangles in .obj or .ply"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        args = _parser().parse_args(arguments)
        said = convert_albedo(args) if args.command == "albedo" else convert_mesh(args)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{args.output}: cannot be written ({error.strerror}); choose another --output\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m tracker.head.bfm", description="Basel Face Model to FLAME.")
    commands = parser.add_subparsers(dest="command", required=True)
    albedo = commands.add_parser("albedo", help="BFM's colours as a texture space of FLAME")
    albedo.add_argument("model", type=Path, help="model2017-1_bfm_nomouth.h5")
    albedo.add_argument("--correspondence", type=Path, required=True, help="cached_data.npy")
    albedo.add_argument("--inpainting", type=Path, help="mask_inpainting.npz; without it what BFM lacks is black")
    albedo.add_argument("--output", type=Path, default=Path("FLAME_albedo_from_BFM.npz"))
    mesh = commands.add_parser("mesh", help="a BFM mesh as a FLAME mesh")
    mesh.add_argument("mesh", type=Path, help=".obj or .ply of BFM 2017, 2009, or 2009 cropped")
    mesh.add_argument("--correspondence", type=Path, required=True, help="BFM_to_FLAME_corr.npz")
    mesh.add_argument("--flame", type=Path, required=True, help="FLAME's model file or folder")
    mesh.add_argument("--output", type=Path, required=True, help=".obj")
    return parser


def convert_albedo(args: argparse.Namespace) -> str:
    """Writes the texture space; returns a line for people.

    Raises:
        InputError: a file is missing, damaged or does not belong to the others.
    """
    check_writable(args.output)
    colour = read_bfm_colour(args.model)
    texels = read_texel_correspondence(args.correspondence)
    inpainting = None if args.inpainting is None else read_inpainting(args.inpainting, colour.basis.shape[2])
    write_atomic(args.output, lambda temporary: write_albedo_space(temporary, colour, texels, inpainting))
    return (
        f"{args.output}: {texels.height} x {texels.width}, {colour.basis.shape[2]} components, "
        f"{len(texels.rows) / texels.height / texels.width:.0%} of the texels from BFM"
    )


def convert_mesh(args: argparse.Namespace) -> str:
    """Writes the FLAME mesh; returns a line for people.

    Raises:
        InputError: a file is missing, damaged or does not belong to the others.
    """
    # Torch takes a second to import.
    from tracker.bfm_mesh import corresponding_vertices, fit_flame, read_mesh_correspondence

    check_writable(args.output)
    vertices, triangles = _read_mesh(args.mesh)
    correspondence = read_mesh_correspondence(args.correspondence, len(vertices), len(triangles))
    file = model_file(args.flame)
    if file is None:
        raise InputError(f"{args.flame}: no FLAME model there; register at flame.is.tue.mpg.de for one")
    arrays = read_flame_arrays(file, [])
    fitted = fit_flame(arrays, corresponding_vertices(correspondence, vertices), correspondence.face_ids)
    lines = [f"v {x:.8g} {y:.8g} {z:.8g}" for x, y, z in fitted.vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in arrays.triangles + 1]
    write_bytes(args.output, ("\n".join(lines) + "\n").encode())
    return (
        f"{args.output}: {correspondence.name.removesuffix('_corr')}, the face fits to "
        f"{1000 * np.median(fitted.error_m):.2f} mm (median), {1000 * np.percentile(fitted.error_m, 95):.2f} mm (95 %)"
    )


def _read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) and triangles (m, 3) in the file's order, by which the correspondence goes.

    Raises:
        InputError: the file is missing, damaged or holds no triangles.
    """
    vertices, triangles = _from_obj(path) if path.suffix.lower() == ".obj" else _from_ply(path)
    if not len(vertices) or not len(triangles):
        raise InputError(f"{path}: holds no triangles; expected a BFM mesh")
    return vertices, triangles


def _from_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    text = read_obj(path, _WANTED)
    if any(len(face) != 3 for face in text.faces):
        raise InputError(f"{path}: has faces that are not triangles; {_WANTED}")
    if any(len(vertex) != 3 for vertex in text.vertices):
        raise InputError(f"{path}: has vertices without three coordinates; {_WANTED}")
    triangles = np.array(text.faces, np.int64).reshape(-1, 3, 2)[..., 0]
    return np.array(text.vertices, np.float64).reshape(-1, 3), triangles


def _from_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    try:
        mesh: Any = trimesh.load(path, process=False, force="mesh")
        return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except (*DAMAGE, NotImplementedError) as error:
        raise InputError(f"{path}: not a readable mesh ({one_line(error)}); {_WANTED}") from error


if __name__ == "__main__":
    sys.exit(main())
