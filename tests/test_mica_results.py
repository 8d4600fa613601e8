"""What MICA leaves in its folder, and `python -m tracker.mica`."""

import errno
import os
from pathlib import Path

import clips
import cv2
import mica_weights
import numpy as np
import pytest
import tiny_scrfd
import torch
import trimesh

from tracker.mica.__main__ import main
from tracker.mica.align import aligned, network_input
from tracker.mica.checkpoint import HeadBuffers, load_head_buffers, load_network
from tracker.mica.encoder import TorchEncoder
from tracker.mica.five import FivePointFinder
from tracker.mica.results import head_files, landmarks68, neutral_vertices, picture_files
from tracker.safe_pickle import load_object_npy


def _loaded(data: bytes, tmp_path: Path, name: str) -> np.ndarray:
    (tmp_path / name).write_bytes(data)
    return np.load(tmp_path / name)


@pytest.mark.parametrize("case_name", ["case_1101", "case_1102"])
def test_head_equals_the_original(shared_dir: Path, case_name: str) -> None:
    """Measured: 1.5e-8 m; the original goes through FLAME's skinning with no rotation."""
    folder = shared_dir / "flame_like"
    with np.load(folder / "generic_model.npz") as model:
        landmarks = load_object_npy(folder / "landmark_embedding.npy")
        head = HeadBuffers(
            model["v_template"].astype(np.float32),
            model["shapedirs"][..., :300].astype(np.float32),
            model["f"].astype(np.int64),
            np.asarray(landmarks["full_lmk_faces_idx"]).reshape(-1),
            np.asarray(landmarks["full_lmk_bary_coords"]).reshape(-1, 3).astype(np.float32),
        )
    with np.load(shared_dir / f"parity/golden/mica/{case_name}.npz") as case:
        vertices = neutral_vertices(case["shape_code"][0], head)
        assert np.abs(vertices - case["vertices"][0]).max() < 1e-6
        assert np.abs(landmarks68(vertices, head) - case["landmarks68_full"][0]).max() < 1e-6


def test_files_are_in_millimetres(mica_tar: Path, tmp_path: Path) -> None:
    head = load_head_buffers(mica_tar)
    assert head is not None
    code = np.linspace(-1, 1, 300)
    files = head_files(code, head)
    assert set(files) == {"identity.npy", "kpt68.npy", "kpt7.npy", "mesh.obj", "mesh.ply"}
    identity = _loaded(files["identity.npy"], tmp_path, "identity.npy")
    assert (identity.dtype, identity.shape) == (np.float32, (300,))
    vertices_m = neutral_vertices(code, head)
    for name in ("mesh.obj", "mesh.ply"):
        (tmp_path / name).write_bytes(files[name])
        mesh = trimesh.load(tmp_path / name, process=False, maintain_order=True)
        np.testing.assert_allclose(mesh.vertices, 1000 * vertices_m, atol=1e-3)
        np.testing.assert_array_equal(mesh.faces, head.triangles)
    kpt68 = _loaded(files["kpt68.npy"], tmp_path, "kpt68.npy")
    assert kpt68.shape == (1, 68, 3)
    np.testing.assert_allclose(kpt68[0], 1000 * landmarks68(vertices_m, head), rtol=1e-5)
    kpt7 = _loaded(files["kpt7.npy"], tmp_path, "kpt7.npy")
    # Eye corners, base of the nose, mouth corners in iBUG's count.
    np.testing.assert_array_equal(kpt7, kpt68[0, [36, 39, 42, 45, 33, 48, 54]])
    assert set(head_files(code, None)) == {"identity.npy"}


def test_pictures_are_what_the_network_saw(tmp_path: Path) -> None:
    image = clips.portrait()
    five = np.array([[204.0, 101], [247, 104], [228, 125], [210, 147], [242, 149]])
    files = picture_files("a", image, five)
    blob = _loaded(files["a.npy"], tmp_path, "a.npy")
    assert (blob.dtype, blob.shape) == (np.float32, (3, 112, 112))
    np.testing.assert_array_equal(blob, network_input(aligned(image, five)))
    jpeg = cv2.imdecode(np.frombuffer(files["a.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert jpeg.shape == (224, 224, 3)
    assert np.abs(jpeg[..., ::-1].astype(int) - aligned(image, five, 224)).mean() < 4


def test_points_of_the_face_nearest_to_the_centre() -> None:
    image = np.full((400, 900, 3), 90, np.uint8)
    head = clips.swaying(1, 200)[0]
    image[100:300, 350:550], image[100:300, 20:220] = head, head
    with FivePointFinder(None) as finder:
        five = finder.find(image)
        assert finder.find(np.full((200, 200, 3), 90, np.uint8)) is None
    assert five is not None
    assert five.source == "facemesh478"
    assert 350 < five.points_px[:, 0].min() < five.points_px[:, 0].max() < 550
    # Image-left eye, image-right eye, nose below, mouth corners further below.
    assert five.points_px[0, 0] < five.points_px[2, 0] < five.points_px[1, 0]
    assert five.points_px[:2, 1].max() < five.points_px[2, 1] < five.points_px[3:, 1].min()


def test_points_of_no_face_are_not_taken(tmp_path: Path) -> None:
    """A detector that puts all five points into one place: FaceMesh's are taken."""
    tiny_scrfd.write(tmp_path / "det.onnx", (np.array([192.0, 192, 448, 448]), np.full((5, 2), 320.0)))
    with FivePointFinder(tmp_path / "det.onnx") as finder:
        five = finder.find(clips.swaying(1, 256)[0])
    assert five is not None
    assert five.source == "facemesh478"


# ---- the command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, picture in zip(("a", "b", "c"), clips.swaying(3, 256), strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture[..., ::-1])
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    return tmp_path


def test_pictures_get_a_folder_each_and_a_person_gets_one(
    home: Path, mica_tar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["a.png", "b.png", "wall.png", "--weights", str(mica_tar)]
    assert main([*arguments, "--output", "out"]) == 0
    said = capsys.readouterr().out
    assert "wall.png: no face found; left out" in said
    assert "a: points by facemesh478, torch" in said
    assert {path.name for path in (home / "out").iterdir()} == {"a", "b", "arcface"}
    assert {path.name for path in (home / "out/a").iterdir()} == {
        "identity.npy",
        "kpt68.npy",
        "kpt7.npy",
        "mesh.obj",
        "mesh.ply",
    }
    with FivePointFinder(None) as finder:
        image = cv2.imread("a.png")[..., ::-1]
        five = finder.find(np.ascontiguousarray(image))
    assert five is not None
    (expected,) = TorchEncoder(load_network(mica_tar)).encode([network_input(aligned(image, five.points_px))])
    np.testing.assert_allclose(np.load("out/a/identity.npy"), expected.shape, atol=1e-5)
    blob = np.load("out/arcface/a.npy")
    np.testing.assert_allclose(blob, network_input(aligned(image, five.points_px)))
    assert main([*arguments, "--output", "one", "--person", "anna"]) == 0
    assert {path.name for path in (home / "one").iterdir()} == {"anna", "arcface"}
    both = [np.load(f"out/{name}/identity.npy") for name in "ab"]
    np.testing.assert_allclose(np.load("one/anna/identity.npy"), np.mean(both, 0), atol=1e-6)


def test_bad_input_is_one_line(home: Path, mica_tar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "text.png").write_text("no picture")
    cases = {
        ("a.png",): "assets/mica.tar: no such file",
        ("none.png", "--weights", str(mica_tar)): "none.png: cannot be read",
        ("text.png", "--weights", str(mica_tar)): "text.png: not a picture",
        ("wall.png", "--weights", str(mica_tar)): "wall.png: no face in any picture",
        ("a.png", "x/a.png", "--weights", str(mica_tar)): "two pictures have the same name",
        ("export",): "assets/mica.tar: no such file",
    }
    for arguments, words in cases.items():
        assert main(list(arguments)) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_outputs_and_device_are_checked_before_the_work(
    home: Path, mica_tar: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No weights are read: they are not there."""
    (home / "file").write_text("a file")
    (home / "out").mkdir()
    (home / "out" / "a").write_text("a file")
    (home / "folder.onnx").mkdir()
    cases = {
        ("a.png", "--device", "cuda"): "device cuda: torch finds no CUDA device here; use cpu",
        ("a.png", "--output", "file"): "file/identity.npy: cannot be written (File exists)",
        ("a.png", "--output", "/proc/none/x"): "/proc/none/x/identity.npy: cannot be written (No such file",
        ("a.png", "--output", "out"): "out/a: is a file, and a folder of that name is to be written",
        ("export", "--output", "folder.onnx"): "folder.onnx: is a folder",
        ("export", "--output", "file/x.onnx"): "file/x.onnx: cannot be written (",
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, words in cases.items():
        assert main(list(arguments)) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in (home / "out").iterdir()) == ["a"]


def test_a_full_disk_is_one_line_and_leaves_nothing_half(
    home: Path, mica_tar: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["a.png", "--weights", str(mica_tar), "--output", "out"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert not [path for path in (home / "out").rglob("*") if path.is_file()]


def test_export_beside_the_weights_is_used(home: Path, mica_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "assets").mkdir()
    for name in ("mica.tar", "mica.onnx"):
        (home / "assets" / name).symlink_to(mica_onnx.parent / name)
    assert not list(mica_onnx.parent.glob("*.tmp"))
    assert main(["a.png", "--output", "out"]) == 0
    assert "a: points by facemesh478, onnxruntime" in capsys.readouterr().out


def test_without_a_head_in_the_checkpoint_only_identity_is_written(home: Path, mica_tar: Path) -> None:
    parts = torch.load(mica_tar, weights_only=True)
    for key in [key for key in parts["flameModel"] if key.startswith("generator.")]:
        del parts["flameModel"][key]
    mica_weights.write(home / "assets/mica.tar", parts)
    assert main(["a.png", "--output", "out"]) == 0
    assert [path.name for path in (home / "out/a").iterdir()] == ["identity.npy"]
