"""The files beside a FLAME model: embeddings, template, masks and lids, read, checked, or made where they lack."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flame_files import (
    EYE_CENTRES_M,
    EYE_RADIUS_M,
    arrays,
    write_folder,
    write_landmarks,
    write_npy,
    write_template,
)

from tracker.errors import InputError
from tracker.head.flame import load_flame
from tracker.head.irises import IRIS_RADIUS_M, iris_embedding
from tracker.head.model import embed
from tracker.landmark_set import landmark_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "flame")
    return tmp_path / "flame"


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
