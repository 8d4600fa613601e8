"""The pipeline's benchmark: its arithmetic, what it copies, and one short run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import track
from stages import files
from stages.config_file import load_config

ROOT = Path(__file__).resolve().parent.parent
# The least that still runs every stage.
QUICK = (
    "calibration.frames=2",
    "calibration.rounds=1",
    "calibration.joint_steps=1",
    "calibration.texture_size=64",
    "tracking.levels=2",
    "tracking.samples=400",
)


def _run(scale: float) -> dict:
    return {
        "pictures": 10,
        "stages_s": {"frames": 1.0 * scale, "tracking": 4.0 * scale},
        "peak_mib": 500.0,
        "cpu_s": 12.0 * scale,
        "solver_ms": [100.0 * scale, 200.0 * scale, None],
        "steps": [10, 12],
        "reprojection_px": 1.0,
        "jitter_px": None,
        "psnr_db": 30.0,
        "total_s": 10.0 * scale,
    }


def test_figures_are_by_frame() -> None:
    summary = track.summarise([_run(1), _run(2), _run(3)])
    assert summary["tracking, ms a frame"] == pytest.approx((600, 800, 1000))
    assert summary["all stages, frames/s"][1] == pytest.approx(1.0)
    assert summary["with start-up, frames/s"][1] == pytest.approx(0.5)
    assert summary["solver alone, ms a frame"][1] == pytest.approx(np.median([100, 200, 200, 400, 300, 600]))
    assert "jitter, px" not in summary


def test_ratio_is_second_to_first() -> None:
    text = track.table({"base": track.summarise([_run(1)]), "slow": track.summarise([_run(2)])}, ratio=True)
    line = next(line for line in text.splitlines() if line.startswith("tracking"))
    assert line.split()[-1] == "2.000"
    assert "A: base" in text
    assert "B: slow" in text


def test_a_line_is_fitted() -> None:
    slope, intercept, r_squared = track.fit_line([(10, 5.0), (20, 7.0), (40, 11.0)])
    assert (slope, intercept, r_squared) == pytest.approx((0.2, 3.0, 1.0))
    assert track.fit_line([(1, 1.0), (2, 4.0), (3, 9.0), (4, 16.0)])[2] < 0.98
    text = track.sweep_table("frames", [(10, 5.0), (20, 7.0), (40, 11.0)])
    assert text.splitlines()[-1] == "3.00 s + 200.000 ms x frames, R^2 1.0000"


@pytest.mark.parametrize("key", ["frames", "tracking.samples"])
def test_sweep_runs_every_value_in_turn(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    seen = []

    def once(cfg: Path, sets: list[str], frames: int) -> dict:
        seen.append((tuple(sets), frames))
        return {**_run(1), "pictures": frames, "cpu_s": 2.0 * len(seen)}

    monkeypatch.setattr(track, "run_once", once)
    given = track.parse(["--cfg", "x.yml", "--sweep", f"{key}=30,10,20", "--repeats", "2", "--frames", "7"])
    points = track.sweep(*given.sweep, given)
    assert [value for value, _ in points] == [10, 20, 30]
    if key == "frames":
        assert [frames for _, frames in seen[1:]] == [10, 20, 30, 30, 20, 10]
    else:
        assert seen[1] == (("tracking.samples=10",), 7)
    # Runs 2 to 4 upwards, 5 to 7 downwards: the drift of this made-up cost cancels.
    assert [seconds for _, seconds in points] == [9, 9, 9]


@pytest.mark.parametrize("text", ["frames", "frames=1,2", "=1,2,3", "frames=0,1,2", "frames=a,b,c"])
def test_sweep_of_too_little_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        track.parse(["--cfg", "x.yml", "--sweep", text])
    assert "--sweep" in capsys.readouterr().err


def test_variants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    monkeypatch.setattr(track, "run_once", lambda cfg, sets, frames: order.append((sets[0], frames)) or _run(1))
    track.measure({"a": ["a=1"], "b": ["b=1"]}, Path("x.yml"), 0, 3)
    assert order[0] == ("a=1", track.WARM_UP_FRAMES)
    assert [name for name, _ in order[1:]] == ["a=1", "b=1", "b=1", "a=1", "a=1", "b=1"]


def test_given_pictures_are_copied_up_to_the_limit(tmp_path: Path) -> None:
    for number in range(1, 6):
        files.write_image(tmp_path / f"anna/source/{number:05d}.png", np.zeros((64, 64, 3), np.uint8))
    files.write_array(tmp_path / "anna/identity.npy", np.zeros(300, np.float32))
    files.write_text(tmp_path / "anna.yml", f"actor: {tmp_path / 'anna'}\n")
    config, _ = load_config(tmp_path / "anna.yml")
    actor = track.copy_input(config, tmp_path / "copy", 3)
    assert sorted(path.name for path in (actor / "source").iterdir()) == ["00001.png", "00002.png", "00003.png"]
    assert (actor / "identity.npy").is_file()


@pytest.mark.parametrize(("box_from", "copied"), [("user", True), ("landmarks", False), (None, True)])
def test_the_users_own_box_is_copied(tmp_path: Path, box_from: str | None, copied: bool) -> None:
    files.write_image(tmp_path / "anna/source/00001.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "anna/bbox.pt").write_bytes(b"box")
    if box_from:
        files.write_json(tmp_path / "anna/crop.json", {"box_from": box_from})
    files.write_text(tmp_path / "anna.yml", f"actor: {tmp_path / 'anna'}\n")
    config, _ = load_config(tmp_path / "anna.yml")
    assert (track.copy_input(config, tmp_path / "copy", 0) / "bbox.pt").exists() == copied


def test_parent_stays_small() -> None:
    """A child's peak memory starts at its parent's, so the parent must not load torch."""
    code = "import sys; from benchmarks import track; from stages.config_file import load_config; track.machine(); "
    code += "assert not {'torch', 'mediapipe', 'cv2'} & set(sys.modules), 'heavy library loaded'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_short_run_gives_every_figure_and_leaves_the_output_alone(demo_track, tmp_path: Path) -> None:
    subject, _, _ = demo_track
    cfg = tmp_path / "anna.yml"
    files.write_text(cfg, f"actor: {subject.input_dir}\nsave_folder: {tmp_path / 'output'}\nhead: generic\n")
    run = track.run_once(cfg, list(QUICK), 0)
    # Children are counted, too: more than what the solver alone took.
    assert sum(run["solver_ms"]) / 1000 < run["cpu_s"] < 100 * run["total_s"]
    assert run["pictures"] == len(run["solver_ms"]) == len(subject.source_paths())
    assert set(run["stages_s"]) == {"frames", "crop", "landmarks", "identity", "calibration", "tracking", "review"}
    assert 0 < sum(run["stages_s"].values()) < run["total_s"]
    assert 100 < run["peak_mib"] < 4000
    assert not (tmp_path / "output").exists()
