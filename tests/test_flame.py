"""The FLAME loader: which files it finds and where, what it does without, and what it says of damaged ones."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flame_files import (
    EYE_CENTRES_M,
    EYE_RADIUS_M,
    arrays,
    same_geometry,
    write_folder,
    write_landmarks,
    write_npy,
    write_template,
)

from tracker.config import Config
from tracker.errors import InputError
from tracker.head.flame import load_flame
from tracker.head.flame_places import flame_files, is_flame
from tracker.head.irises import IRIS_RADIUS_M, iris_embedding
from tracker.head.model import embed
from tracker.head_choice import head_name, load_head_model, model_files
from tracker.landmark_set import landmark_set


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


def test_embeddings_of_flame_pytorch(folder: Path) -> None:
    data = write_landmarks(folder, len(arrays()["f"]))
    expected = load_flame(folder)
    (folder / "landmark_embedding.npy").unlink()
    static = {"lmk_face_idx": data["static_lmk_faces_idx"], "lmk_b_coords": data["static_lmk_bary_coords"]}
    dynamic = {
        "lmk_face_idx": data["dynamic_lmk_faces_idx"].numpy(),
        "lmk_b_coords": data["dynamic_lmk_bary_coords"].numpy(),
    }
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static, 2))
    write_npy(folder / "flame_dynamic_embedding.npy", dynamic)
    model = load_flame(folder)
    assert model.contour is not None
    assert expected.contour is not None
    for found, wanted in ((model.landmarks68, expected.landmarks68), (model.contour, expected.contour)):
        assert torch.equal(found.faces, wanted.faces)
        assert torch.equal(found.bary, wanted.bary)
    assert model.landmarks68_fixed is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("static_lmk_faces_idx"), "lacks static_lmk_faces_idx"),
        (lambda data: data.update(static_lmk_faces_idx=np.zeros(50, int)), "has shape"),
        (lambda data: data.update(static_lmk_faces_idx=np.full(51, 10**6)), "names triangle 1000000"),
        (lambda data: data.update(static_lmk_bary_coords=np.ones((51, 3))), "add up to one"),
    ],
)
def test_embeddings_of_another_model_are_refused(folder: Path, change: Any, said: str) -> None:
    data = write_landmarks(folder, len(arrays()["f"]))
    change(data)
    write_npy(folder / "landmark_embedding.npy", data)
    with pytest.raises(InputError, match=rf"landmark_embedding\.npy: .*{said}"):
        load_flame(folder)


def test_facemesh_numbers_are_checked(folder: Path) -> None:
    path = folder / "mediapipe_landmark_embedding.npz"
    with np.load(path) as archive:
        data = {key: archive[key] for key in archive.files}
    for numbers in (np.zeros(105, int), np.arange(105) + 400, -np.arange(105)):
        np.savez(path, **data | {"landmark_indices": numbers})
        with pytest.raises(InputError, match=r"mediapipe_landmark_embedding\.npz: landmark_indices"):
            load_flame(folder)


def test_without_the_files_that_something_can_replace(folder: Path) -> None:
    (folder / "mediapipe_landmark_embedding.npz").unlink()
    model = load_flame(folder)
    told = " ".join(model.notes)
    for name in ("mediapipe_landmark_embedding.npz", "FLAME_masks.pkl", "l_eyelid.npy"):
        assert told.count(name) == 1
    numbers = model.landmarks478.indices.tolist()
    # Inner iBUG points that one FaceMesh point stands for, and ten iris points.
    assert {4, 33, 263, 13, 14} <= set(numbers)
    assert numbers[-10:] == list(range(468, 478))
    points = embed(model.landmarks478.faces, model.landmarks478.bary, model.triangles, model.template)
    ibug = embed(model.landmarks68.faces, model.landmarks68.bary, model.triangles, model.template)
    # 30 is the tip of the nose, 36 and 45 the outer eye corners.
    for number, place in ((4, 30), (33, 36), (263, 45)):
        assert torch.equal(points[numbers.index(number)], ibug[place])
    assert set(landmark_set(model, False).dense.tolist()) == set(numbers)
    assert {"face", "left_eyeball", "right_eyeball"} <= set(model.regions)


def test_irises_lie_on_the_eyeballs() -> None:
    data = arrays()
    found = iris_embedding(data["v_template"], data["f"].astype(int), data["weights"])
    assert found is not None
    corners = data["v_template"][data["f"][found.faces.numpy()]]
    points = (corners * found.bary.numpy()[..., None]).sum(1)
    for first, centre in ((0, EYE_CENTRES_M[1]), (5, EYE_CENTRES_M[0])):
        arms = points[first : first + 5] - centre
        # Flat triangles lie inside the ball that their corners lie on: 4 % here.
        np.testing.assert_allclose(np.linalg.norm(arms, axis=1), EYE_RADIUS_M, rtol=0.06)
        across = np.hypot(arms[1:, 0], arms[1:, 1])
        np.testing.assert_allclose(across, IRIS_RADIUS_M, rtol=0.06)
        assert (arms[:, 2] > 0).all()
        # Towards +x, up, towards -x, down, as FaceMesh counts both irises.
        assert arms[1, 0] > 0 > arms[3, 0]
        assert arms[2, 1] > 0 > arms[4, 1]
    assert iris_embedding(data["v_template"], data["f"].astype(int), data["weights"] * [1, 1, 1, 1, 0]) is None


def test_irises_of_the_file_are_kept(folder: Path) -> None:
    path = folder / "mediapipe_landmark_embedding.npz"
    with np.load(path) as archive:
        data = {key: archive[key] for key in archive.files}
    data["landmark_indices"][-1] = 468
    np.savez(path, **data)
    assert len(load_flame(folder).landmarks478) == 105


def test_templates_with_another_order_of_faces(folder: Path) -> None:
    expected = load_flame(folder)
    triangles = arrays()["f"].astype(np.int64)
    order = np.random.RandomState(0).permutation(len(triangles))
    # Each face begins with another corner.
    turned = np.stack([np.roll(face, i % 3) for i, face in enumerate(triangles[order])])
    write_template(folder / "head_template.obj", turned)
    assert torch.equal(load_flame(folder).uv_triangles, expected.uv_triangles)
    assert torch.equal(expected.uv_triangles, torch.from_numpy(triangles))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v 0 0 0\nf 1 2 3\n", "has no texture coordinates"),
        ("v 0 0 0\nvt 0 0\nf 1/1 2/1 3/1 4/1\n", "not triangles"),
        ("v 0 0 0\nvt 0 0\nf 1/1 2/1 3/1\n", "1 triangles, the model has"),
        ("v 0 0 0\nvt 0 0\nf 1/1 2/1 3/9\n", "no texture coordinates"),
    ],
)
def test_templates_that_do_not_belong(folder: Path, text: str, said: str) -> None:
    (folder / "head_template.obj").write_text(text)
    with pytest.raises(InputError, match=rf"head_template\.obj: .*{said}"):
        load_flame(folder)


def test_templates_of_another_topology(folder: Path) -> None:
    triangles = arrays()["f"].astype(np.int64)
    triangles[7] = triangles[8]
    write_template(folder / "head_template.obj", triangles)
    with pytest.raises(InputError, match=r"head_template\.obj: lacks the model's triangle"):
        load_flame(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"face": np.array([5, 10**6])}, "the region face names vertex 1000000"),
        ({"face": np.array([0.5])}, "the region face is no list"),
        ([1, 2], "holds list"),
    ],
)
def test_masks_of_another_model_are_refused(folder: Path, content: Any, said: str) -> None:
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(InputError, match=rf"FLAME_masks\.pkl: {said}"):
        load_flame(folder)


def test_repaired_masks_are_noted_once(folder: Path) -> None:
    good = pickle.dumps({"face": np.arange(30)}, 0)
    (folder / "FLAME_masks.pkl").write_bytes(good.replace(b"\n", b"\r\n"))
    model = load_flame(folder)
    assert model.regions["face"].tolist() == list(range(30))
    assert sum("repaired in memory" in note for note in model.notes) == 1


def test_eyelids_of_another_model_are_refused(folder: Path) -> None:
    for name in ("l_eyelid.npy", "r_eyelid.npy"):
        np.save(folder / name, np.zeros((5023, 3)))
    with pytest.raises(InputError, match=r"l_eyelid\.npy: has shape \(5023, 3\)"):
        load_flame(folder)


def test_damaged_parts_of_a_flame_folder_are_named(folder: Path) -> None:
    for name in ("l_eyelid.npy", "r_eyelid.npy"):
        np.save(folder / name, np.zeros((len(arrays()["v_template"]), 3)))
    for name in ("l_eyelid.npy", "mediapipe_landmark_embedding.npz", "generic_model.npz", "landmark_embedding.npy"):
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good[: len(good) // 2])
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_flame(folder)
        (folder / name).write_bytes(good)
    load_flame(folder)


def test_made_regions_cover_the_published_ones(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "flame_like"
    for file in source.iterdir():
        if file.name != "FLAME_masks.pkl":
            (tmp_path / file.name).symlink_to(file)
    published, made = (load_flame(path).regions for path in (source, tmp_path))
    wanted, found = (set(regions["face"].tolist()) for regions in (published, made))
    # Sockets and mouth, which no picture shows, are the rest: 0.83 measured.
    assert len(wanted & found) / len(wanted | found) > 0.8
    assert len(wanted & found) / len(wanted) > 0.95
    for name in ("left_eyeball", "right_eyeball"):
        assert set(made[name].tolist()) == set(published[name].tolist())


def test_masks_without_a_face_get_one_from_the_landmarks(folder: Path) -> None:
    made = load_flame(folder).regions
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps({"neck": np.arange(5), "left_eyeball": np.arange(9)}, 2))
    model = load_flame(folder)
    assert torch.equal(model.regions["face"], made["face"])
    assert model.regions["left_eyeball"].tolist() == list(range(9))
    assert any("FLAME_masks.pkl: lacks face, right_eyeball; made" in note for note in model.notes)


def test_full_counts_that_are_spelt_out_and_not_there_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "small", shapedirs=arrays(10, 10)["shapedirs"])
    path = str(tmp_path / "small")
    assert not any("asked for" in note for note in load_head_model(_config(head_path=path)).notes)
    model = load_head_model(_config(head_path=path, num_shape_params=300))
    assert model.shape_count == 10
    assert any("num_shape_params: 300 asked for" in note and "holds 10" in note for note in model.notes)
