"""Damaged npz files: whoever reads one says so in one line that names it, whatever byte is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from flame_files import arrays, same_geometry, write_folder

from tracker.errors import InputError
from tracker.head.flame import load_flame
from tracker.head.flame_arrays import read_flame_arrays
from tracker.head.landmark_bias import LandmarkBias
from tracker.head.plain import PlainHead
from tracker.npz import read_npz
from tracker.safe_pickle import load_object_npz
from tracker.texture_space import open_texture_space

RNG = np.random.default_rng(0)


def _bias(path: Path) -> None:
    LandmarkBias(
        RNG.standard_normal((478, 3)), RNG.random(478), RNG.random(478), RNG.standard_normal((478, 3, 2)), "abc"
    ).save(path)


def _flame(path: Path) -> None:
    np.savez_compressed(path, **arrays(10, 10))


def _space(path: Path) -> None:
    np.savez_compressed(path, mean=RNG.random((8, 8, 3)), tex_dir=RNG.random((8, 8, 3, 2)))


def _head(path: Path) -> None:
    path.write_bytes(Path("assets/generic_head.npz").read_bytes())


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (_bias, LandmarkBias.load),
        (_flame, lambda path: read_flame_arrays(path, [])),
        (_flame, read_npz),
        (_flame, load_object_npz),
        (_space, open_texture_space),
        (_head, PlainHead.read),
    ],
    ids=["bias", "flame", "plain", "objects", "texture space", "head"],
)
def test_any_damaged_byte_gives_content_or_one_line(
    tmp_path: Path, write: Callable[[Path], None], read: Callable[[Path], Any]
) -> None:
    path, said = tmp_path / "file.npz", list[str]()
    write(path)
    whole, generator = path.read_bytes(), np.random.default_rng(1)
    # Half of the changes in the headers of first member and archive, where the structure is.
    edge = min(300, len(whole) // 4)
    places = [*generator.integers(0, edge, 20), *generator.integers(len(whole) - edge, len(whole), 20)]
    for place in [*places, *generator.integers(0, len(whole), 20)]:
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read(path)
        except InputError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all("file.npz" in text and "\n" not in text for text in said)


def test_a_missing_file_and_a_single_array(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: not there; fetch it"):
        read_npz(tmp_path / "none.npz", "fetch it")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"one\.npy: damaged \(it is a single array"):
        read_npz(tmp_path / "one.npy")


def test_an_npz_of_a_pickles_dict(tmp_path: Path) -> None:
    """np.savez(**pickle.load(file)): a sparse J_regressor, strings and a dict become objects."""
    write_folder(tmp_path / "flame")
    expected = load_flame(tmp_path / "flame")
    data = arrays()
    regressor = np.array(scipy.sparse.csc_matrix(data["J_regressor"]), dtype=object)
    objects = {"J_regressor": regressor, "bs_style": "lbs", "info": np.array({"a": 1}, dtype=object)}
    np.savez(tmp_path / "flame/generic_model.npz", allow_pickle=True, **data | objects)
    assert same_geometry(load_flame(tmp_path / "flame"), expected)
    np.savez(tmp_path / "flame/generic_model.npz", allow_pickle=True, **data, info=np.array(torch.nn.Linear, object))
    with pytest.raises(InputError, match=r"generic_model\.npz: refused: it holds torch\.nn\.modules\.linear\.Linear"):
        load_flame(tmp_path / "flame")
