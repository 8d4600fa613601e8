"""MICA's networks, alignment and export against numbers of the original implementation (parity/golden)."""

import json
from pathlib import Path

import mica_weights
import numpy as np
import pytest
import torch

from tracker.camera import from_cv2_pixels
from tracker.errors import InputError
from tracker.mica import align
from tracker.mica.checkpoint import load_network
from tracker.mica.encoder import OnnxEncoder, TorchEncoder, load_encoder
from tracker.mica.networks import MicaNetwork, on_meta

CASES = ("case_1101", "case_1102")


@pytest.fixture(scope="module")
def network(mica_tar: Path) -> MicaNetwork:
    return load_network(mica_tar)


def _case(shared_dir: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(shared_dir / f"parity/golden/{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_keys_are_those_of_the_contract(shared_dir: Path) -> None:
    contract = json.loads((shared_dir / "parity/contracts/mica_state_dict.json").read_text())
    expected = {f"arcface.{key}": tuple(shape) for key, shape, _ in contract["arcface"]}
    expected |= {key: tuple(shape) for key, shape, _ in contract["flameModel"] if not key.startswith("generator.")}
    assert {key: tuple(value.shape) for key, value in on_meta().state_dict().items()} == expected


@pytest.mark.parametrize("name", CASES)
def test_codes_equal_the_original(shared_dir: Path, network: MicaNetwork, name: str) -> None:
    """Measured: the same bits on the machine that these were written on."""
    case = _case(shared_dir, f"mica/{name}")
    picture = align.network_input(case["image_rgb_uint8"])
    assert np.abs(picture - case["blob_nchw"][0]).max() < 1e-6
    with torch.no_grad():
        raw = network.arcface(torch.from_numpy(picture[None])).numpy()
    (encoding,) = TorchEncoder(network).encode([picture])
    assert _relative(raw, case["embedding_raw"]) < 1e-5
    assert _relative(encoding.embedding, case["embedding_normalized"][0]) < 1e-5
    assert _relative(encoding.shape, case["shape_code"][0]) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_export_equals_torch(shared_dir: Path, network: MicaNetwork, mica_onnx: Path, name: str) -> None:
    """Measured: 2e-6 of the embedding's largest component, 8e-7 of the code's."""
    case = _case(shared_dir, f"mica/{name}")
    encoder = OnnxEncoder(mica_onnx)
    ours, theirs = TorchEncoder(network).encode([case["blob_nchw"][0]])[0], encoder.encode([case["blob_nchw"][0]])[0]
    for key in ("embedding", "shape"):
        a, b = getattr(ours, key), getattr(theirs, key)
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()
    assert _relative(theirs.shape, case["shape_code"][0]) < 1e-4


def test_export_is_taken_where_it_belongs_to_the_weights(mica_tar: Path, mica_onnx: Path, tmp_path: Path) -> None:
    encoder, note = load_encoder(mica_onnx.with_suffix(".tar"))
    assert isinstance(encoder, OnnxEncoder)
    assert note == ""
    encoder, note = load_encoder(mica_tar)
    assert isinstance(encoder, TorchEncoder)
    assert note == ""
    # Other weights under an export of these.
    parts = mica_weights.state_dicts()
    parts["flameModel"]["regressor.output.bias"] += 1
    other = mica_weights.write(tmp_path / "mica.tar", parts)
    (tmp_path / "mica.onnx").symlink_to(mica_onnx)
    encoder, note = load_encoder(other)
    assert isinstance(encoder, TorchEncoder)
    assert "mica.onnx was not made from" in note


def test_damaged_exports_are_named(tmp_path: Path, mica_tar: Path) -> None:
    (tmp_path / "mica.tar").symlink_to(mica_tar)
    (tmp_path / "mica.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"mica\.onnx: not readable by onnxruntime .*; export it again"):
        OnnxEncoder(tmp_path / "mica.onnx")
    with pytest.raises(InputError, match=r"none\.onnx: not readable by onnxruntime"):
        OnnxEncoder(tmp_path / "none.onnx")
    encoder, note = load_encoder(tmp_path / "mica.tar")
    assert isinstance(encoder, TorchEncoder)
    assert "mica.onnx: not readable" in note


# ---- alignment


@pytest.mark.parametrize("name", ["points_2101", "points_2102"])
def test_alignment_equals_the_original(shared_dir: Path, name: str) -> None:
    """Measured: the same bits."""
    case = _case(shared_dir, f"arcface_align/{name}")
    for side in (112, 224, 256):
        matrix = align.similarity(case["points5"], align.reference_points(side))
        assert _relative(matrix, case[f"M_{side}"]) < 1e-5
    for side in (112, 224):
        found = align.aligned(case["image_bgr_uint8"], from_cv2_pixels(case["points5"].astype(np.float64)), side)
        assert _relative(found.astype(float), case[f"crop{side}_uint8"].astype(float)) < 1e-5


def test_similarity_is_undone_by_its_inverse() -> None:
    angle, scale, shift = 0.4, 1.7, np.array([30.0, -12.0])
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = align.REFERENCE_112 @ linear.T + shift
    matrix = align.similarity(points, align.REFERENCE_112)
    np.testing.assert_allclose(matrix[:, :2] @ linear, np.eye(2), atol=1e-5)
    np.testing.assert_allclose(matrix[:, :2] @ shift + matrix[:, 2], 0, atol=1e-3)


def test_points_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        align.aligned(np.zeros((64, 64, 3), np.uint8), np.full((5, 2), 7.0))
    with pytest.raises(ValueError, match="coincide"):
        align.aligned(np.zeros((64, 64, 3), np.uint8), np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="multiple of 112 or 128"):
        align.reference_points(100)


def test_five_points_come_from_either_set_of_landmarks() -> None:
    dense = np.arange(956, dtype=float).reshape(478, 2)
    five = align.five_points(dense)
    np.testing.assert_array_equal(five[2:], dense[[4, 61, 291]])
    np.testing.assert_allclose(five[1], dense[list(align.FIVE_FROM_478[1])].mean(0))
    sparse = np.arange(136, dtype=float).reshape(68, 2)
    np.testing.assert_array_equal(align.five_points(sparse)[[0, 3]], [(sparse[38] + sparse[41]) / 2, sparse[60]])
