"""ARKit curves: names, what each head's expressions become, timecode, and the files that a small track exports to."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import files
from stages.config_file import dump_config
from stages.export import arkit
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.config import Config
from tracker.frame_file import encode_frame
from tracker.head.arkit import ARKIT_NAMES, FacePose, arkit_curves, arkit_name, has_arkit_names
from tracker.head.generic import load_generic
from tracker.rotations import exp_so3
from tracker.state import FrameState, neutral_state

# The table of ICT-FaceKit's README, in the order of its vertex_indices.json.
ICT = (
    "browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R", "cheekPuff_L",
    "cheekPuff_R", "cheekSquint_L", "cheekSquint_R", "eyeBlink_L", "eyeBlink_R", "eyeLookDown_L", "eyeLookDown_R",
    "eyeLookIn_L", "eyeLookIn_R", "eyeLookOut_L", "eyeLookOut_R", "eyeLookUp_L", "eyeLookUp_R", "eyeSquint_L",
    "eyeSquint_R", "eyeWide_L", "eyeWide_R", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimple_L", "mouthDimple_R", "mouthFrown_L", "mouthFrown_R", "mouthFunnel", "mouthLeft", "mouthLowerDown_L",
    "mouthLowerDown_R", "mouthPress_L", "mouthPress_R", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmile_L", "mouthSmile_R", "mouthStretch_L",
    "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R", "noseSneer_L", "noseSneer_R",
)  # fmt: skip


def _face(names: tuple[str, ...], jaw_x: float = 0.0, **values: float) -> FacePose:
    expression = np.zeros(len(names))
    for name, value in values.items():
        expression[names.index(name)] = value
    return FacePose(expression, np.zeros(2), np.zeros((2, 2)), jaw_x)


def _named(curves: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(ARKIT_NAMES, curves, strict=True) if value}


def test_ict_has_every_arkit_unit_but_the_tongue() -> None:
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52
    assert {arkit_name(name) for name in ICT} == set(ARKIT_NAMES) - {"tongueOut"}
    assert has_arkit_names(ICT)
    assert has_arkit_names(load_generic().expression_names)
    assert not has_arkit_names(tuple(f"exp{i:03d}" for i in range(100)))


def test_units_keep_their_coefficient() -> None:
    found = _named(arkit_curves(ICT, _face(ICT, jawOpen=0.4, mouthSmile_L=0.7, mouthSmile_R=0.2, jawRight=0.1)))
    assert found == pytest.approx({"jawOpen": 0.4, "mouthSmileLeft": 0.7, "mouthSmileRight": 0.2, "jawRight": 0.1})


def test_halves_of_a_unit_are_averaged() -> None:
    found = _named(arkit_curves(ICT, _face(ICT, browInnerUp_L=0.8, browInnerUp_R=0.4, cheekPuff_R=0.5)))
    assert found == pytest.approx({"browInnerUp": 0.6, "cheekPuff": 0.25})


def test_lids_blink_and_open_wide() -> None:
    face = replace(_face(ICT, eyeWide_R=0.3), eyelids=np.array([0.9, -0.2]))
    assert _named(arkit_curves(ICT, face)) == pytest.approx({"eyeBlinkLeft": 0.9, "eyeWideRight": 0.5})


def test_gaze_comes_from_the_eyeballs_and_not_from_the_lids() -> None:
    gaze = np.deg2rad([[15.0, 5.0], [15.0, 5.0]])
    face = replace(_face(ICT, eyeLookUp_L=0.9, eyeLookUp_R=0.9), gaze=gaze)
    expected = {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5, "eyeLookDownLeft": 0.2, "eyeLookDownRight": 0.2}
    assert _named(arkit_curves(ICT, face)) == pytest.approx(expected)
    other = _named(arkit_curves(ICT, replace(face, gaze=-gaze)))
    assert set(other) == {"eyeLookInLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight"}


def test_the_generic_heads_joint_and_two_way_units() -> None:
    names = load_generic().expression_names
    found = _named(arkit_curves(names, _face(names, np.deg2rad(25.33) / 2, jawLeft=-0.3, mouthLeft=0.4)))
    assert found == pytest.approx({"jawOpen": 0.5, "jawRight": 0.3, "mouthLeft": 0.4}, abs=1e-6)


def test_curves_stay_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    face = FacePose(rng.normal(0, 2, 53), rng.normal(0, 2, 2), rng.normal(0, 2, (2, 2)), 0.0)
    curves = arkit_curves(ICT, face)
    assert curves.shape == (52,)
    assert curves.min() >= 0
    assert curves.max() <= 1


@pytest.mark.parametrize(
    ("number", "fps", "expected"),
    [
        (0, 25, "00:00:00:00.000"),
        (24, 25, "00:00:00:24.000"),
        (25, 25, "00:00:01:00.000"),
        (25 * 3661 + 7, 25, "01:01:01:07.000"),
        (30, 30000 / 1001, "00:00:01:00.030"),
        (1, 12.5, "00:00:00:01.040"),
    ],
)
def test_timecode(number: int, fps: float, expected: str) -> None:
    assert arkit.timecode(number, fps) == expected


@pytest.mark.parametrize(("axis", "sign_of"), [((0, 1, 0), (1, 0, 0)), ((1, 0, 0), (0, 1, 0)), ((0, 0, 1), (0, 0, 1))])
def test_head_angles_are_yaw_pitch_roll(axis: tuple[int, ...], sign_of: tuple[int, ...]) -> None:
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    turn = exp_so3(0.2 * torch.tensor(axis, dtype=torch.float64))
    np.testing.assert_allclose(arkit.head_angles((facing @ turn).numpy()), 0.2 * np.array(sign_of), atol=1e-12)


def _track(folder: Path, head: str = "generic", count: int = 5, **keys: Any) -> tuple[Path, list[FrameState]]:
    """A small track whose jaw opens, lids close, gaze and head turn."""
    output = folder / "anna"
    keys = {"head": "generic", **keys}
    config = Config(actor=str(folder / "input"), save_folder=str(folder), config_name="anna", begin_frames=2, **keys)
    files.write_text(output / "config.yml", dump_config(config))
    model = load_generic()
    states = []
    for index in range(count):
        share = index / max(count - 1, 1)
        base = neutral_state(model)
        expression = base.expression.clone()
        expression[model.expression_names.index("mouthFunnel")] = 0.5 * share
        turn = exp_so3(torch.tensor([0.0, 0.3 * share, 0.0], dtype=torch.float64))
        state = replace(
            base,
            R=base.R @ turn,
            expression=expression,
            jaw=exp_so3(torch.tensor([0.2 * share, 0.0, 0.0], dtype=torch.float64)),
            eyelids=torch.tensor([share, 0.0], dtype=torch.float64),
            eyes=torch.tensor([[0.1, 0.0], [0.1, 0.0]], dtype=torch.float64) * share,
        )
        camera = Intrinsics(1000.0, 256.0, 256.0)
        frame = encode_frame(model, torch.zeros(model.shape_count), state, camera, (512, 512), index)
        frame["model"] = head
        files.save_torch(Subject(folder / "input", output).checkpoint_path(index), frame)
        states.append(state)
    return output, states


def test_a_track_is_exported(tmp_path: Path) -> None:
    output, _ = _track(tmp_path)
    assert arkit.main([str(output)]) == 0
    with (output / "arkit.csv").open() as file:
        rows = list(csv.reader(file))
    header, frames = rows[0], rows[1:]
    assert len(header) == 63
    assert header[:4] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft", "EyeLookDownLeft"]
    assert header[53:] == ["TongueOut", *arkit.ROTATIONS]
    assert len(frames) == 5
    assert {row[1] for row in frames} == {"61"}
    # Two frames were skipped at the start of the clip.
    assert [row[0] for row in frames] == [f"00:00:00:{2 + i:02d}.000" for i in range(5)]
    last = dict(zip(header[2:], map(float, frames[-1][2:]), strict=True))
    assert last["EyeBlinkLeft"] == pytest.approx(1, abs=1e-6)
    assert last["EyeBlinkRight"] == 0
    assert last["MouthFunnel"] == pytest.approx(0.5, abs=1e-6)
    assert last["JawOpen"] == pytest.approx(0.2 / np.deg2rad(25.33), abs=1e-5)
    assert last["HeadYaw"] == pytest.approx(0.3, abs=1e-5)
    assert last["LeftEyeYaw"] == pytest.approx(0.1, abs=1e-5)
    assert last["EyeLookOutLeft"] == pytest.approx(0.1 / np.deg2rad(30), abs=1e-5)
    data = json.loads((output / "arkit.json").read_text())
    assert data["fps"] == 25
    assert data["head"] == "generic"
    assert data["names"] == list(ARKIT_NAMES)
    assert [frame["time"] for frame in data["frames"]] == pytest.approx([(2 + i) / 25 for i in range(5)])
    assert data["frames"][-1]["values"][ARKIT_NAMES.index("mouthFunnel")] == pytest.approx(0.5, abs=1e-6)
    assert len(data["frames"][0]["values"]) == 52
    assert len(data["frames"][0]["rotations"]) == 9


def test_another_folder_receives_the_files(tmp_path: Path) -> None:
    output, _ = _track(tmp_path, count=1)
    arkit.export(output, tmp_path / "there")
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["arkit.csv", "arkit.json"]
    assert not (output / "arkit.csv").exists()


def test_bad_input_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert arkit.main([str(tmp_path / "nothing")]) == 1
    output, _ = _track(tmp_path, head="flame", count=1)
    assert arkit.main([str(output)]) == 1
    for path in (output / "checkpoint").iterdir():
        path.unlink()
    assert arkit.main([str(output)]) == 1
    assert arkit.main([]) == 1
    assert arkit.main([str(output), str(output), "--to", "a"]) == 1
    other, _ = _track(tmp_path / "other", count=1)
    (tmp_path / "file").write_text("x")
    assert arkit.main([str(other), "--to", str(tmp_path / "file")]) == 1
    assert arkit.main([str(other), "--to", str(tmp_path / "file" / "below")]) == 1
    said = capfd.readouterr().err
    assert "usage:" not in said
    lines = [line for line in said.splitlines() if "ERROR" in line]
    assert len(lines) == 7
    assert "required: output; see --help" in lines[3]
    assert "--to takes one subject" in lines[4]
    assert "is a file; name a folder" in lines[5]
    assert "no config.yml" in lines[0]
    assert "tracked with head 'flame'" in lines[1]
    assert "no checkpoints" in lines[2]


def test_the_track_says_which_head_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A track of `head: auto`, made before FLAME was put there."""
    monkeypatch.chdir(tmp_path)
    output, _ = _track(tmp_path, count=1, head="generic")
    text = (output / "config.yml").read_text()
    (output / "config.yml").write_text(text.replace("head: generic", "head: auto"))
    files.write_bytes(tmp_path / "assets/FLAME2020/generic_model.pkl", b"x")
    arkit.export(output)
    assert json.loads((output / "arkit.json").read_text())["head"] == "generic"


def test_cut_expressions_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output, _ = _track(tmp_path, count=1, num_exp_params=5)
    assert arkit.main([str(output)]) == 0
    assert "num_exp_params: 5 of 50 were tracked; " in capfd.readouterr().err
    output, _ = _track(tmp_path / "none", count=1, num_exp_params=0)
    assert arkit.main([str(output)]) == 1
    assert "num_exp_params: 0 leaves none of ARKit's expressions" in capfd.readouterr().err


def test_a_head_without_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, _ = _track(tmp_path, count=1)
    plain = replace(load_generic(), expression_names=tuple(f"exp{i:03d}" for i in range(50)))
    monkeypatch.setattr(arkit, "load_head_model", lambda _: plain)
    with pytest.raises(Exception, match="no expressions with ARKit's names"):
        arkit.export(output)
