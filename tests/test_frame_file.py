"""The `.frame` file: keys and numbers as metrical-tracker's readers expect them, and nothing but arrays when read."""

import json
import pickle
import pickletools
import zipfile
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heads import random_state

from stages import files
from tracker import torch_zip
from tracker.camera import Intrinsics, project
from tracker.errors import InputError
from tracker.frame_file import (
    TrackRecord,
    encode_frame,
    extrinsics,
    extrinsics_of_camera_block,
    gaze_angles,
    head_params,
    load_frame,
    state_arrays,
    state_from_arrays,
)
from tracker.head.flame import load_flame
from tracker.head.generic import load_generic
from tracker.head.model import LEFT_EYE, RIGHT_EYE, HeadModel
from tracker.rotations import matrix_from_6d
from tracker.safe_pickle import numpy_allowed
from tracker.shading import shade
from tracker.state import FrameState, eye_rotations, neutral_state

CAMERA = Intrinsics(1400.0, 250.0, 268.0)
SIZE = (512, 480)


@pytest.fixture(scope="module")
def flame(shared_dir: Path) -> HeadModel:
    return load_flame(shared_dir / "flame_like").with_modes(60, 40)


def _state(model: HeadModel) -> FrameState:
    state = random_state(model, 3)
    eyes = torch.tensor([[0.3, -0.1], [0.2, -0.15]], dtype=torch.float64)
    return replace(state, eyes=eyes, eyelids=torch.tensor([0.25, 0.75], dtype=torch.float64))


def _shape(model: HeadModel) -> torch.Tensor:
    return torch.linspace(-1, 1, model.shape_count, dtype=torch.float64)


def _frame(model: HeadModel, index: int = 7) -> dict[str, Any]:
    return encode_frame(model, _shape(model), _state(model), CAMERA, SIZE, index)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"ndarray {value.dtype} {list(value.shape)}"
    return type(value).__name__


def _layout(value: Any) -> Any:
    return {key: _layout(item) for key, item in value.items()} if isinstance(value, dict) else _kind(value)


def test_keys_shapes_and_types_are_metrical_trackers(flame: HeadModel, shared_dir: Path) -> None:
    contract = json.loads((shared_dir / "parity/contracts/frame_file.json").read_text())["layout"]
    frame = _frame(flame)
    assert frame.pop("model") == "flame"
    assert _layout(frame.pop("texture")) == {"gain": "ndarray float32 [3]"}
    assert _layout(frame) == contract


def test_another_model_keeps_its_own_counts() -> None:
    model = load_generic()
    frame = _frame(model)
    assert frame["model"] == "generic"
    assert frame["flame"]["shape"].shape == (1, model.shape_count)
    assert frame["flame"]["exp"].shape == (1, model.expression_count)
    assert frame["flame"]["jaw"].shape == (1, 6)


def _resume(path: Path) -> dict[str, Any]:
    """As metrical-tracker's resume code opens a checkpoint: plain torch.load, every block as a float tensor."""
    payload = torch.load(path, weights_only=False)
    read = {name: torch.from_numpy(payload["flame"][name]) for name in payload["flame"]}
    read |= {f"camera.{name}": torch.from_numpy(payload["camera"][name]) for name in payload["camera"]}
    read |= {name: payload[name] for name in ("img_size", "frame_id", "global_step")}
    return read


def test_metrical_trackers_resume_code_reads_the_file(flame: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "00007.frame"
    files.save_torch(path, _frame(flame))
    read, state = _resume(path), _state(flame)
    assert (read["frame_id"], read["global_step"]) == ("00007", 7)
    assert read["img_size"].tolist() == list(SIZE)
    assert torch.allclose(read["exp"][0, :40], state.expression.float())
    assert not read["exp"][0, 40:].any()
    assert torch.allclose(read["shape"][0, :60], _shape(flame).float())
    assert not read["shape"][0, 60:].any()
    assert not read["tex"].any()
    assert torch.allclose(read["eyelids"], torch.tensor([[0.25, 0.75]]))
    assert torch.allclose(matrix_from_6d(read["jaw"][0]), state.jaw.float(), atol=1e-6)
    # PyTorch3D screen coordinates of a point from that block alone (formula of metrical-tracker's camera).
    point = torch.tensor([0.02, -0.03, 0.05])
    view = point @ matrix_from_6d(read["camera.R"][0]) + read["camera.t"][0]
    s = min(SIZE) / 2
    screen = torch.tensor([SIZE[1] / 2, SIZE[0] / 2]) - s * (
        read["camera.fl"][0] * view[:2] / view[2] + read["camera.pp"][0]
    )
    cam = state.R @ point.double() + state.t
    ours = project(cam, CAMERA.focal_px, CAMERA.cx_px, CAMERA.cy_px)
    # 1e-4 px measured: float32.
    assert torch.allclose(screen.double(), ours, atol=2e-3)


def test_both_camera_blocks_describe_one_camera() -> None:
    model = load_generic()
    frame, state = _frame(model), _state(model)
    for R, t, intrinsics in (extrinsics(frame), extrinsics_of_camera_block(frame)):
        np.testing.assert_allclose(R, state.R.numpy(), atol=1e-6)
        np.testing.assert_allclose(t, state.t.numpy(), atol=1e-6)
        np.testing.assert_allclose(intrinsics.matrix(), CAMERA.matrix(), atol=1e-3)


def test_light_is_stored_in_head_space() -> None:
    model = load_generic()
    frame, state = _frame(model), _state(model)
    normals = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    stored = torch.from_numpy(frame["flame"]["sh"][0])
    seen = shade(torch.ones(3).double(), state.light, normals.double() @ state.R.T)
    assert torch.allclose(shade(torch.ones(3), stored, normals).double(), seen, atol=1e-5)


def test_first_eye_is_joint_3_the_left_one() -> None:
    model = load_generic()
    left, right = (model.joints(torch.zeros(model.shape_count))[joint] for joint in (LEFT_EYE, RIGHT_EYE))
    assert (LEFT_EYE, RIGHT_EYE) == (3, 4)
    assert float(left[0]) > 0.02
    assert float(right[0]) < -0.02
    eyes = torch.tensor([[0.4, 0.0], [0.0, 0.0]], dtype=torch.float64)
    frame = encode_frame(model, _shape(model), replace(neutral_state(model), eyes=eyes), CAMERA, SIZE, 0)
    block = torch.from_numpy(frame["flame"]["eyes"][0])
    assert torch.allclose(matrix_from_6d(block[:6]), eye_rotations(eyes)[0].float(), atol=1e-6)
    assert torch.allclose(block[6:], torch.tensor([1.0, 0, 0, 0, 1, 0]))
    np.testing.assert_allclose(gaze_angles(frame), eyes, atol=1e-6)
    # The left eyeball's surface turns, the right one's does not.
    turned = model.vertices(head_params(frame, model))
    still = model.vertices(replace(head_params(frame, model), eyes=torch.eye(3).expand(2, 3, 3)))
    moved = (turned - still).norm(dim=1)
    assert float(moved[model.regions["left_eyeball"]].max()) > 0.002
    assert float(moved[model.regions["right_eyeball"]].max()) < 1e-6


def test_round_trip_gives_back_head_state_and_record(tmp_path: Path) -> None:
    model = load_generic()
    frame, state = _frame(model), _state(model)
    record = TrackRecord("poor", 2.5, 0.03, 0.8, np.zeros((478, 2), np.float32), 9, "converged")
    frame |= {"track": record.as_dict(), "state": state_arrays(state)}
    files.save_torch(tmp_path / "00007.frame", frame)
    loaded = load_frame(tmp_path / "00007.frame")
    assert _layout(loaded) == _layout(frame)
    params = head_params(loaded, model)
    assert torch.allclose(params.expression, state.expression.float())
    assert torch.allclose(params.shape, _shape(model).float())
    assert torch.allclose(params.jaw, state.jaw.float(), atol=1e-6)
    assert torch.allclose(params.eyes, eye_rotations(state.eyes).float(), atol=1e-6)
    assert torch.allclose(params.eyelids, state.eyelids.float())
    again = state_from_arrays(loaded["state"])
    for name, value in state.tensors.items():
        assert torch.equal(getattr(again, name), value), name
    assert loaded["track"]["status"] == "poor"
    assert loaded["track"]["version"] == 1


def test_saved_twice_is_the_same_file(tmp_path: Path) -> None:
    model = load_generic()
    for folder in ("a", "b"):
        files.save_torch(tmp_path / folder / "00007.frame", _frame(model))
    assert (tmp_path / "a/00007.frame").read_bytes() == (tmp_path / "b/00007.frame").read_bytes()


def test_a_checkpoint_of_another_head_is_refused() -> None:
    frame = _frame(load_generic())
    with pytest.raises(InputError, match="00007 was tracked with head 'generic', not 'random'"):
        head_params(frame, replace(load_generic(), name="random"))


def test_a_frame_of_metrical_tracker_is_read(shared_dir: Path) -> None:
    frame = load_frame(shared_dir / "parity/golden/camera/00007.frame")
    R, t, intrinsics = extrinsics(frame)
    other_R, other_t, other = extrinsics_of_camera_block(frame)
    np.testing.assert_allclose(R, other_R, atol=1e-6)
    np.testing.assert_allclose(t, other_t, atol=1e-6)
    np.testing.assert_allclose(intrinsics.matrix(), other.matrix(), rtol=1e-5)
    flame = load_flame(shared_dir / "flame_like")
    assert torch.isfinite(flame.vertices(head_params(frame, flame))).all()


def test_pickles_name_numpy_1_modules(tmp_path: Path) -> None:
    path = tmp_path / "00007.frame"
    files.save_torch(path, {**_frame(load_generic()), "number": np.float32(1)})
    with zipfile.ZipFile(path) as archive:
        (name,) = [entry for entry in archive.namelist() if entry.endswith("data.pkl")]
        stream = archive.read(name)
    names = {str(argument) for _, argument, _ in pickletools.genops(stream) if isinstance(argument, str)}
    assert "numpy.core.multiarray _reconstruct" in names
    assert not [name for name in names if "numpy._core" in name]


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("executed",)


def test_a_file_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "00003.frame"
    torch.save({"flame": {}, "opencv": {}, "extra": _Code()}, path)
    with pytest.raises(InputError, match=r"00003\.frame: not a readable \.frame file \(it holds print, which"):
        load_frame(path)
    assert "executed" not in capsys.readouterr().out


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "00003.frame"
    files.save_torch(path, _frame(load_generic()))
    whole = path.read_bytes()
    damages = {
        "empty": b"",
        "short": whole[:100],
        "half": whole[: len(whole) // 2],
        "no end": whole[:-5],
        "text": b"hello, not a checkpoint",
        "plain pickle": pickle.dumps({"a": 1}),
        "another dict": None,
    }
    for content in damages.values():
        if content is None:
            torch.save({"a": 1}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"00003\.frame"):
            load_frame(path)
    with pytest.raises(InputError, match=r"00009\.frame: no such checkpoint"):
        load_frame(tmp_path / "00009.frame")


def test_any_damaged_byte_gives_a_frame_or_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "00003.frame"
    files.save_torch(path, _frame(load_generic()))
    whole = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            load_frame(path)
        except InputError:
            refused += 1
    assert refused > 100


def test_threads_load_at_the_same_time(tmp_path: Path) -> None:
    """torch's allow-list belongs to the process: without a lock one thread takes it away from another."""
    path = tmp_path / "00007.frame"
    files.save_torch(path, _frame(load_generic()))
    before = set(torch.serialization.get_safe_globals())
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda _: load_frame(path), range(200)))
    assert all(frame["frame_id"] == "00007" for frame in frames)
    # A set: its order changes as entries come and go.
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_reader_waits_for_the_allow_list(tmp_path: Path) -> None:
    path = tmp_path / "00007.frame"
    # A tensor is read by torch.
    files.save_torch(path, {**_frame(load_generic()), "tensor": torch.zeros(2)})
    with ThreadPoolExecutor(1) as pool:
        with numpy_allowed():
            # Were it let in now, the end of this block would take the list away in the middle of its reading.
            reading = pool.submit(load_frame, path)
            assert not wait([reading], timeout=0.3).done
        assert reading.result(timeout=20)["frame_id"] == "00007"


def test_what_is_written_without_torch_is_what_torch_reads(tmp_path: Path) -> None:
    path = tmp_path / "00007.frame"
    frame = {**_frame(load_generic()), "number": np.float32(1), "list": [1, "a", None, True, 2.5]}
    torch_zip.save(path, frame)
    with numpy_allowed():
        read = torch.load(path, weights_only=True)
    assert _layout(read) == _layout(frame) == _layout(torch_zip.load(path))
    np.testing.assert_equal(read, frame)
    np.testing.assert_equal(torch_zip.load(path), frame)
    torch.save(frame, path)
    np.testing.assert_equal(torch_zip.load(path), frame)
    before = path.read_bytes()
    torch_zip.save(path, frame)
    first = path.read_bytes()
    torch_zip.save(path, frame)
    assert path.read_bytes() == first != before


@pytest.mark.parametrize("value", [torch.zeros(3), _Code(), Path])
def test_reading_without_torch_makes_no_other_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any
) -> None:
    path = tmp_path / "00007.frame"
    torch.save({"value": value}, path)
    with pytest.raises(torch_zip.NOT_READ):
        torch_zip.load(path)
    assert "executed" not in capsys.readouterr().out


def test_a_frame_with_tensors_is_read_by_torch(tmp_path: Path) -> None:
    path = tmp_path / "00007.frame"
    torch.save({**_frame(load_generic()), "tensor": torch.ones(2)}, path)
    assert load_frame(path)["tensor"].tolist() == [1, 1]


def test_the_allow_list_is_taken_back_after_an_error() -> None:
    before = set(torch.serialization.get_safe_globals())
    assert np.ndarray not in before

    def failing() -> None:
        with numpy_allowed():
            assert np.ndarray in torch.serialization.get_safe_globals()
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    # A set: its order changes as entries come and go.
    assert set(torch.serialization.get_safe_globals()) == before
