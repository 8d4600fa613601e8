"""The Basel Face Model's colours as a texture space of FLAME.

Each texel of FLAME's layout that BFM covers has three BFM vertices and weights; its colour is their mix, for the mean
and for a component at one standard deviation. Texels without stay black or take a given inpainting.

Source: the rules of TimoBolkart/BFM_to_FLAME (col_to_tex.py); Gerig et al., Morphable Face Models - An Open Framework,
FG 2018 (the model file).
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracker.errors import InputError
from tracker.npz import read_npz
from tracker.safe_pickle import load_object_npy

_COLOUR = "color/model"


@dataclass(frozen=True, eq=False)
class BfmColour:
    """Colours of BFM's vertices, RGB in [0, 1].

    Attributes:
        mean: (V, 3) float64.
        basis: (V, 3, K) float64 at one standard deviation.
    """

    mean: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True, eq=False)
class TexelCorrespondence:
    """Where on BFM the texels of FLAME's layout lie.

    Attributes:
        height: rows of the texture.
        width: columns.
        rows: (P,) of the texels that BFM covers.
        columns: (P,).
        vertices: (P, 3) BFM vertex ids.
        weights: (P, 3) barycentric; may lie a little outside the triangle.
    """

    height: int
    width: int
    rows: np.ndarray
    columns: np.ndarray
    vertices: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Inpainting:
    """Colours for the texels that BFM does not cover, at a lower resolution, BGR.

    Attributes:
        mean: (S, S, 3).
        basis: (S, S, 3, K).
    """

    mean: np.ndarray
    basis: np.ndarray


def read_bfm_colour(path: Path) -> BfmColour:
    """Reads model2017-1_bfm_nomouth.h5.

    Raises:
        InputError: the file is missing or another kind of file, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path}: reading it needs h5py; run: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            parts = {name: np.asarray(file[_COLOUR][name], np.float64) for name in ("mean", "pcaBasis", "pcaVariance")}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: no Basel Face Model with colours ({error}); get model2017-1_bfm_nomouth.h5"
        ) from error
    mean, basis, variance = parts["mean"].ravel(), parts["pcaBasis"], parts["pcaVariance"].ravel()
    if len(mean) % 3 or basis.shape != (len(mean), len(variance)) or (variance < 0).any():
        raise InputError(f"{path}: colours of {len(mean)} values with a basis of {basis.shape} do not fit together")
    return BfmColour(mean.reshape(-1, 3), (basis * np.sqrt(variance)).reshape(-1, 3, len(variance)))


def read_texel_correspondence(path: Path) -> TexelCorrespondence:
    """Reads cached_data.npy of the public converter.

    Raises:
        InputError: the file is missing, damaged or another kind of file.
    """
    data = load_object_npy(path)
    wanted = ("w", "h", "ids", "x_coords", "y_coords", "valid_BFM_faces", "valid_BFM_b_coords")
    missing = [key for key in wanted if not isinstance(data, dict) or key not in data]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; get cached_data.npy of BFM_to_FLAME")
    width, height = int(data["w"]), int(data["h"])
    ids = np.asarray(data["ids"]).astype(np.int64)
    # Texel centres lie at half numbers.
    places = [np.asarray(data[key]) for key in ("x_coords", "y_coords")]
    if ids.size and (ids.min() < 0 or ids.max() >= min(map(len, places))):
        raise InputError(f"{path}: ids name texels beyond the {len(places[0])} given; get it from BFM_to_FLAME again")
    columns, rows = (values[ids].astype(np.int64) for values in places)
    vertices, weights = np.asarray(data["valid_BFM_faces"]), np.asarray(data["valid_BFM_b_coords"], np.float64)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    if not vertices.shape == weights.shape == (len(ids), 3) or not inside.all():
        raise InputError(f"{path}: texels and BFM triangles do not fit together; get it from BFM_to_FLAME again")
    return TexelCorrespondence(height, width, rows, columns, vertices.astype(np.int64), weights)


def read_inpainting(path: Path, components: int) -> Inpainting:
    """Reads mask_inpainting.npz of the public converter.

    Raises:
        InputError: the file is missing, damaged, or of another number of components.
    """
    data = read_npz(path)
    mean, basis = data.get("MU", np.zeros(0)), data.get("PC", np.zeros((0, 0)))
    side = round(np.sqrt(mean.size / 3))
    if mean.size == 0 or mean.size != 3 * side * side or basis.shape != (mean.size, components):
        raise InputError(
            f"{path}: MU of {mean.size} and PC {basis.shape}, expected square pictures of {components} components"
        )
    return Inpainting(
        mean.reshape(side, side, 3).astype(np.float64), basis.reshape(side, side, 3, components).astype(np.float64)
    )


def write_albedo_space(
    path: Path, colour: BfmColour, texels: TexelCorrespondence, inpainting: Inpainting | None = None
) -> None:
    """Writes FLAME_albedo_from_BFM.npz: MU (H W 3,) and PC (H W 3, K), float64, BGR, row 0 at v = 1.

    A row of texels is made and written at a time: the whole takes more than a gigabyte.

    Raises:
        InputError: the correspondence is of another model.
    """
    if len(texels.vertices) and texels.vertices.max() >= len(colour.mean):
        raise InputError(
            f"the correspondence names BFM vertex {texels.vertices.max()}, the model has {len(colour.mean)}; they do "
            f"not belong together"
        )
    components = colour.basis.shape[2]
    everything = np.concatenate([colour.mean[..., None], colour.basis], 2)
    size = texels.height * texels.width * 3
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        mean = np.empty(size)
        with archive.open("PC.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f8", "fortran_order": False, "shape": (size, components)}
            np.lib.format.write_array_header_1_0(file, header)
            for row, colours in enumerate(_rows(everything, texels, inpainting)):
                flat = colours.reshape(-1, components + 1)
                mean[row * len(flat) : (row + 1) * len(flat)] = flat[:, 0]
                file.write(np.ascontiguousarray(flat[:, 1:], "<f8").tobytes())
        with archive.open("MU.npy", "w") as file:
            np.lib.format.write_array(file, mean)


def _rows(everything: np.ndarray, texels: TexelCorrespondence, inpainting: Inpainting | None) -> Iterator[np.ndarray]:
    """(W, 3, 1 + K) of each row of texels, BGR: the mean, then the components."""
    order = np.argsort(texels.rows, kind="stable")
    bounds = np.searchsorted(texels.rows[order], np.arange(texels.height + 1))
    filling: Any = None
    if inpainting is not None:
        filling = np.concatenate([inpainting.mean[..., None], inpainting.basis], 3)
    for row in range(texels.height):
        out = np.zeros((texels.width, *everything.shape[1:]))
        if filling is not None:
            out[:] = _resized_row(filling, row, (texels.height, texels.width))
        own = order[bounds[row] : bounds[row + 1]]
        mixed = np.einsum("pc,pcxk->pxk", texels.weights[own], everything[texels.vertices[own]])
        out[texels.columns[own]] = mixed[:, ::-1]
        yield out


def _resized_row(picture: np.ndarray, row: int, size: tuple[int, int]) -> np.ndarray:
    """One row (W, ...) of a picture (S, S, ...) enlarged between pixel centres, bilinearly, the border repeated."""
    (above, below), share = _neighbours(np.array([row]), size[0], len(picture))
    line = picture[above[0]] * (1 - share[0]) + picture[below[0]] * share[0]
    (left, right), share = _neighbours(np.arange(size[1]), size[1], picture.shape[1])
    share = share.reshape(-1, *([1] * (line.ndim - 1)))
    return line[left] * (1 - share) + line[right] * share


def _neighbours(places: np.ndarray, to: int, count: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Pixels before and behind each place of a finer line, and the second one's share."""
    position = np.clip((places + 0.5) * count / to - 0.5, 0, count - 1)
    before = np.floor(position).astype(np.int64)
    return (before, np.minimum(before + 1, count - 1)), position - before
