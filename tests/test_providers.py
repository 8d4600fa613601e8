"""face-alignment and insightface as providers: the real libraries on small or random weights put into their caches."""

import importlib
import socket
from pathlib import Path

import clips
import numpy as np
import onnx
import pytest
import tiny_scrfd
import torch
from onnx import TensorProto, helper

from stages import crop, files, landmarks, pipeline
from stages.records import Crop
from stages.subject import Subject
from tracker.config import Config
from tracker.detectors import fan, fan_boxes, providers, scrfd
from tracker.detectors.facemesh import Face
from tracker.detectors.finder import FaceFinder
from tracker.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both libraries, and no network: a download would be an error."""

    def refused(*_args: object) -> None:
        raise AssertionError("a test asked for the network")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket.socket, "connect", refused)
    return tmp_path


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    subject = Subject(tmp_path / "in", tmp_path / "out")
    files.write_image(subject.image_path(1), clips.swaying(1, 256)[0])
    subject.save_crop(Crop(None, "whole frame", np.eye(2, 3), (256, 256), (256, 256)))
    return subject


def _config(**given: str) -> Config:
    return Config(actor="x", providers=given)


def _run(subject: Subject, **given: str) -> None:
    pipeline.run_stages(subject, _config(**given), ("landmarks",), "cpu", False)


# ---- 68 points


@pytest.fixture(scope="module")
def fan_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2DFAN4's network with the weights that torch starts it with."""
    from face_alignment.models import FAN

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("fan") / fan.WEIGHTS_NAME
    torch.save(FAN(4).state_dict(), path)
    return path


def _place(weights: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.symlink_to(weights)


def test_fan_is_used_where_its_weights_are(subject: Subject, fan_weights: Path, log_lines: list[str]) -> None:
    _run(subject)
    assert subject.load_providers().sparse == "facemesh478"
    assert any(f"facemesh478 (no {fan.WEIGHTS_NAME} in {fan.weights_path().parent})" in line for line in log_lines)
    _place(fan_weights, fan.weights_path())
    _run(subject)
    assert subject.load_providers().sparse == "fan"
    assert any(f"68 points by fan (found {fan.weights_path()})" in line for line in log_lines)
    # face-alignment's own answer in its own count of pixels, half a pixel less.
    import face_alignment

    net = face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D, device="cpu", face_detector="folder", compile=False
    )
    net.face_detector = type("Boxes", (), {"reference_scale": 195})()
    image, face = files.read_image(subject.image_path(1)), Face(subject.load_kpt_dense(0))
    expected = net.get_landmarks_from_image(image, detected_faces=[face.box_px])[0]
    np.testing.assert_allclose(subject.load_kpt(0), expected + 0.5, atol=1e-6)
    assert len(np.unique(expected, axis=0)) > 34


def test_fan_without_weights_names_the_file(subject: Subject) -> None:
    with pytest.raises(InputError, match=r"providers\.landmarks: fan: .*2DFAN4-11f355bf06\.pth\.tar is missing; put"):
        _run(subject, landmarks="fan")
    with pytest.raises(InputError, match="is missing"):
        fan.Fan("cpu")


@pytest.mark.parametrize("content", [b"no weights", None])
def test_damaged_fan_weights_are_named(subject: Subject, content: bytes | None) -> None:
    if content is None:
        files.save_torch(fan.weights_path(), {"conv1.weight": torch.zeros(3)})
    else:
        files.write_bytes(fan.weights_path(), content)
    with pytest.raises(InputError, match=r"2DFAN4-11f355bf06\.pth\.tar: not readable by face-alignment"):
        _run(subject)


def test_configured_points_need_no_weights(subject: Subject, fan_weights: Path) -> None:
    _place(fan_weights, fan.weights_path())
    _run(subject, landmarks="facemesh478")
    assert subject.load_providers().sparse == "facemesh478"


# ---- boxes by insightface


def test_scrfd_finds_boxes_and_points(home: Path) -> None:
    """The cell of the red block, at twice the picture's size: corner (192, 128), see `tiny_scrfd.write`."""
    path = tiny_scrfd.write(scrfd.models_dir() / "buffalo_l" / "det_10g.onnx")
    assert path.is_relative_to(home)
    assert scrfd.find_scrfd() == path
    image = np.zeros((240, 320, 3), np.uint8)
    image[64:80, 96:112, 0] = 255
    (face,) = scrfd.Scrfd(path).faces(image)
    corner = np.array([192, 128]) / 2
    np.testing.assert_allclose(face.box_px, np.tile(corner, 2) + np.array([-31.5, -15.5, 48.5, 64.5]))
    assert face.five_px is not None
    np.testing.assert_allclose(face.five_px, corner + np.array([[16 * i, 0] for i in range(5)]) + 0.5)
    assert face.score > 0.5
    # Blue where red was: the detector sees the channels in their order.
    assert scrfd.Scrfd(path).faces(image[..., ::-1]) == []


def test_best_pack_comes_first(home: Path) -> None:
    assert scrfd.find_scrfd() is None
    tiny_scrfd.write(scrfd.models_dir() / "buffalo_l" / "det_10g.onnx")
    nested = tiny_scrfd.write(scrfd.models_dir() / "antelopev2" / "antelopev2" / "scrfd_10g_bnkps.onnx")
    assert scrfd.find_scrfd() == nested


@pytest.mark.parametrize(("side", "words"), [(100, "no face detector in it"), (112, "not readable")])
def test_other_models_are_no_detectors(home: Path, side: int, words: str) -> None:
    """One that insightface does not know, one that looks like a recogniser and is none."""
    value = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, side, side])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, side, side]) for name in "ab"]
    nodes = [helper.make_node("Relu", ["data"], [name]) for name in "ab"]
    opset = helper.make_opsetid("", 13)
    model = helper.make_model(helper.make_graph(nodes, "g", [value], results), opset_imports=[opset], ir_version=8)
    onnx.save(model, str(home / "det.onnx"))
    with pytest.raises(InputError, match=rf"det\.onnx: .*{words}"):
        scrfd.Scrfd(home / "det.onnx")
    files.write_bytes(home / "det.onnx", b"nothing")
    with pytest.raises(InputError, match=r"det\.onnx: not readable by insightface"):
        scrfd.Scrfd(home / "det.onnx")


def test_faces_that_facemesh_misses_are_found_by_insightface(home: Path) -> None:
    """A small face in a large picture, which FaceMesh alone does not see; the detector answers with its place."""
    image = np.full((1280, 1280, 3), 90, np.uint8)
    head = clips.swaying(1, 150)[0]
    image[900:1050, 300:450] = head
    box = np.array([310.0, 905, 440, 1045]) / 2
    path = tiny_scrfd.write(scrfd.models_dir() / "antelopev2" / "scrfd_10g_bnkps.onnx", (box, np.zeros((5, 2))))
    provider = providers.boxes_provider("auto")
    assert (provider.name, provider.reason) == ("insightface", f"found {path}")
    with FaceFinder(providers.box_opener(provider, "cpu")) as finder:
        faces, means = finder.find(image)
    assert means == "insightface"
    assert np.linalg.norm(faces[0].centre_px - [375, 975]) < 40


# ---- boxes by face-alignment


def test_files_are_those_that_the_library_loads() -> None:
    for module, file in fan_boxes.DETECTORS:
        source = Path(importlib.import_module(f"face_alignment.detection.{module}.{module}_detector").__file__)
        assert file in source.read_text()


def test_s3fd_gives_the_librarys_own_boxes(home: Path) -> None:
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.detection.sfd.sfd_detector import SFDDetector

    torch.manual_seed(1)
    net = s3fd()
    with torch.no_grad():
        # Cells of the coarser maps become faces, so that a few boxes come out.
        net.fc7_mbox_conf.bias.copy_(torch.tensor([-3.0, 3.0]))
    files.save_torch(fan_boxes.checkpoints_dir() / "s3fd-619a316812.pth", net.state_dict())
    provider = providers.boxes_provider("auto")
    assert provider.name == "face-alignment"
    assert "s3fd-619a316812.pth" in provider.reason
    opener = providers.box_opener(provider, "cpu")
    assert opener is not None
    image = clips.swaying(1, 96)[0]
    found = opener().boxes(image)
    expected = SFDDetector("cpu").detect_from_image(image)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(
        sorted(box.tolist() for box in found),
        sorted(np.asarray(box[:4], float).tolist() for box in expected),
        rtol=1e-6,
    )


def test_face_alignments_scrfd_is_driven_too(home: Path) -> None:
    tiny_scrfd.write(
        fan_boxes.checkpoints_dir() / "scrfd_2.5g_bnkps.onnx", (np.array([64.0, 96, 192, 256]), np.zeros((5, 2)))
    )
    opener = providers.box_opener(providers.boxes_provider("face-alignment"), "cpu")
    assert opener is not None
    (box,) = opener().boxes(np.zeros((320, 320, 3), np.uint8))
    np.testing.assert_allclose(box, [32, 48, 96, 128], atol=1e-4)


def test_damaged_detector_weights_are_named(home: Path) -> None:
    files.write_bytes(fan_boxes.checkpoints_dir() / "s3fd-619a316812.pth", b"nothing")
    opener = providers.box_opener(providers.boxes_provider("auto"), "cpu")
    assert opener is not None
    with pytest.raises(InputError, match=r"s3fd-619a316812\.pth: not readable by face-alignment"):
        opener()


# ---- choice


def test_auto_says_where_it_looked_and_names_need_weights(home: Path) -> None:
    provider = providers.boxes_provider("auto")
    assert provider.name == "facemesh"
    assert f"no antelopev2 or buffalo_l in {home}/.insightface/models; no s3fd" in provider.reason
    assert provider.reason.endswith(f"in {home}/torch/hub/checkpoints")
    assert providers.box_opener(provider, "cpu") is None
    with pytest.raises(InputError, match=r"providers\.boxes: insightface: no antelopev2 or buffalo_l in .*set auto"):
        providers.boxes_provider("insightface")
    with pytest.raises(InputError, match=r"providers\.boxes: face-alignment: no s3fd"):
        providers.boxes_provider("face-alignment")
    tiny_scrfd.write(scrfd.models_dir() / "buffalo_l" / "det_10g.onnx")
    assert providers.boxes_provider("facemesh").name == "facemesh"
    assert providers.boxes_provider("auto").name == "insightface"


def test_weights_that_come_later_run_the_stages_again(subject: Subject) -> None:
    _run(subject)
    steps = pipeline.plan(subject, _config(), ("landmarks",), False)
    assert steps == [("landmarks", False, "up to date")]
    tiny_scrfd.write(scrfd.models_dir() / "buffalo_l" / "det_10g.onnx")
    assert pipeline.plan(subject, _config(), ("crop", "landmarks"), False)[1][2] == "config changed: boxes"


def _detector(pack: str, file: str) -> Path:
    return tiny_scrfd.write(scrfd.models_dir() / pack / file)


def test_a_better_pack_or_replaced_weights_run_landmarks_again(subject: Subject, fan_weights: Path) -> None:
    first = _detector("buffalo_l", "det_10g.onnx")
    _run(subject)
    assert pipeline.plan(subject, _config(), ("landmarks",), False)[0][2] == "up to date"
    best = _detector("antelopev2", "scrfd_10g_bnkps.onnx")
    reason = pipeline.plan(subject, _config(), ("landmarks",), False)[0][2]
    assert reason.startswith("input changed: ")
    assert first.name in reason
    assert best.name in reason
    _run(subject)
    best.write_bytes(best.read_bytes() + b"\0")
    assert best.name in pipeline.plan(subject, _config(), ("landmarks",), False)[0][2]
    # The weights of a detector that the config does not want are no input.
    assert landmarks.inputs(subject, _config(boxes="facemesh")) == [subject.images_dir, subject.crop_path]
    _place(fan_weights, fan.weights_path())
    assert fan.weights_path() in landmarks.inputs(subject, _config())
    assert fan.weights_path() not in landmarks.inputs(subject, _config(landmarks="facemesh478"))


def test_replaced_weights_run_the_crop_again_where_the_box_is_looked_for(subject: Subject) -> None:
    path = _detector("buffalo_l", "det_10g.onnx")
    assert path in crop.inputs(subject, Config(actor="x", crop_image=True))
    assert path not in crop.inputs(subject, Config(actor="x", crop_image=True, providers={"boxes": "facemesh"}))
    assert path not in crop.inputs(subject, Config(actor="x", crop_image=False))
    subject.crop_path.unlink()
    files.write_bytes(subject.bbox_path, b"the user's")
    assert path not in crop.inputs(subject, Config(actor="x", crop_image=True))
