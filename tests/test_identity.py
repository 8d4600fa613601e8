"""Stage identity: which shape code counts, what MICA makes of a clip, and what the record says."""

import json
import os
from pathlib import Path
from typing import Any

import clips
import cv2
import numpy as np
import pytest
import tiny_scrfd

from stages import calibration, files, identity, pipeline
from stages.records import Crop
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.config import Config
from tracker.detectors import scrfd
from tracker.errors import InputError
from tracker.mica.align import aligned, five_points, network_input
from tracker.mica.checkpoint import load_network
from tracker.mica.choose import FrameLook, rate_frames
from tracker.mica.encoder import TorchEncoder

SIZE = 256


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in").mkdir()
    return Subject(tmp_path / "in", tmp_path / "out")


def _run(subject: Subject, **config: Any) -> dict[str, Any]:
    pipeline.run_stages(subject, Config(actor="x", **config), ("identity",), "cpu", False)
    return files.read_json(subject.identity_record_path)


def test_code_is_used_with_flame(subject: Subject) -> None:
    code = np.linspace(-2, 2, 300).astype(np.float32)
    files.write_array(subject.identity_path, code)
    record = _run(subject, head="flame")
    assert (record["source"], record["mica"]) == ("file", None)
    np.testing.assert_allclose(record["shape"], code, atol=1e-6)


def test_code_does_not_apply_to_another_head(subject: Subject) -> None:
    files.write_array(subject.identity_path, np.zeros(300))
    record = _run(subject, head="generic")
    assert (record["source"], record["shape"]) == ("joint", None)
    assert "is a FLAME code and the head model is generic" in str(record["reason"])


def test_without_a_code_identity_is_estimated(subject: Subject) -> None:
    record = _run(subject, head="flame")
    assert record["source"] == "joint"
    assert record["reason"] == "no identity.npy, no assets/mica.tar; identity is estimated with the camera"


def test_a_code_that_comes_later_is_noticed(subject: Subject) -> None:
    assert _run(subject, head="flame")["source"] == "joint"
    files.write_array(subject.identity_path, np.ones(300))
    assert _run(subject, head="flame")["source"] == "file"


@pytest.mark.parametrize("head", ["flame", "generic"])
def test_wrong_size_is_refused_whatever_the_head(subject: Subject, head: str) -> None:
    files.write_array(subject.identity_path, np.zeros(100))
    with pytest.raises(InputError, match=r"identity\.npy: expected \(300,\) numbers, found \(100,\) float64"):
        _run(subject, head=head)


@pytest.mark.parametrize(("modes", "said"), [(10, ["10 of the 300 values"]), (300, [])])
def test_what_a_smaller_model_takes_of_a_code_is_said(log_lines: list[str], modes: int, said: list[str]) -> None:
    shape = calibration._given_shape(list(np.arange(300.0)), modes)
    assert shape.tolist() == list(range(modes))
    told = [line for line in log_lines if "of the identity code apply" in line]
    assert len(told) == len(said)
    assert all(part in line for part, line in zip(said, told, strict=True))


# ---- MICA


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A subject's input folder after the stage landmarks: six pictures, the third blurred, the fifth without a face."""
    folder = tmp_path_factory.mktemp("clip")
    subject = Subject(folder / "in", folder / "out")
    pictures = clips.swaying(6, SIZE)
    pictures[2] = cv2.GaussianBlur(pictures[2], (0, 0), 4)
    pictures[4] = np.full_like(pictures[4], 90)
    for number, picture in enumerate(pictures, 1):
        files.write_image(subject.image_path(number), picture)
    subject.save_crop(Crop(None, "whole frame", np.eye(2, 3), (SIZE, SIZE), (SIZE, SIZE)))
    pipeline.run_stages(subject, Config(actor="x"), ("landmarks",), "cpu", False)
    assert not subject.load_kpt_dense(4).any()
    return folder


@pytest.fixture
def mica_subject(clip: Path, tmp_path: Path, subject: Subject) -> Subject:
    for name in ("images", "kpt_dense", "kpt"):
        (subject.input_dir / name).mkdir()
        for path in (clip / "in" / name).iterdir():
            (subject.input_dir / name / path.name).write_bytes(path.read_bytes())
    subject.crop_path.write_bytes((clip / "in" / "crop.json").read_bytes())
    return subject


def test_mica_gives_the_identity_of_good_frames(
    mica_subject: Subject, mica_tar: Path, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = mica_subject
    config = {"head": "flame", "mica_path": str(mica_tar), "mica_frames": 3}
    record = _run(subject, **config)
    assert record["source"] == "mica"
    frames = record["mica"]["frames"]
    assert len(frames) == 3
    assert {frame["index"] for frame in frames} <= {0, 1, 3, 5}
    assert all(frame["points"] == "facemesh478" for frame in frames)
    # The mean of what the network says of these frames, aligned by FaceMesh's points.
    pictures = [
        network_input(aligned(subject.load_image(f["index"]), five_points(subject.load_kpt_dense(f["index"]))))
        for f in frames
        if not f["left_out"]
    ]
    codes = [encoding.shape for encoding in TorchEncoder(load_network(mica_tar)).encode(pictures)]
    np.testing.assert_allclose(record["shape"], np.mean(codes, 0), atol=1e-5)
    np.testing.assert_array_equal(np.load(subject.identity_path), np.float32(record["shape"]))
    assert np.load(subject.mica_dir / "identity.npy").shape == (300,)
    assert np.load(subject.mica_dir / "kpt68.npy").shape == (1, 68, 3)
    seen = frames[0]["picture"].removesuffix(".png")
    assert {path.name for path in (subject.mica_dir / "arcface").iterdir()} >= {f"{seen}.jpg", f"{seen}.npy"}
    said = next(line for line in log_lines if "MICA by torch" in line)
    assert all(frame["picture"] in said for frame in frames)
    # What was written is not taken for the user's, by this config or by another one of the same actor.
    assert not subject.identity_is_given()
    assert pipeline.plan(subject, Config(actor="x", **config), ("identity",), False) == [
        ("identity", False, "up to date")
    ]
    other = Subject(subject.input_dir, subject.output_dir.with_name("other"))
    assert _run(other, **config)["source"] == "mica"
    assert not list(subject.input_dir.glob("*.old*"))
    assert _run(other, head="generic", mica_path=str(mica_tar))["source"] == "joint"
    # The user's own wins, and stays.
    own = np.full(300, 0.5, np.float32)
    files.write_array(subject.identity_path, own)
    record = _run(subject, **config)
    assert (record["source"], record["mica"]) == ("file", None)
    np.testing.assert_array_equal(record["shape"], own)
    subject.save_identity(np.zeros(300))
    np.testing.assert_array_equal(np.load(subject.identity_path), own)


def test_other_weights_run_the_stage_again(mica_subject: Subject, mica_tar: Path, tmp_path: Path) -> None:
    weights = tmp_path / "assets" / "mica.tar"
    weights.parent.mkdir()
    weights.symlink_to(mica_tar)
    config = Config(actor="x", head="flame", mica_frames=1)
    pipeline.run_stages(mica_subject, config, ("identity",), "cpu", False)
    weights.unlink()
    assert pipeline.plan(mica_subject, config, ("identity",), False)[0][1]
    # Without the weights the code that they gave is still good.
    code = files.read_json(mica_subject.identity_record_path)["shape"]
    pipeline.run_stages(mica_subject, config, ("identity",), "cpu", False)
    record = files.read_json(mica_subject.identity_record_path)
    assert (record["source"], record["shape"], record["mica"]) == ("mica", code, None)
    assert record["reason"].endswith("identity.npy, by MICA in an earlier run")
    weights.write_bytes(mica_tar.read_bytes()[:-1000])
    reason = pipeline.plan(mica_subject, config, ("identity",), False)[0][2]
    assert "changed" in reason
    with pytest.raises(InputError, match=r"mica\.tar: not a readable torch checkpoint"):
        pipeline.run_stages(mica_subject, config, ("identity",), "cpu", False)


def test_weights_that_the_config_names_must_be_there(subject: Subject) -> None:
    with pytest.raises(InputError, match=r"mica_path: weights/mica\.tar does not exist"):
        _run(subject, head="flame", mica_path="weights/mica.tar")
    assert _run(subject, head="generic", mica_path="weights/mica.tar")["source"] == "joint"


def test_export_is_used_and_scrfd_gives_the_points(
    mica_subject: Subject, mica_onnx: Path, log_lines: list[str]
) -> None:
    subject = mica_subject
    dense = five_points(subject.load_kpt_dense(0))
    # The detector's picture is 640 px wide for every picture, this one's is 256.
    box = np.concatenate([dense.min(0) - 20, dense.max(0) + 20])
    tiny_scrfd.write(
        scrfd.models_dir() / "antelopev2" / "scrfd_10g_bnkps.onnx", (box * SIZE_RATIO, (dense + 1.5) * SIZE_RATIO)
    )
    config = {"head": "flame", "mica_path": str(mica_onnx.with_suffix(".tar")), "mica_frames": 2}
    record = _run(subject, **config)
    assert record["mica"]["runtime"].startswith("onnxruntime")
    assert [frame["points"] for frame in record["mica"]["frames"]] == ["insightface", "insightface"]
    assert any("points by insightface" in line for line in log_lines)
    # Not where the config wants mediapipe alone, and not a face elsewhere in the picture.
    record = _run(subject, **config, providers={"boxes": "facemesh"})
    assert {frame["points"] for frame in record["mica"]["frames"]} == {"facemesh478"}
    far = (np.array([10.0, 10, 60, 60]), np.full((5, 2), 30.0) + np.arange(10).reshape(5, 2))
    tiny_scrfd.write(scrfd.models_dir() / "antelopev2" / "scrfd_10g_bnkps.onnx", far)
    pipeline.run_stages(subject, Config(actor="x", **config), ("identity",), "cpu", True)
    record = files.read_json(subject.identity_record_path)
    assert {frame["points"] for frame in record["mica"]["frames"]} == {"facemesh478"}


SIZE_RATIO = tiny_scrfd.SIDE / SIZE


def test_what_micas_frames_are_chosen_by_runs_the_stage_again(
    mica_subject: Subject, mica_tar: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"actor": "x", "head": "flame", "mica_path": str(mica_tar), "mica_frames": 1}

    def reason(**more: Any) -> str:
        return pipeline.plan(mica_subject, Config(**{**given, **more}), ("identity",), False)[0][2]

    pipeline.run_stages(mica_subject, Config(**given), ("identity",), "cpu", False)
    assert reason() == "up to date"
    assert reason(focal_length=900.0) == "config changed: focal_length"
    assert reason(calibration={"focal_factor": 1.9}) == "config changed: calibration.focal_factor"
    assert reason(fix_principal_point=True) == "config changed: fix_principal_point"
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"K": [[400, 0, SIZE / 2], [0, 400, SIZE / 2], [0, 0, 1]]}))
    assert reason(camera_file=str(camera)) == "config changed: camera_file"
    # A camera's file counts by its content.
    given["camera_file"] = str(camera)
    pipeline.run_stages(mica_subject, Config(**given), ("identity",), "cpu", False)
    camera.write_text(camera.read_text().replace("400", "500"))
    assert reason().startswith("input changed: ")
    # And so do the detector's weights; without MICA none of it matters.
    given.pop("camera_file")
    pipeline.run_stages(mica_subject, Config(**given), ("identity",), "cpu", False)
    first = tiny_scrfd.write(scrfd.models_dir() / "buffalo_l" / "det_10g.onnx")
    pipeline.run_stages(mica_subject, Config(**given), ("identity",), "cpu", False)
    best = tiny_scrfd.write(scrfd.models_dir() / "antelopev2" / "scrfd_10g_bnkps.onnx")
    assert first.name in reason()
    assert best.name in reason()
    assert "focal_length" not in identity.config_part(Config(actor="x", head="generic", mica_path=str(mica_tar)))


def test_micas_frames_are_rated_by_the_camera_of_the_calibration(
    mica_subject: Subject, mica_tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Intrinsics] = []

    def rate(points: dict[int, np.ndarray], camera: Intrinsics) -> list[FrameLook]:
        seen.append(camera)
        return rate_frames(points, camera)

    monkeypatch.setattr("stages.mica_code.rate_frames", rate)
    camera = tmp_path / "camera.json"
    # OpenCV's pixels: half a pixel less.
    camera.write_text(json.dumps({"K": [[333, 0, 120.5], [0, 333, 130.5], [0, 0, 1]]}))
    config = {"head": "flame", "mica_path": str(mica_tar), "mica_frames": 1}
    _run(mica_subject, **config, camera_file=str(camera))
    assert seen == [Intrinsics(333.0, 121.0, 131.0)]
    with pytest.raises(InputError, match=r"camera_file: gone\.yml: no such file"):
        _run(mica_subject, **config, camera_file="gone.yml")


def test_mica_is_not_run_for_other_heads(mica_subject: Subject, tmp_path: Path, log_lines: list[str]) -> None:
    files.write_bytes(tmp_path / "assets" / "mica.tar", b"never read")
    record = _run(mica_subject, head="generic")
    assert record["reason"].startswith("assets/mica.tar makes FLAME codes and the head model is generic")
    assert any("assets/mica.tar makes FLAME codes" in line for line in log_lines)
    assert not mica_subject.identity_path.exists()
    assert not mica_subject.mica_dir.exists()


def test_without_a_face_in_the_frames_identity_is_estimated(mica_subject: Subject, mica_tar: Path) -> None:
    subject = Subject(mica_subject.input_dir, mica_subject.output_dir, begin_frames=4, end_frames=1)
    config = Config(actor="x", head="flame", mica_path=str(mica_tar), begin_frames=4, end_frames=1)
    pipeline.run_stages(subject, config, ("identity",), "cpu", False)
    record = files.read_json(subject.identity_record_path)
    assert record["source"] == "joint"
    assert "no frame with a face" in record["reason"]


def test_a_killed_write_leaves_no_file_of_ours_unclaimed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.save_identity(np.zeros(300))
    assert not subject.identity_is_given()

    def killed(*_paths: object) -> None:
        raise KeyboardInterrupt

    replace = os.replace
    for stop_at in (1, 2):
        calls = iter([replace] * (stop_at - 1) + [killed])
        monkeypatch.setattr(os, "replace", lambda a, b, calls=calls: next(calls)(a, b))
        with pytest.raises(KeyboardInterrupt):
            subject.save_identity(np.ones(300))
        monkeypatch.setattr(os, "replace", replace)
        assert not subject.identity_is_given()
    subject.save_identity(np.ones(300))
    assert not subject.identity_is_given()
    np.testing.assert_array_equal(subject.load_identity(), 1)
