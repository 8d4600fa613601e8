"""FLAME's texture spaces: linear models of a face's albedo over FLAME's UV layout.

Two files are in use, told apart by their keys. FLAME_texture.npz (`mean`, `tex_dir`; values 0 to 255) comes with FLAME;
FLAME_albedo_from_BFM.npz (`MU`, `PC`; values 0 to 1, flat) is made from the Basel Face Model (`tracker.head.bfm`).
Channels are BGR in both. Here they are RGB in [0, 1], row 0 at v = 1, and a coefficient is a standard deviation.

The bases take half a gigabyte and more, so they are read row by row and never held whole.

Source: the rules as metrical-tracker, DECA and photometric_optimization apply them (they are the same).
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from tracker.errors import InputError
from tracker.npz import DAMAGE, one_line

# metrical-tracker's own default, which its YAML files may repeat though the file is not on this machine.
LEGACY_PATH = Path("data/FLAME2020/FLAME_texture.npz")
NAMES = ("FLAME_texture.npz", "FLAME_albedo_from_BFM.npz")
# Key of the mean and of the basis, and what a stored 1 is worth, by kind.
_KEYS = {"flame": ("mean", "tex_dir", 255.0), "bfm": ("MU", "PC", 1.0)}
# Numbers read at once: 64 MiB of float64.
_CHUNK_NUMBERS = 1 << 23


@dataclass(frozen=True, eq=False)
class TextureSpace:
    """A texture space on disk.

    Attributes:
        path: its file.
        kind: 'flame' or 'bfm'.
        side: texels a side.
        modes: how many it holds.
        mean: (side, side, 3) float32 RGB in [0, 1].
        layout: (T, 2) texture vertices and (F, 3) texture triangles that the file itself gives, or None: those of
            FLAME's head_template.
    """

    path: Path
    kind: str
    side: int
    modes: int
    mean: np.ndarray
    layout: tuple[np.ndarray, np.ndarray] | None


def find_texture_space(path: str, model_files: list[Path]) -> Path | None:
    """The file that a config means.

    Args:
        path: as configured; empty: beside the head model's file or in the folder above, FLAME's own space first.
        model_files: files of the head model, its geometry first.

    Returns:
        The file, or None where there is none.

    Raises:
        InputError: the configured file is not there.
    """
    check_texture_path(path)
    if path and Path(path).is_file():
        return Path(path)
    if not model_files:
        return None
    folder = model_files[0].parent
    candidates = (place / name for name in NAMES for place in (folder, folder / "..", folder / "TextureSpace"))
    return next((file for file in candidates if file.is_file()), None)


def check_texture_path(path: str) -> None:
    """Refuses a configured `tex_space_path` that is no file; metrical-tracker's own default is as good as none.

    Raises:
        InputError: it is not there.
    """
    if path and not Path(path).is_file() and Path(path) != LEGACY_PATH:
        raise InputError(f"tex_space_path: {path} is not there; correct it, or leave it out for the one beside FLAME")


def open_texture_space(path: Path) -> TextureSpace:
    """Reads all of a texture space but its basis.

    Args:
        path: FLAME_texture.npz or FLAME_albedo_from_BFM.npz.

    Returns:
        The space.

    Raises:
        InputError: the file is damaged or another kind of file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            kind = next((kind for kind, (mean, basis, _) in _KEYS.items() if {mean, basis} <= set(archive.files)), "")
            if not kind or "specPC" in archive.files:
                raise InputError(
                    f"{path}: holds {', '.join(archive.files[:6]) or 'nothing'}; expected mean and tex_dir "
                    f"(FLAME_texture.npz) or MU and PC alone (FLAME_albedo_from_BFM.npz)"
                )
            mean, white = np.asarray(archive[_KEYS[kind][0]], np.float32), np.float32(_KEYS[kind][2])
            given = {key: archive[key] for key in ("vt", "ft") if key in archive.files}
        with _basis_file(path, kind) as member:
            shape, _, dtype = _header(member)
    except DAMAGE as error:
        raise InputError(f"{path}: not a readable texture space ({one_line(error)}); get it anew") from error
    side = round(np.sqrt(mean.size / 3))
    rows, modes = int(np.prod(shape[:-1])), int(shape[-1]) if shape else 0
    if mean.size != 3 * side * side or rows != mean.size or modes == 0 or dtype.kind != "f":
        raise InputError(f"{path}: mean of {mean.size} and basis {shape} do not make square textures; get it again")
    layout = _layout(given)
    return TextureSpace(path, kind, side, modes, (mean / white).reshape(side, side, 3)[..., ::-1].copy(), layout)


def _layout(given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The file's own UV layout, where it has one that makes sense."""
    if len(given) != 2 or given["vt"].ndim != 2 or given["ft"].ndim != 2 or given["ft"].shape[1] != 3:
        return None
    uv, triangles = given["vt"][:, :2].astype(np.float32), given["ft"].astype(np.int64)
    return (uv, triangles) if triangles.size and triangles.min() >= 0 and triangles.max() < len(uv) else None


def basis_at(space: TextureSpace, texels: np.ndarray, count: int) -> np.ndarray:
    """The first modes at some texels.

    Args:
        space: the space.
        texels: (M,) row x side + column, ascending.
        count: modes wanted, at most those that it holds.

    Returns:
        (M, 3, count) float32 RGB in [0, 1].

    Raises:
        InputError: the file is damaged.
    """
    wanted = (3 * texels[:, None] + np.arange(3)).ravel()
    out = np.empty((len(wanted), count), np.float32)
    for first, chunk in _basis_rows(space):
        begin, end = np.searchsorted(wanted, (first, first + len(chunk)))
        out[begin:end] = chunk[wanted[begin:end] - first, :count]
    return (out / np.float32(_KEYS[space.kind][2])).reshape(len(texels), 3, count)[:, ::-1]


def texture_image(
    space: TextureSpace, code: np.ndarray, size: tuple[int, int] | None = None, nearest: bool = False
) -> np.ndarray:
    """The picture of a code, not clamped.

    Args:
        space: the space.
        code: (K,) coefficients of its first modes (`flame.tex` of a `.frame` file).
        size: (height, width) that it is resized to; None: as stored.
        nearest: take every n-th texel, as DECA does; else bilinear between texel centres without a low-pass, as
            metrical-tracker does.

    Returns:
        (H, W, 3) float32 RGB, 0 to 1 for most codes.

    Raises:
        InputError: the file is damaged, or has fewer modes than the code.
    """
    if len(code) > space.modes:
        raise InputError(f"{space.path}: has {space.modes} modes, the code {len(code)}; lower tex_params")
    picture = np.empty(3 * space.side * space.side, np.float32)
    for first, chunk in _basis_rows(space):
        picture[first : first + len(chunk)] = chunk[:, : len(code)] @ np.asarray(code, chunk.dtype)
    white = np.float32(_KEYS[space.kind][2])
    image = space.mean + (picture / white).reshape(space.side, space.side, 3)[..., ::-1]
    if size is None:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)


@contextmanager
def _basis_file(path: Path, kind: str) -> Iterator[IO[bytes]]:
    """The basis as a stream."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{_KEYS[kind][1]}.npy") as file:
        yield file


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis runs fastest, and type of the array that follows."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    return shape, fortran, dtype


def _basis_rows(space: TextureSpace) -> Iterator[tuple[int, np.ndarray]]:
    """The basis (rows, modes) in pieces: number of the first row and the rows as stored."""
    try:
        with _basis_file(space.path, space.kind) as file:
            shape, fortran, dtype = _header(file)
            rows, modes = int(np.prod(shape[:-1])), shape[-1]
            if not fortran:
                at_once = max(1, _CHUNK_NUMBERS // modes)
                for first in range(0, rows, at_once):
                    count = min(at_once, rows - first)
                    data = file.read(count * modes * dtype.itemsize)
                    yield first, np.frombuffer(data, dtype).reshape(count, modes)
                return
        with space.path.open("rb") as whole, np.load(whole, allow_pickle=False) as archive:
            yield 0, archive[_KEYS[space.kind][1]].reshape(rows, modes)
    except DAMAGE as error:
        raise InputError(f"{space.path}: the basis is damaged ({one_line(error)}); get it anew") from error
