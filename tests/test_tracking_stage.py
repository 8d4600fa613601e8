"""The stages calibration and tracking on a short clip: files, numbers, re-runs, and going on after an interruption."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import tracked_clip
import trimesh

import run_tracking
from stages import files, manifest, tracking
from stages.clip_files import CalibrationRecord, frame_input, load_clip
from stages.frame_files import write_npz
from stages.pipeline import plan, run_stages
from stages.raw_frames import RawRecord
from stages.subject import Subject
from tracker.clip import FrameInput, held_unknowns
from tracker.config import Config
from tracker.errors import InputError, SubjectError
from tracker.evidence import Evidence
from tracker.frame_file import extrinsics, head_params, load_frame, state_from_arrays
from tracker.frame_solver import FrameSolver
from tracker.head_choice import load_head_model
from tracker.mesh_files import canonical_vertices
from tracker.rasterizer import rasterize
from tracker.smoother import RawFrame
from tracker.track import Past, TrackedFrame, fitted478, track_frame

STAGES = ("frames", "crop", "landmarks", "identity", "calibration", "tracking")
COUNT = tracked_clip.TRACKED


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Config, Path]:
    home = tmp_path_factory.mktemp("tracked")
    tracked_clip.write_clip(home)
    subject, config = tracked_clip.load_subject(home)
    run_stages(subject, config, STAGES, "cpu", False)
    return subject, config, home


def _copy(home: Path, target: Path, *overrides: str) -> tuple[Subject, Config]:
    shutil.copytree(home, target)
    return tracked_clip.load_subject(target, *overrides)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_file_of_the_layout_is_there(tracked) -> None:
    subject, _, _ = tracked
    output = subject.output_dir
    for folder, suffix in (("checkpoint", "frame"), ("mesh", "ply"), ("depth", "png"), ("input", "png")):
        names = sorted(path.name for path in (output / folder).iterdir())
        assert names == [f"{index:05d}.{suffix}" for index in range(COUNT)], folder
    for name in ("canonical.obj", "report.json", "calibration.npz", "appearance.npz", "config.yml", "pyramid/0.png"):
        assert (output / name).is_file(), name
    assert len(list((output / "camera").glob("*.jpg"))) == 3
    assert {"00000.jpg", "00003.jpg"} <= {path.name for path in (output / "initialization").iterdir()}
    assert len(list((output / "initialization").iterdir())) == 3
    assert not list(output.rglob("*.tmp"))
    assert not subject.raw_dir.exists()


def test_index_0_explains_the_picture_after_begin_frames(tracked) -> None:
    subject, _, _ = tracked
    for index in range(COUNT):
        explained = subject.output_dir / f"input/{index:05d}.png"
        number = tracked_clip.BEGIN_FRAMES + 1 + index
        assert explained.read_bytes() == (subject.images_dir / f"{number:05d}.png").read_bytes()


def test_depth_mesh_and_checkpoint_agree(tracked) -> None:
    subject, config, _ = tracked
    model = load_head_model(config)
    for index in (0, COUNT - 1):
        frame = load_frame(subject.checkpoint_path(index))
        assert frame["frame_id"] == f"{index:05d}"
        assert frame["img_size"].tolist() == [256, 256]
        mesh = trimesh.load(subject.mesh_path(index), process=False)
        vertices = model.vertices(head_params(frame, model)).numpy()
        assert np.asarray(mesh.vertices).shape == vertices.shape
        # Both float32; 1e-6 m measured.
        np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-5)
        np.testing.assert_array_equal(mesh.faces, model.triangles.numpy())
        depth = cv2.imread(str(subject.depth_path(index)), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        assert depth.shape == (256, 256)
        R, t, lens = extrinsics(frame)
        cam = np.asarray(mesh.vertices) @ R.T + t
        expected = rasterize(cam.astype(np.float32), model.triangles.numpy(), lens, (256, 256))
        covered = expected.covered & (depth > 0)
        # Rounding of the checkpoint's float32 moves silhouettes by single pixels.
        assert (expected.covered != (depth > 0)).mean() < 1e-3
        difference = np.abs(depth[covered] - 1000 * expected.depth_m[covered])
        assert np.percentile(difference, 99) <= 0.6
        assert 0.05 < covered.mean() < 0.9
        full = frame["full_frame"]
        assert full["img_size"].tolist() == list(tracked_clip.SPEC.size)


def test_state_is_kept_to_the_last_bit(tracked) -> None:
    subject, _, _ = tracked
    frame = load_frame(subject.checkpoint_path(1))
    state = state_from_arrays(frame["state"])
    assert state.R.dtype == torch.float64
    np.testing.assert_allclose(state.R.numpy(), frame["opencv"]["R"][0], atol=1e-6)
    np.testing.assert_allclose(state.t.numpy(), frame["opencv"]["t"][0], atol=1e-6)
    assert set(frame["track"]) >= {"status", "reprojection_px", "landmarks478", "steps", "outcome", "version"}


def test_canonical_head_has_texture_coordinates_and_an_open_mouth(tracked) -> None:
    subject, config, _ = tracked
    model = load_head_model(config)
    lines = subject.canonical_path.read_text().splitlines()
    counts = {kind: sum(line.startswith(f"{kind} ") for line in lines) for kind in ("v", "vt", "f")}
    assert counts == {"v": model.vertex_count, "vt": len(model.uv), "f": len(model.triangles)}
    shape = torch.from_numpy(CalibrationRecord.load(subject.calibration_path).shape).float()
    written = np.array([[float(x) for x in line.split()[1:]] for line in lines if line.startswith("v ")])
    np.testing.assert_allclose(written, canonical_vertices(model, shape).numpy(), atol=2e-6)


def test_report_sums_the_frames_up(tracked) -> None:
    subject, _, _ = tracked
    report = json.loads(subject.report_path.read_text())
    summary, frames = report["summary"], report["frames"]
    assert [frame["frame"] for frame in frames] == list(range(COUNT))
    assert summary["frames"] == COUNT
    for status in ("ok", "poor", "lost"):
        assert summary[status] == sum(frame["status"] == status for frame in frames)
    assert summary["ok"] == COUNT
    # Detector and model mean slightly different points: 1.9 px of 256 measured.
    assert 0 < summary["reprojection_px_median"] < 5
    assert summary["calibration_frames"][0] == 0
    assert {0, 3} <= set(summary["calibration_frames"])
    assert summary["focal_full_frame_px_95"][0] < summary["focal_full_frame_px"] < summary["focal_full_frame_px_95"][1]
    # True 448 px. On seven frames that hardly turn the prior (480 px) decides.
    assert 300 < summary["focal_full_frame_px"] < 700
    for index, frame in enumerate(frames):
        track = load_frame(subject.checkpoint_path(index))["track"]
        assert frame["status"] == track["status"]
        assert frame["reprojection_px"] == pytest.approx(track["reprojection_px"], abs=1e-4)
        assert frame["milliseconds"] > 0
    with subject.timings_path.open() as file:
        assert [int(row[0]) for row in csv.reader(file)] == list(range(COUNT))


def test_running_again_changes_nothing(tracked) -> None:
    subject, config, _ = tracked
    before = {path: path.stat().st_mtime_ns for path in subject.output_dir.rglob("*.frame")}
    assert {step[1] for step in plan(subject, config, STAGES, False)} == {False}
    run_stages(subject, config, STAGES, "cpu", False)
    assert {path: path.stat().st_mtime_ns for path in subject.output_dir.rglob("*.frame")} == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("review.crf=30", set()),
        ("tracking.rotation_std=0.03", {"calibration", "tracking"}),
        ("smoother.noise=2", {"tracking"}),
        ("calibration.rounds=2", {"calibration", "tracking"}),
        ("focal_length=450", {"calibration", "tracking"}),
        ("camera_file=camera.json", {"calibration", "tracking"}),
        ("bbox_scale=2.6", {"crop", "landmarks", "identity", "calibration", "tracking"}),
    ],
)
def test_a_changed_config_runs_what_depends_on_it(tracked, override: str, expected: set[str]) -> None:
    _, _, home = tracked
    subject, config = tracked_clip.load_subject(home, override)
    runs = {name for name, runs, _ in plan(subject, config, STAGES, False) if runs}
    assert runs == expected


def _last_line(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    monkeypatch.chdir(home)
    assert run_tracking.main(["--cfg", "anna.yml", "--until", "tracking", *more]) == 0
    return capsys.readouterr().err.splitlines()[-1]


def test_a_known_camera_is_held_and_a_changed_file_calibrates_again(
    tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, home = tracked
    subject, _ = _copy(home, tmp_path / "home")
    # Half the clip's size; the clip has 320 pixels a side.
    text = '{"K": [[225, 0, 81.5], [0, 225, 77.5], [0, 0, 1]], "image_width": 160, "image_height": 160}'
    (tmp_path / "home/camera.json").write_text(text)
    last = _last_line(tmp_path / "home", monkeypatch, capsys, "--set", "camera_file=camera.json")
    assert "focal length" not in last
    summary = json.loads(subject.report_path.read_text())["summary"]
    assert summary["focal_full_frame_px"] == 450
    assert summary["principal_point_full_frame_px"] == [164, 156]
    assert summary["focal_given"]
    assert summary["focal_observed"]
    subject, config = tracked_clip.load_subject(tmp_path / "home", "camera_file=camera.json")
    assert not any(runs for _, runs, _ in plan(subject, config, STAGES, False))
    (tmp_path / "home/camera.json").write_text(text.replace("225", "230"))
    reasons = {name: reason for name, runs, reason in plan(subject, config, STAGES, False) if runs}
    assert set(reasons) == {"calibration", "tracking"}
    assert reasons["calibration"].startswith("input changed: ")
    assert reasons["calibration"].endswith("camera.json")


def test_the_last_line_says_that_the_focal_length_is_not_told(
    tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject, _, home = tracked
    summary = json.loads(subject.report_path.read_text())["summary"]
    assert not summary["focal_observed"]
    _copy(home, tmp_path / "home")
    low, high = summary["focal_full_frame_px_95"]
    last = _last_line(tmp_path / "home", monkeypatch, capsys)
    assert (
        f"hardly tells the focal length ({summary['focal_full_frame_px']:.0f} px, 95 %: {low:.0f} to {high:.0f})"
        in last
    )


@pytest.mark.parametrize("missing", [1, 3, COUNT])
def test_a_resumed_track_equals_an_uninterrupted_one(tracked, tmp_path: Path, missing: int) -> None:
    subject, _, home = tracked
    expected = _bytes(subject.checkpoint_dir)
    again, config = _copy(home, tmp_path / "home")
    for index in range(COUNT - missing, COUNT):
        again.checkpoint_path(index).unlink()
    made = manifest.read(again.manifest_path("tracking"))
    assert made is not None
    manifest.write(again.manifest_path("tracking"), replace(made, complete=False))
    run_stages(again, config, ("tracking",), "cpu", False)
    assert _bytes(again.checkpoint_dir) == expected
    for folder in ("mesh_dir", "depth_dir", "explained_dir"):
        assert _bytes(getattr(again, folder)) == _bytes(getattr(subject, folder))


class _Killed(Exception):
    pass


def _killed_after(monkeypatch: pytest.MonkeyPatch, frames: int) -> list[float]:
    """Lets tracking fail once it has tracked so many frames; the list has the correlation before each one."""
    calls: list[float] = []

    def track(solver: FrameSolver, frame: FrameInput, past: Past) -> TrackedFrame:
        if len(calls) == frames:
            raise _Killed
        calls.append(past.correlation)
        return track_frame(solver, frame, past)

    monkeypatch.setattr(tracking, "track_frame", track)
    return calls


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("smoothed", [True, False])
def test_an_interrupted_track_goes_on_where_it_was(
    tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, smoothed: bool
) -> None:
    """Blocks of two frames with a lag of one, so that a clip of five has all there is."""
    _, _, home = tracked
    overrides = ("smoother.block=2", "smoother.lag=1", f"smoother.enabled={str(smoothed).lower()}")
    whole, config = _copy(home, tmp_path / "whole", *overrides)
    before = _killed_after(monkeypatch, COUNT)
    run_stages(whole, config, ("tracking",), "cpu", True)
    again, config = _copy(home, tmp_path / "again", *overrides)
    _killed_after(monkeypatch, frames)
    with pytest.raises(_Killed):
        run_stages(again, config, ("tracking",), "cpu", True)
    # A frame is final once its block and a lag of one more are tracked.
    final = {1: 0, 2: 0, 3: 2, 4: 2}[frames] if smoothed else frames
    assert len(list(again.checkpoint_dir.glob("*"))) == final
    # One frame alone does not say how the head moves; it is tracked again.
    calls = _killed_after(monkeypatch, COUNT)
    run_stages(again, config, ("tracking",), "cpu", False)
    assert len(calls) == COUNT - (frames if frames > 1 or not smoothed else 0)
    np.testing.assert_array_equal(calls, before[COUNT - len(calls) :])
    assert _bytes(again.checkpoint_dir) == _bytes(whole.checkpoint_dir)
    for folder in ("mesh_dir", "depth_dir", "explained_dir"):
        assert _bytes(getattr(again, folder)) == _bytes(getattr(whole, folder))
    assert not again.raw_dir.exists()


def test_without_smoothing_a_frame_is_what_was_tracked(tracked, tmp_path: Path) -> None:
    smoothed, _, home = tracked
    subject, config = _copy(home, tmp_path / "home", "smoother.enabled=false")
    run_stages(subject, config, ("tracking",), "cpu", False)
    model = load_head_model(config)
    clip, _ = load_clip(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held_unknowns(model, config.optimize_jaw))
    past = Past(None, None, "")
    for index in subject.frame_indices():
        found = track_frame(solver, frame_input(subject, index, False), past)
        past = past.behind(found)
        frame, other = load_frame(subject.checkpoint_path(index)), load_frame(smoothed.checkpoint_path(index))
        for name, value in state_from_arrays(frame["state"]).tensors.items():
            assert torch.equal(value, getattr(found.state, name)), name
        assert frame["track"]["reprojection_px"] == found.reprojection_px
        assert np.abs(other["state"]["t"] - frame["state"]["t"]).max() > 1e-5


def test_errors_are_those_of_the_smoothed_state(tracked) -> None:
    subject, config, _ = tracked
    model = load_head_model(config)
    clip, _ = load_clip(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held_unknowns(model, config.optimize_jaw))
    for index in range(COUNT):
        frame = load_frame(subject.checkpoint_path(index))
        fitted = fitted478(solver, state_from_arrays(frame["state"]))
        np.testing.assert_array_equal(frame["track"]["landmarks478"], fitted)
        error = np.nanmedian(np.linalg.norm(fitted - subject.load_kpt_dense(index), axis=1))
        assert frame["track"]["reprojection_px"] == pytest.approx(error, abs=1e-5)


def test_what_a_killed_run_left_is_read_back(tracked, tmp_path: Path) -> None:
    subject, config, _ = tracked
    model = load_head_model(config)
    state = state_from_arrays(load_frame(subject.checkpoint_path(0))["state"])
    size = 15 + model.expression_count
    evidence = Evidence(torch.randn(size, size).double(), torch.randn(size).double())
    for kept in (evidence, None):
        record = RawRecord(RawFrame(state, kept, True, True), "poor", float("nan"), 0.25, 7, "converged", 12.5)
        write_npz(tmp_path / "0.npz", record.arrays())
        found = RawRecord.load(tmp_path / "0.npz")
        assert (found.status, found.photometric_l1, found.steps, found.outcome) == ("poor", 0.25, 7, "converged")
        assert found.milliseconds == 12.5
        assert np.isnan(found.correlation)
        assert found.frame.cut
        assert found.frame.poor
        assert all(torch.equal(value, getattr(found.frame.state, name)) for name, value in state.tensors.items())
        assert (found.frame.evidence is None) == (kept is None)
        if kept is not None and found.frame.evidence is not None:
            assert torch.equal(found.frame.evidence.H, kept.H)
            assert torch.equal(found.frame.evidence.g, kept.g)
    (tmp_path / "0.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"0\.npz: not a tracked frame"):
        RawRecord.load(tmp_path / "0.npz")


def test_a_fresh_calibration_equals_the_first(tracked, tmp_path: Path) -> None:
    subject, _, home = tracked
    again, config = _copy(home, tmp_path / "home")
    run_stages(again, config, ("calibration",), "cpu", True)
    assert again.calibration_path.read_bytes() == subject.calibration_path.read_bytes()
    assert again.appearance_path.read_bytes() == subject.appearance_path.read_bytes()
    assert {step[0] for step in plan(again, config, STAGES, False) if step[1]} == set()


def test_frames_without_a_face_are_bridged_and_said(tracked, tmp_path: Path) -> None:
    _, _, home = tracked
    subject, config = _copy(home, tmp_path / "home")
    hidden = tracked_clip.BEGIN_FRAMES + 1 + 2
    np.save(subject.kpt_dense_dir / f"{hidden:05d}.npy", np.zeros((478, 2)))
    files.write_image(subject.images_dir / f"{hidden:05d}.png", np.zeros((256, 256, 3), np.uint8))
    run_stages(subject, config, ("tracking",), "cpu", False)
    report = json.loads(subject.report_path.read_text())
    assert [frame["status"] for frame in report["frames"]] == ["ok", "ok", "lost", "ok", "ok"]
    assert report["frames"][2]["reprojection_px"] is None
    assert subject.checkpoint_path(2).is_file()


def test_errors_name_what_is_wrong(tracked, tmp_path: Path) -> None:
    _, _, home = tracked
    subject, config = _copy(home, tmp_path / "home", f"keyframes=[0, {COUNT}]")
    with pytest.raises(InputError, match=f"keyframes: {COUNT} is beyond the last frame {COUNT - 1}"):
        run_stages(subject, config, ("calibration",), "cpu", False)
    subject, config = _copy(home, tmp_path / "other")
    model = load_head_model(config)
    with pytest.raises(InputError, match="the config asks for"):
        load_clip(subject, config.model_copy(update={"num_shape_params": 5}), model.with_modes(5, 100))
    subject.calibration_path.write_bytes(subject.calibration_path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"calibration\.npz: damaged"):
        load_clip(subject, config, model)
    for path in subject.kpt_dense_dir.iterdir():
        np.save(path, np.zeros((478, 2)))
    with pytest.raises(SubjectError, match="no face in the frames that are left"):
        run_stages(subject, config, ("calibration",), "cpu", False)


def test_a_moving_light_survives_the_record(tracked, tmp_path: Path) -> None:
    _, _, home = tracked
    subject, config = _copy(home, tmp_path / "home")
    model = load_head_model(config)
    clip, record = load_clip(subject, config, model)
    assert clip.response is None
    levels, count = clip.contrast.shape[:2]
    own, around = np.full((count, 8), 0.5, np.float32), np.full((levels, count, 8), 0.25, np.float32)
    replace(record, light_own=own, light_around=around).save(subject.calibration_path)
    response = load_clip(subject, config, model)[0].response
    assert response is not None
    assert np.array_equal(response.own.numpy(), own)
    assert np.array_equal(response.around.numpy(), around)


def test_without_meshes_and_depth(tracked, tmp_path: Path) -> None:
    _, _, home = tracked
    subject, config = _copy(home, tmp_path / "home", "write_meshes=false", "write_depth=false")
    before = _bytes(subject.checkpoint_dir)
    run_stages(subject, config, ("tracking",), "cpu", False)
    assert not subject.mesh_dir.exists()
    assert not subject.depth_dir.exists()
    assert _bytes(subject.checkpoint_dir) == before
    assert [step[1] for step in plan(subject, config, ("tracking",), False)] == [False]


def test_preview_runs_through_and_beside_each_other(tracked, tmp_path: Path) -> None:
    _, _, home = tracked
    subject, config = _copy(home, tmp_path / "home", "profile=preview", "tracking.levels=1")
    seconds = run_stages(subject, config, (*STAGES, "review"), "cpu", False)
    assert list(seconds) == [*STAGES, "review"]
    assert not subject.source_dir.exists()
    assert len(list(subject.checkpoint_dir.iterdir())) == COUNT
    assert not subject.mesh_dir.exists()
    assert files.read_image(subject.review_path(0)).shape[1] == 4 * 256
    assert subject.video_mp4_path.is_file()
    assert not [step for step in plan(subject, config, (*STAGES, "review"), False) if step[1]]
