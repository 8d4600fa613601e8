"""The FLAME loader: which files it finds and where, what it does without, and what it says of damaged ones."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flame_files import (
    arrays,
    same_geometry,
    write_folder,
)

from tracker.config import Config
from tracker.errors import InputError
from tracker.head.flame import load_flame
from tracker.head.flame_places import flame_files, is_flame
from tracker.head_choice import head_name, load_head_model, model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "flame")
    return tmp_path / "flame"


def test_a_folder_of_ones_own(folder: Path) -> None:
    data = arrays()
    model = load_flame(folder)
    assert (model.shape_count, model.expression_count) == (300, 100)
    np.testing.assert_allclose(model.template.numpy(), data["v_template"], atol=1e-8)
    np.testing.assert_allclose(model.shape_basis.numpy(), data["shapedirs"][..., :300], atol=1e-9)
    np.testing.assert_allclose(model.expression_basis.numpy(), data["shapedirs"][..., 300:], atol=1e-9)
    assert model.contour is not None
    assert model.contour.faces.shape == (79, 17)
    assert model.landmarks68_fixed is not None
    assert len(model.landmarks68_fixed) == 68


def test_pickles_give_the_same_model(folder: Path) -> None:
    expected = load_flame(folder)
    for name in ("generic_model.pkl", "flame2023.pkl", "flame2023_Open.pkl"):
        for file in folder.glob("*.pkl"):
            file.unlink()
        (folder / name).write_bytes(pickle.dumps(arrays(), 2))
        (folder / "generic_model.npz").unlink(missing_ok=True)
        assert same_geometry(load_flame(folder), expected)


def test_metrical_trackers_folders(folder: Path, tmp_path: Path) -> None:
    """As its install script and its repository lay them out."""
    root = tmp_path / "metrical-tracker"
    places = {
        "generic_model.npz": "data/FLAME2020",
        "landmark_embedding.npy": "data",
        "head_template.obj": "data",
        "mediapipe_landmark_embedding.npz": "flame/mediapipe",
        "FLAME_masks.pkl": "data/FLAME2020/FLAME_masks",
        "l_eyelid.npy": "flame/blendshapes",
        "r_eyelid.npy": "flame/blendshapes",
    }
    count = len(arrays()["v_template"])
    masks = dict.fromkeys(("face", "left_eyeball", "right_eyeball"), np.arange(20))
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(masks, 0))
    for seed, name in enumerate(("l_eyelid.npy", "r_eyelid.npy")):
        np.save(folder / name, np.random.RandomState(seed).standard_normal((count, 3)))
    for name, place in places.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, root / place / ("uv_template.obj" if name.endswith("obj") else name))
    expected = load_flame(folder)
    for path in (root / "data/FLAME2020/generic_model.npz", root / "data/FLAME2020", root / "data", root):
        model = load_flame(path)
        assert same_geometry(model, expected)
        assert model.notes == ()
        assert torch.equal(model.eyelid_basis, expected.eyelid_basis)
        assert torch.equal(model.uv, expected.uv)
        assert model.regions["face"].tolist() == list(range(20))
        assert len(flame_files(path)) == len(places)


def _config(**values: Any) -> Config:
    return Config(actor="anna", **values)


def test_the_config_may_name_a_folder(folder: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "empty"
    nothing.mkdir()
    for values in ({"flame_geom_path": str(folder)}, {"head_path": str(folder)}):
        config = _config(**values)
        assert head_name(config) == "flame"
        assert load_head_model(config).name == "flame"
        assert set(model_files(config)) == set(flame_files(folder))
    with pytest.raises(InputError, match=r"flame_geom_path: .*empty is no FLAME model"):
        head_name(_config(flame_geom_path=str(nothing)))
    assert head_name(_config(flame_geom_path=str(folder), head_path="assets/generic_head.npz")) == "generic"
    assert is_flame(folder)
    assert not is_flame(nothing)
    assert not is_flame(Path("assets/generic_head.npz"))


@pytest.mark.parametrize("place", ["FLAME2020/flame2023.pkl", "FLAME2023/flame2023_Open.pkl", "generic_model.pkl"])
def test_any_release_in_assets_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").mkdir()
    assert head_name(_config()) == "generic"
    file = tmp_path / "assets" / place
    write_folder(file.parent)
    (file.parent / "generic_model.npz").unlink()
    file.write_bytes(pickle.dumps(arrays(), 2))
    assert head_name(_config()) == "flame"
    assert load_head_model(_config()).name == "flame"
    assert model_files(_config())[0].resolve() == file
    # A path that was given and is not there stands for nothing else.
    for head in ("auto", "flame"):
        with pytest.raises(InputError, match=r"data/FLAME2023.* no FLAME model"):
            load_head_model(_config(head=head, flame_geom_path="data/FLAME2023/generic_model.pkl"))
    assert head_name(_config(head="generic", flame_geom_path="data/FLAME2023/generic_model.pkl")) == "generic"


def test_metrical_trackers_own_default_path_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its YAML files may repeat it; a copy of one still runs here, and the log says which head it is."""
    monkeypatch.chdir(tmp_path)
    config = _config(flame_geom_path="data/FLAME2020/generic_model.pkl")
    assert head_name(config) == "generic"
    assert "metrical-tracker's own default, is not there" in load_head_model(config).notes[-1]
    write_folder(tmp_path / "assets/FLAME2020")
    assert head_name(config) == "flame"
    model = load_head_model(config)
    assert model.name == "flame"
    assert "the head model is assets/FLAME2020/generic_model.npz" in model.notes[-1]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/FLAME2020").symlink_to(tmp_path / "assets/FLAME2020")
    (tmp_path / "assets/FLAME2020/generic_model.pkl").write_bytes(pickle.dumps(arrays(), 2))
    assert model_files(config)[0] == Path("data/FLAME2020/generic_model.pkl")
    assert not any("metrical-tracker's own default" in note for note in load_head_model(config).notes)


def test_flame_and_ict_paths_together(folder: Path, tmp_path: Path) -> None:
    """As they come of pasting both lines of `assets`: FLAME, and the log says so."""
    ict = tmp_path / "ICT-FaceKit/FaceXModel"
    ict.mkdir(parents=True)
    (ict / "generic_neutral_mesh.obj").write_text("v 0 0 0\n")
    paths = {"flame_geom_path": str(folder), "head_path": str(ict.parent)}
    for head in ("auto", "flame"):
        config = _config(head=head, **paths)
        assert head_name(config) == "flame"
        model = load_head_model(config)
        assert model.name == "flame"
        assert "ICT-FaceKit holds ICT-FaceKit" in model.notes[-1]
        assert set(model_files(config)) == set(flame_files(folder))
    assert head_name(_config(head="ict", **paths)) == "ict"
    assert head_name(_config(head_path=str(ict))) == "ict"
    with pytest.raises(InputError, match=r"flame_geom_path: data/none is no FLAME model"):
        head_name(_config(flame_geom_path="data/none", head_path=str(ict)))
    # A head_path that is not there is a mistake, whatever else is named.
    with pytest.raises(InputError, match=r"typo: no FLAME model"):
        load_head_model(_config(head="flame", flame_geom_path=str(folder), head_path="typo"))


def test_modes_as_asked_for(folder: Path) -> None:
    model = load_head_model(_config(head_path=str(folder), num_shape_params=299, num_exp_params=7))
    assert (model.shape_count, model.expression_count) == (299, 7)
    model = load_head_model(_config(head_path=str(folder)))
    assert (model.shape_count, model.expression_count) == (300, 100)
    with pytest.raises(InputError, match=r"num_shape_params: 301 is more than the 300 that .*flame holds"):
        load_head_model(_config(head_path=str(folder), num_shape_params=301))
    with pytest.raises(InputError, match="num_exp_params: 101 is more than the 100"):
        load_head_model(_config(head_path=str(folder), num_exp_params=101))


@pytest.mark.parametrize(
    ("shapes", "expressions", "told", "counts"),
    [(10, 10, None, (10, 10)), (300, 50, None, (300, 50)), (40, 9, 40, (40, 9)), (12, 0, 12, (12, 0))],
)
def test_files_with_fewer_modes(
    tmp_path: Path, shapes: int, expressions: int, told: int | None, counts: tuple[int, int]
) -> None:
    data = arrays(shapes, expressions)
    write_folder(tmp_path, shapedirs=data["shapedirs"], shape_count=None if told is None else np.array(told))
    # The defaults, 300 and 100, stand for all that there is.
    model = load_head_model(_config(head_path=str(tmp_path)))
    assert (model.shape_count, model.expression_count) == counts
    np.testing.assert_allclose(model.expression_basis.numpy(), data["shapedirs"][..., counts[0] :], atol=1e-9)
    if counts[1]:
        params = model.neutral()
        assert torch.isfinite(model.vertices(params)).all()
    with pytest.raises(InputError, match=f"num_shape_params: {counts[0] + 1} is more than the {counts[0]}"):
        load_head_model(_config(head_path=str(tmp_path), num_shape_params=counts[0] + 1))


def test_a_split_that_nothing_tells_is_not_guessed(tmp_path: Path) -> None:
    write_folder(tmp_path, shapedirs=arrays(60, 30)["shapedirs"])
    with pytest.raises(InputError, match=r"generic_model\.npz: holds 90 modes.*add a key shape_count"):
        load_flame(tmp_path)
    write_folder(tmp_path, shapedirs=arrays(60, 30)["shapedirs"], shape_count=np.array(91))
    with pytest.raises(InputError, match="shape_count is 91, the file holds 90"):
        load_flame(tmp_path)


def test_older_names_of_the_arrays(folder: Path) -> None:
    data = arrays()
    aliases = {"v_template": "default_v", "J_regressor": "joint_regressor", "posedirs": "blendshapes"}
    np.savez(folder / "generic_model.npz", **{aliases.get(key, key): value for key, value in data.items()})
    np.testing.assert_allclose(load_flame(folder).template.numpy(), data["v_template"], atol=1e-8)


def _changed(key: str, change: Any) -> dict[str, Any]:
    return {key: change(arrays()[key].copy())}


def _with_nan(values: np.ndarray) -> np.ndarray:
    values.flat[5] = np.nan
    return values


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": None, "f": arrays()["f"]}, "lacks weights"),
        (_changed("weights", lambda x: x[:, :4]), "weights has shape"),
        (_changed("J_regressor", lambda x: x.T), "J_regressor has shape"),
        (_changed("posedirs", lambda x: x[..., :27]), "posedirs has shape"),
        (_changed("shapedirs", lambda x: x[:-1]), "shapedirs has shape"),
        (_changed("f", lambda x: x + 1000), "f names vertices outside"),
        (_changed("v_template", _with_nan), "v_template holds values that are not finite"),
        (_changed("v_template", lambda x: x * 1000), "v_template reaches 90"),
        (_changed("kintree_table", lambda x: x[:, ::-1]), "joints hang together"),
    ],
)
def test_arrays_that_do_not_fit_together(folder: Path, changed: dict[str, Any], said: str) -> None:
    data = {key: value for key, value in (arrays() | changed).items() if value is not None}
    np.savez(folder / "generic_model.npz", **data)
    with pytest.raises(InputError, match=rf"generic_model\.npz: .*{said}"):
        load_flame(folder)


def test_missing_files_are_named_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "generic_model.npz", **arrays())
    with pytest.raises(InputError, match=r"landmark_embedding\.npy.* and .*head_template\.obj"):
        load_flame(tmp_path)
    with pytest.raises(InputError, match=r"no FLAME model.*register"):
        load_flame(tmp_path / "nowhere")


def test_full_counts_that_are_spelt_out_and_not_there_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "small", shapedirs=arrays(10, 10)["shapedirs"])
    path = str(tmp_path / "small")
    assert not any("asked for" in note for note in load_head_model(_config(head_path=path)).notes)
    model = load_head_model(_config(head_path=path, num_shape_params=300))
    assert model.shape_count == 10
    assert any("num_shape_params: 300 asked for" in note and "holds 10" in note for note in model.notes)
