"""The accuracy benchmark: clips made once, failures as rows, tables of what was measured, scans judged twice."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh

import benchmarks.accuracy as accuracy
import benchmarks.scans as scans
import stages.demo
from stages.config_file import load_config
from stages.demo_score import truth_path
from tracker.demo.spec import DemoSpec
from tracker.demo.truth import load_truth
from tracker.frame_file import head_params, load_frame
from tracker.head.generic import load_generic


def _row(clip: str, **figures: float) -> dict:
    return {"clip": clip, "frames_ok": 90, "frames_poor": 8, "frames_lost": 2, "vertex_mm_median": 1.0, **figures}


def test_clips_are_variants_with_a_seed_or_scans(monkeypatch) -> None:
    assert accuracy.parse_clip("yaw50:3") == ("yaw50", 3)
    monkeypatch.setattr(accuracy, "is_scan", lambda name: name == "head_x")
    assert accuracy.parse_clip("head_x") == ("head_x", None)
    for wrong in ("yaw50", "yaw50:", "yaw50:x", "nobody:3", "head_x:4", "head_y"):
        with pytest.raises(SystemExit, match="expected VARIANT:SEED"):
            accuracy.parse_clip(wrong)
    for text in accuracy.DEFAULT_CLIPS:
        assert accuracy.parse_clip(text)[1] is not None


def test_a_clip_is_rendered_once_and_again_when_it_should_be_another(tmp_path, monkeypatch) -> None:
    made: list[DemoSpec] = []
    render = stages.demo.make
    small = {"size": (120, 120), "texture_size": 128}

    def make(clip: Path, spec: DemoSpec) -> None:
        made.append(spec)
        truth = render(clip, DemoSpec(frame_count=spec.frame_count, **small))
        # The benchmark's own spec is written, only the pictures are small.
        truth.__class__(**{**vars(truth), "spec": spec.to_json()}).save(truth_path(clip))

    monkeypatch.setattr(stages.demo, "make", make)
    clip = accuracy.prepare("talk:9", tmp_path, 2)
    (clip / "images").mkdir()
    assert accuracy.prepare("talk:9", tmp_path, 2) == clip
    assert len(made) == 1
    assert (clip / "images").is_dir()
    assert DemoSpec.from_json(load_truth(truth_path(clip)).spec) == made[0]
    accuracy.prepare("talk:9", tmp_path, 3)
    assert len(made) == 2
    # What was found in the old pictures goes with them.
    assert not (clip / "images").exists()
    assert accuracy.prepare("talk:8", tmp_path, 3) != clip


def test_a_scan_is_copied_beside_its_results(tmp_path, monkeypatch) -> None:
    (tmp_path / "head_x").mkdir()
    (tmp_path / "head_x" / "video.mp4").write_bytes(b"pictures")
    monkeypatch.setattr(accuracy, "is_scan", lambda name: True)
    monkeypatch.setattr(accuracy, "scan_folder", lambda name: tmp_path / name)
    clip = accuracy.prepare("head_x", tmp_path / "clips", 100)
    assert (clip / "video.mp4").read_bytes() == b"pictures"


def test_a_failed_run_is_a_row_with_its_reason(tmp_path, capsys) -> None:
    clip = tmp_path / "clips" / "default_7"
    clip.mkdir(parents=True)
    row = accuracy.run_clip("default:7", clip, tmp_path / "run0" / "default_7", ["tracking.nonsense=1"])
    assert row["clip"] == "default:7"
    assert "tracking.nonsense" in row["failed"]
    shown = accuracy.table([row, _row("default:11")])
    assert "tracking.nonsense" in shown
    assert "default:11" in shown


def test_ablation_settings_are_valid_and_name_the_default(tmp_path) -> None:
    config = tmp_path / "a.yml"
    config.write_text("actor: x\n")
    default, _ = load_config(config)
    settings = [load_config(config, overrides)[0] for overrides in accuracy.ABLATION.values()]
    named = {name: setting for name, setting in zip(accuracy.ABLATION, settings, strict=True)}
    assert named["+ smoother (default)"] == default
    # Each row is another configuration, and each override changes something.
    assert len({setting.model_dump_json() for setting in settings}) == len(settings)
    for override in {override for overrides in accuracy.ABLATION.values() for override in overrides}:
        assert load_config(config, (override,))[0] != default, override


def test_table_has_a_line_a_clip_and_medians() -> None:
    rows = [
        _row("default:7", focal_percent=-2.0, focal_holds=1.0, jitter_mm=0.2),
        _row("wide:5", focal_percent=4.0, focal_holds=0.0, jitter_mm=0.4),
        _row("tele:5", focal_percent=9.0, focal_holds=1.0, jitter_mm=0.9),
        {"clip": "hard:1", "failed": "no face"},
    ]
    lines = accuracy.table(rows).splitlines()
    assert len(lines) == 6
    assert lines[1].split()[:2] == ["default:7", "90/8/2"]
    assert "-2.0" in lines[1]
    assert "holds" in lines[1]
    assert "MISSES" in lines[2]
    assert lines[4].split(maxsplit=1) == ["hard:1", "failed: no face"]
    assert lines[5].startswith("median of 3")
    assert "+4.0" in lines[5]
    assert "67 %" in lines[5]
    assert "0.40" in lines[5]
    assert "270/24/6" in lines[5]


def test_scans_have_a_table_of_their_own() -> None:
    scan = {"clip": "head_x", "frames_ok": 1, "frames_poor": 0, "frames_lost": 0, "rigid_mm": 1.75, "focal_holds": None}
    shown = accuracy.table([_row("default:7"), scan])
    above, below = shown.split("\n\n")
    assert "default:7" in above
    assert "head_x" not in above
    assert "1.75" in below
    assert "mean: rig." in below


def test_ablation_table_is_markdown_with_medians_and_failures() -> None:
    rows = {
        "one": [_row("default:7", jitter_mm=1.0), _row("default:8", jitter_mm=3.0)],
        "two": [_row("default:7", jitter_mm=0.5), {"clip": "default:8", "failed": "singular"}],
    }
    lines = accuracy.ablation_table(rows).splitlines()
    assert lines[1].startswith("| --- | --- |")
    assert lines[2].startswith("| one | 180/16/4 |")
    assert "| 2.00 |" in lines[2]
    assert lines[3].startswith("| two | 90/8/2 |")
    assert "failed: singular" in lines[4]


def test_mean_head_copy_keeps_all_but_the_identity(demo_track, tmp_path) -> None:
    subject = demo_track[0]
    folder = scans.mean_head_copy(subject.output_dir, tmp_path / "mean")
    first = next((folder / "mesh").iterdir())
    written = first.stat().st_mtime_ns
    scans.mean_head_copy(subject.output_dir, folder)
    assert first.stat().st_mtime_ns == written
    os.utime(subject.checkpoint_path(0))
    scans.mean_head_copy(subject.output_dir, folder)
    assert first.stat().st_mtime_ns > written
    names = sorted(path.stem for path in (folder / "mesh").iterdir())
    assert names == [path.stem for path in sorted((folder / "checkpoint").iterdir())]
    assert len(names) == len(subject.frame_indices())
    model = load_generic()
    frame = load_frame(folder / "checkpoint" / f"{names[2]}.frame")
    params = head_params(frame, model)
    assert params.shape.abs().max() > 0.5
    neutral = model.neutral()
    expected = model.vertices(
        type(params)(neutral.shape, params.expression, params.jaw, params.eyes, params.eyelids)
    ).numpy()
    mesh = trimesh.load(folder / "mesh" / f"{names[2]}.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6)


def _figures(rigid: float) -> dict:
    def all_of(value: float) -> dict:
        return {"all_vertices": {"median": value}}

    return {
        "1_scan_to_mesh_rigid_mm": all_of(rigid),
        "1_scan_to_mesh_one_scale_mm": all_of(rigid - 0.5),
        "1_scale_mesh_to_gt": 1.03,
        "3_rotation_deg": {"up_to_constant_offset": {"median": 1.1}, "icp_residual_rotation": {"median": 0.7}},
        "4_focal_error_percent": {"signed_mean": -7.0, "gt_fx": 1700.0},
        "5_jitter_rms_second_difference_mm": {"error": 0.4},
    }


@pytest.mark.parametrize(("interval", "holds"), [([1500, 1690], 0.0), ([1500, 1800], 1.0), (None, None)])
def test_scan_row_reads_own_and_mean_head(tmp_path, monkeypatch, interval, holds) -> None:
    summary = {"ok": 120, "poor": 5, "lost": 0, "focal_full_frame_px_95": interval, "focal_given": False}
    (tmp_path / "report.json").write_text(json.dumps({"summary": summary}))
    monkeypatch.setattr(scans, "mean_head_copy", lambda output, folder: folder)
    monkeypatch.setattr(
        scans, "evaluate", lambda name, clip, judged, _: _figures(2.6 if judged.name == "mean_head" else 2.0)
    )
    row = scans.scan_row("head_x", tmp_path, tmp_path, 1)
    assert (row["frames_ok"], row["frames_poor"], row["frames_lost"]) == (120, 5, 0)
    assert (row["rigid_mm"], row["one_scale_mm"]) == (2.0, 1.5)
    assert (row["mean_rigid_mm"], row["mean_one_scale_mm"]) == (2.6, 2.1)
    assert (row["relative_rotation_degrees"], row["mesh_rotation_degrees"]) == (1.1, 0.7)
    assert (row["focal_percent"], row["focal_holds"], row["jitter_mm"], row["scale"]) == (-7.0, holds, 0.4, 1.03)


def test_the_evaluator_runs_once_for_an_unchanged_track(tmp_path, monkeypatch) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "00000.ply").write_bytes(b"")
    runs = []

    def run(command: list[str], **options: object):
        runs.append(command)
        Path(command[command.index("--json") + 1]).write_text(json.dumps(_figures(1.0)))
        return scans.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(scans.subprocess, "run", run)
    for _ in range(2):
        assert scans.evaluate("head_x", tmp_path / "in", tmp_path, 1)["1_scale_mesh_to_gt"] == 1.03
    assert len(runs) == 1
    scans.evaluate("head_x", tmp_path / "in", tmp_path, 4)
    assert runs[1][-2:] == ["--stride", "4"]
    (tmp_path / "evaluation_1.json").write_text(json.dumps({"error": "no frames to compare"}))
    with pytest.raises(SystemExit, match="no frames to compare"):
        scans.evaluate("head_x", tmp_path / "in", tmp_path, 1)


@pytest.mark.slow
def test_benchmark_from_the_command_line(tmp_path, capsys) -> None:
    arguments = ["--clips", "talk:9", "--out", str(tmp_path), "--frames", "10"]
    assert accuracy.main([*arguments, "--set", "calibration.rounds=1", "--set", "tracking.levels=1"]) == 0
    printed = capsys.readouterr().out
    assert "talk:9" in printed
    written = json.loads((tmp_path / "results.json").read_text())
    (row,) = written["rows"]["calibration.rounds=1 tracking.levels=1"]
    assert row["frames_ok"] + row["frames_poor"] + row["frames_lost"] == 10
    assert 0 < row["vertex_mm_median"] < 5
    with pytest.raises(SystemExit):
        accuracy.main([*arguments, "--ablation", "--against", "fps=20"])
