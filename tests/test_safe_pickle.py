"""Pickles of FLAME files: every age of them loads without chumpy, nothing else does, and text copies are repaired."""

import importlib.util
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from tracker import line_endings, torch_zip
from tracker.errors import InputError
from tracker.head.flame_arrays import read_flame_arrays
from tracker.head.flame_regions import read_masks
from tracker.safe_pickle import load_object_npy, load_pickle

PICKLES = ("mini_flame_2023style_py3_protocol5", "mini_flame_chumpy070_py3_protocol2", "mini_flame_py2style_protocol2")


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_of_every_age_give_equal_arrays(shared_dir: Path, name: str) -> None:
    assert importlib.util.find_spec("chumpy") is None
    folder = shared_dir / "parity/golden/pickles"
    data = load_pickle(folder / f"{name}.pkl")
    with np.load(folder / "mini_flame_arrays.npz") as expected:
        for key in ("f", "v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "J"):
            assert np.array_equal(np.asarray(data[key]), expected[key]), key


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Classes that pickle under chumpy's names, without chumpy."""

    class Ch:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    class Select(Ch):
        pass

    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for module, cls in (("chumpy.ch", Ch), ("chumpy.reordering", Select)):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], cls.__name__, cls)
        cls.__module__, cls.__qualname__ = module, cls.__name__
    return types.SimpleNamespace(Ch=Ch, Select=Select)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_chumpy_arrays_and_selections_of_them(tmp_path: Path, chumpy: types.SimpleNamespace, protocol: int) -> None:
    whole = np.arange(24.0).reshape(2, 12)
    picked = chumpy.Select(
        a=chumpy.Ch(x=whole, _dirty_vars=set()), idxs=np.array([3, 1, 20, 7]), preferred_shape=(2, 2)
    )
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"leaf": chumpy.Ch(x=whole), "picked": picked}, protocol))
    data = load_pickle(path)
    np.testing.assert_array_equal(data["leaf"], whole)
    np.testing.assert_array_equal(data["picked"], [[3, 1], [20, 7]])


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_numpy_1_and_2_name_their_core_otherwise(tmp_path: Path, module: bytes) -> None:
    array = np.arange(6, dtype=np.float32)
    # Protocol 2: names end with a line feed, no lengths hang on them.
    data = pickle.dumps({"array": array, "number": np.float64(2.5)}, 2)
    here = b"numpy.core" if b"cnumpy.core.multiarray\n" in data else b"numpy._core"
    assert here + b".multiarray\n" in data
    path = tmp_path / "model.pkl"
    path.write_bytes(data.replace(here + b".multiarray\n", module + b".multiarray\n"))
    read = load_pickle(path)
    np.testing.assert_array_equal(read["array"], array)
    assert read["number"] == 2.5


@pytest.mark.parametrize("module", ["scipy.sparse.csc", "scipy.sparse._csc"])
def test_sparse_matrices_become_dense(tmp_path: Path, module: str) -> None:
    dense = np.array([[0, 1.5, 0], [2, 0, 3]])
    # Protocol 0: the module's name ends with a line feed.
    data = pickle.dumps(scipy.sparse.csc_matrix(dense), 0)
    path = tmp_path / "model.pkl"
    path.write_bytes(data.replace(b"scipy.sparse._csc\n", module.encode() + b"\n"))
    np.testing.assert_array_equal(load_pickle(path), dense)


def test_sparse_matrices_with_damaged_indices_are_refused(tmp_path: Path) -> None:
    """scipy itself would write beyond its memory."""
    path = tmp_path / "model.pkl"
    for place, value in (("indices", 10**6), ("indptr", 10**6)):
        matrix = scipy.sparse.csc_matrix(np.eye(4))
        getattr(matrix, place)[1] = value
        path.write_bytes(pickle.dumps(matrix))
        with pytest.raises(InputError, match=r"model\.pkl: damaged pickle"):
            load_pickle(path)
    path.write_bytes(pickle.dumps(scipy.sparse.csc_matrix((10**6, 10**6))))
    with pytest.raises(InputError, match="larger than any model's"):
        load_pickle(path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_with_code_is_refused_by_name(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"f": _Evil()}, protocol))
    with pytest.raises(InputError, match=r"model\.pkl: refused: it holds (__)?builtin(s|__)\.eval") as caught:
        load_pickle(path)
    assert "\n" not in str(caught.value)


def test_other_codecs_than_latin1_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Va\nVrot13\ntR.")
    with pytest.raises(InputError, match="encodes text as rot13"):
        load_pickle(path)


def test_damage_is_not_called_a_foreign_class(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"f": np.zeros((4, 3))})[:-20])
    with pytest.raises(InputError, match=r"model\.pkl: damaged pickle"):
        load_pickle(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        (b"\n<!DOCTYPE html>\n<html>", "web page"),
    ],
)
def test_what_lies_in_place_of_a_file_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "FLAME_masks.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"FLAME_masks\.pkl: .*{said}"):
        load_pickle(path)


def _masks() -> dict[str, np.ndarray]:
    # Among them 10 and 13, line feed and carriage return, alone and in either order, in every byte of a number.
    awkward = [10, 13, 10 + 13 * 256, 13 + 10 * 256, 13 + 13 * 256 + 10 * 65536, 2570, 3341]
    return {"face": np.array(awkward + list(range(300))), "neck": np.array([13, 10, 13, 10])}


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_a_pickle_copied_as_text_is_repaired(tmp_path: Path, protocol: int) -> None:
    good = pickle.dumps(_masks(), protocol)
    path = tmp_path / "FLAME_masks.pkl"
    path.write_bytes(good)
    notes: list[str] = []
    load_pickle(path, notes)
    assert notes == []
    path.write_bytes(good.replace(b"\n", b"\r\n"))
    read = load_pickle(path, notes)
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert "repaired" in notes[0]
    for name, ids in _masks().items():
        np.testing.assert_array_equal(read[name], ids)


def test_the_published_masks_survive_git_on_windows(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "flame_like/FLAME_masks.pkl"
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes(), encoding="latin1")
    good, read = load_pickle(source), load_pickle(path)
    assert len(good) == 14
    for name, ids in good.items():
        np.testing.assert_array_equal(read[name], ids)


def test_lost_carriage_returns_cannot_be_repaired(tmp_path: Path) -> None:
    """One too few breaks the pickle; two in one array shift its bytes, and the numbers give it away."""
    path = tmp_path / "FLAME_masks.pkl"
    good = pickle.dumps({"face": np.array([7, 13 + 10 * 256, 9])}, 2)
    assert good.count(b"\r\n") == 1
    path.write_bytes(good.replace(b"\r\n", b"\n"))
    with pytest.raises(InputError, match=r"FLAME_masks\.pkl: damaged pickle.*as a binary file"):
        load_pickle(path)
    good = pickle.dumps(_masks(), 2)
    assert good.count(b"\r\n") == 2
    path.write_bytes(good.replace(b"\r\n", b"\n"))
    with pytest.raises(InputError, match=r"FLAME_masks\.pkl: the region face names vertex"):
        read_masks(path, 5023, [])


def test_a_text_copy_that_is_damaged_otherwise_too_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "FLAME_masks.pkl"
    path.write_bytes(pickle.dumps(_masks(), 0).replace(b"\n", b"\r\n")[:-50])
    with pytest.raises(InputError, match=r"FLAME_masks\.pkl"):
        load_pickle(path)


def test_an_undamaged_file_that_looks_like_a_text_copy(tmp_path: Path) -> None:
    """Its only line feed follows a carriage return, by chance."""
    good = pickle.dumps([b"\r\n"], 4)
    assert line_endings.was_copied_as_text(good)
    path = tmp_path / "model.pkl"
    path.write_bytes(good)
    notes: list[str] = []
    assert load_pickle(path, notes) == [b"\r\n"]
    assert notes == []


def test_an_npy_with_a_dict_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "landmark_embedding.npy"
    content = {"faces": torch.arange(12).reshape(3, 4), "bary": np.ones(3), "half": torch.ones(2, dtype=torch.float16)}
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    read = load_object_npy(path)
    assert isinstance(read["faces"], np.ndarray)
    np.testing.assert_array_equal(read["faces"], content["faces"])
    assert read["half"].dtype == np.float16


@pytest.mark.parametrize("content", [b"no npy at all", b"\x93NUMPY\x01\x00"])
def test_other_files_under_that_name_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "landmark_embedding.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"landmark_embedding\.npy"):
        load_object_npy(path)


def test_a_plain_array_under_that_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(InputError, match=r"landmark_embedding\.npy.*not a dict"):
        load_object_npy(path)


@pytest.mark.parametrize("name", PICKLES)
def test_any_damaged_byte_of_a_model_gives_a_model_or_an_input_error(
    shared_dir: Path, tmp_path: Path, name: str
) -> None:
    whole = (shared_dir / f"parity/golden/pickles/{name}.pkl").read_bytes()
    generator, path, said = np.random.default_rng(0), tmp_path / "model.pkl", list[str]()
    # Half of the changes in the first and last kilobytes, where the structure is.
    edge = min(2000, len(whole) // 4)
    places = [*generator.integers(0, edge, 100), *generator.integers(len(whole) - edge, len(whole), 50)]
    for place in [*places, *generator.integers(0, len(whole), 100)]:
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_flame_arrays(path, [])
        except InputError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all("model.pkl" in text and "\n" not in text for text in said)


def test_refusals_are_one_line_and_name_the_class_of_a_text_copy(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05a\nb.c\x8c\x01d\x93.")
    with pytest.raises(InputError, match=r"model\.pkl: refused: it holds a b\.c\.d, which") as refused:
        load_pickle(path)
    assert "\n" not in str(refused.value)
    path.write_bytes(b"cos\r\nsystem\r\n(S'true'\r\ntR.")
    with pytest.raises(InputError, match=r"refused: it holds os\.system, which"):
        load_pickle(path)


def test_a_checkpoint_may_ask_for_no_codec_but_latin1(tmp_path: Path) -> None:
    path = tmp_path / "00001.frame"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("00001/data.pkl", b"c_codecs\nencode\n(Va\nVrot13\ntR.")
    with pytest.raises(pickle.UnpicklingError, match="encodes text as rot13"):
        torch_zip.load(path)
