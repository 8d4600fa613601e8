"""MICA on pictures, as its demo does it: `python -m tracker.mica IMAGE… [--output DIR]`.

Each picture gets a folder of its name with identity.npy, kpt68.npy, kpt7.npy, mesh.obj and mesh.ply (millimetres), and
arcface/ gets what the network saw of it. `--person NAME` takes all pictures for one person: one folder NAME with the
robust mean of their codes. `python -m tracker.mica export` writes the networks for onnxruntime, beside the weights.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tracker.atomic_write import check_writable, write_bytes
from tracker.command_line import OneLineParser
from tracker.detectors.scrfd import find_scrfd
from tracker.errors import InputError
from tracker.mica.align import aligned, network_input
from tracker.mica.checkpoint import load_head_buffers
from tracker.mica.encoder import export_path, load_encoder
from tracker.mica.five import FivePointFinder, FivePoints
from tracker.mica.results import IDENTITY_NAME, head_files, picture_files
from tracker.mica.robust_mean import robust_mean

WEIGHTS = Path("assets/mica.tar")
OUTPUT = Path("output/mica")
_PICTURES = "arcface"
BAD_INPUT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, or 1 for bad input, with a line that says what."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["export"]:
            _export(given[1:])
        else:
            _pictures(given)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    except OSError as error:
        # What could be written when the work began and cannot any more, e.g. on a full disk.
        sys.stderr.write(f"{error.filename or 'output'}: {error.strerror or error}\n")
        return BAD_INPUT
    return 0


def _export(arguments: Sequence[str]) -> None:
    """`export [--weights FILE] [--output FILE]`."""
    from tracker.mica.export import export_onnx

    parser = OneLineParser(prog="python -m tracker.mica export", description="Writes MICA for onnxruntime.")
    _add_weights(parser)
    parser.add_argument("--output", type=Path, help="the .onnx file (default: beside the weights)")
    options = parser.parse_args(arguments)
    target = options.output or export_path(options.weights)
    export_onnx(options.weights, target)
    _say(f"{target}: {target.stat().st_size / 1e6:.0f} MB")


def _pictures(arguments: Sequence[str]) -> None:
    """`IMAGE… [--weights FILE] [--output DIR] [--person NAME] [--device cpu|cuda]`."""
    parser = OneLineParser(
        prog="python -m tracker.mica", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures of one face each")
    _add_weights(parser)
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder of the results (default {OUTPUT})")
    parser.add_argument("--person", metavar="NAME", help="all pictures show one person: one result, NAME")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    names = [path.stem for path in options.images]
    if len(set(names)) < len(names):
        raise InputError(f"{options.images[0].parent}: two pictures have the same name; rename one")
    _check_folders(options.output, [_PICTURES, *([options.person] if options.person else names)])
    encoder, note = load_encoder(options.weights, options.device)
    if note:
        _say(note)
    head = load_head_buffers(options.weights)
    found = _faces(options.images, options.device)
    codes = {}
    for name, (image, five) in found.items():
        (encoding,) = encoder.encode([network_input(aligned(image, five.points_px))])
        codes[name] = encoding.shape
        _write(options.output / _PICTURES, picture_files(name, image, five.points_px))
        _say(f"{name}: points by {five.source}, {encoder.runtime}")
    if options.person:
        mean = robust_mean(np.stack(list(codes.values())))
        apart = [name for name, out in zip(codes, mean.outliers, strict=True) if out]
        _say(f"{options.person}: {len(codes)} pictures" + (f"; left out: {', '.join(apart)}" if apart else ""))
        codes = {options.person: mean.code}
    for name, code in codes.items():
        _write(options.output / name, head_files(code, head))


def _check_folders(output: Path, names: Sequence[str]) -> None:
    """Finds out before the work whether there can be folders of these names.

    Raises:
        InputError: the output folder cannot be written to, or a file lies where a folder is to be.
    """
    check_writable(output / IDENTITY_NAME)
    for name in names:
        if (output / name).exists() and not (output / name).is_dir():
            raise InputError(f"{output / name}: is a file, and a folder of that name is to be written; move it away")


def _faces(paths: Sequence[Path], device: str) -> dict[str, tuple[np.ndarray, FivePoints]]:
    """Picture and five points by name.

    Raises:
        InputError: a file is no picture; no picture has a face.
    """
    found = {}
    with FivePointFinder(find_scrfd(), device) as finder:
        for path in paths:
            image = _read(path)
            five = finder.find(image)
            if five is None:
                _say(f"{path}: no face found; left out")
            else:
                found[path.stem] = (image, five)
    if not found:
        raise InputError(f"{paths[0]}: no face in any picture; give pictures in which the face is large and upright")
    return found


def _read(path: Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB, turned as its EXIF data say."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a picture file") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise InputError(f"{path}: not a picture; give .png or .jpg files")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes files that appear whole."""
    for name, data in files.items():
        write_bytes(folder / name, data)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help=f"MICA's weights (default {WEIGHTS})")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
