"""BFM to FLAME: `python -m tracker.head.bfm albedo …` and `python -m tracker.head.bfm mesh …`.

albedo MODEL.h5 --correspondence cached_data.npy [--inpainting mask_inpainting.npz] [--output FILE] writes
FLAME_albedo_from_BFM.npz, a texture space for `tex_space_path`. mesh MESH --correspondence BFM_to_FLAME_corr.npz
--flame FOLDER --output FILE.obj writes a BFM mesh (.obj, .ply) as a FLAME mesh in the same frame and unit. The
correspondences are those of TimoBolkart/BFM_to_FLAME. Exit code 1 and one line on bad input.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracker.bfm_albedo import read_bfm_colour, read_inpainting, read_texel_correspondence, write_albedo_space
from tracker.command_line import OneLineParser
from tracker.errors import InputError
from tracker.head.flame_arrays import read_flame_arrays
from tracker.head.flame_places import model_file


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
    _check_output(args.output)
    colour = read_bfm_colour(args.model)
    texels = read_texel_correspondence(args.correspondence)
    inpainting = None if args.inpainting is None else read_inpainting(args.inpainting, colour.basis.shape[2])
    # Two processes may write one file.
    temporary = args.output.with_name(f"{args.output.name}.{os.getpid()}.tmp")
    try:
        write_albedo_space(temporary, colour, texels, inpainting)
        temporary.replace(args.output)
    finally:
        temporary.unlink(missing_ok=True)
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

    _check_output(args.output)
    vertices, triangles = _read_mesh(args.mesh)
    correspondence = read_mesh_correspondence(args.correspondence, len(vertices), len(triangles))
    file = model_file(args.flame)
    if file is None:
        raise InputError(f"{args.flame}: no FLAME model there; register at flame.is.tue.mpg.de for one")
    arrays = read_flame_arrays(file, [])
    fitted = fit_flame(arrays, corresponding_vertices(correspondence, vertices), correspondence.face_ids)
    lines = [f"v {x:.8g} {y:.8g} {z:.8g}" for x, y, z in fitted.vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in arrays.triangles + 1]
    args.output.write_text("\n".join(lines) + "\n")
    return (
        f"{args.output}: {correspondence.name.removesuffix('_corr')}, the face fits to "
        f"{1000 * np.median(fitted.error_m):.2f} mm (median), {1000 * np.percentile(fitted.error_m, 95):.2f} mm (95 %)"
    )


def _check_output(path: Path) -> None:
    """Makes the folder of an output, before minutes of work.

    Raises:
        InputError: the output is a folder.
        OSError: its folder cannot be made.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give --output a file name")
    path.parent.mkdir(parents=True, exist_ok=True)


def _read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) and triangles (m, 3) in the file's order, by which the correspondence goes.

    Raises:
        InputError: the file is missing, damaged or holds no triangles.
    """
    try:
        vertices, triangles = _read_obj(path) if path.suffix.lower() == ".obj" else _read_ply(path)
    except (OSError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{path}: not a readable mesh ({error}); expected triangles in .obj or .ply") from error
    if not len(vertices) or not len(triangles):
        raise InputError(f"{path}: holds no triangles; expected a BFM mesh")
    return vertices, triangles


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The geometry of an OBJ; trimesh would split vertices at the seams of a texture."""
    vertices, triangles = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append([float(word) for word in words[:3]])
        elif kind == "f":
            triangles.append([int(word.split("/")[0]) - 1 for word in words])
    return np.array(vertices, np.float64).reshape(-1, 3), np.array(triangles, np.int64).reshape(len(triangles), 3)


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    mesh: Any = trimesh.load(path, process=False, force="mesh")
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)


if __name__ == "__main__":
    sys.exit(main())
