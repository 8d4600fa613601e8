"""The solver's stages in a process of their own: the same files as within one, and an end with the run."""

import io
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import test_kill
import tracked_clip
from loguru import logger

from stages import beside, files, frames, pipeline, solver_process
from stages.frame_files import FinalFrame, FrameFiles, KeptFrame
from stages.manifest import HashCache
from stages.solver_process import SolverProcess
from stages.stage_run import Run
from tracker.errors import InputError, SubjectError

ROOT = Path(__file__).resolve().parent.parent
_LATER = ("calibration", "tracking", "review")


def _command(home: Path, length: int) -> list[str]:
    """A run whose solver has a process of its own from `length` pictures on."""
    # One thread before numpy is loaded, as the solver's process has it: products on two differ in the last digit.
    code = (
        "import os; os.environ['OMP_NUM_THREADS'] = '1'; "
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run_tracking; from stages import beside; "
        f"beside.OWN_PROCESS_FROM = {length}; sys.exit(run_tracking.main(['--cfg', {str(home / 'anna.yml')!r}]))"
    )
    return [sys.executable, "-c", code]


@pytest.fixture(scope="module")
def within(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that was tracked within one process."""
    home = tmp_path_factory.mktemp("within")
    tracked_clip.write_clip(home)
    subprocess.run(_command(home, 1000), cwd=home, check=True, capture_output=True)
    return home


@pytest.fixture
def landmarks(within: Path, tmp_path: Path) -> Path:
    """The same clip before its calibration."""
    home = shutil.copytree(within, tmp_path / "home")
    shutil.rmtree(home / "output")
    return home


def test_the_files_are_the_same(within: Path, tmp_path: Path) -> None:
    tracked_clip.write_clip(tmp_path)
    done = subprocess.run(_command(tmp_path, 2), cwd=tmp_path, check=True, capture_output=True, text=True)
    assert test_kill._results(tmp_path) == test_kill._results(within)
    # Its log comes through the one console and the one file, with the places where lines were said.
    assert "tracking: 5 ok" in done.stderr
    text = (tmp_path / "output/anna/train.log").read_text()
    assert "stages.report" in next(line for line in text.splitlines() if "tracking: 5 ok" in line)
    again = subprocess.run(_command(tmp_path, 2), cwd=tmp_path, check=True, capture_output=True, text=True)
    assert again.stderr.count("up to date") == len(pipeline.STAGES)


@pytest.mark.parametrize(("folder", "count"), [("initialization", 2), ("tracking.partial", 3), ("checkpoint", 2)])
def test_it_ends_with_a_run_that_is_killed(within: Path, landmarks: Path, folder: str, count: int) -> None:
    test_kill._kill_when(_command(landmarks, 2), landmarks, f"output/anna/{folder}", count)
    time.sleep(0.5)
    left = sorted(path.name for path in (landmarks / "output/anna").rglob("*"))
    time.sleep(1)
    assert sorted(path.name for path in (landmarks / "output/anna").rglob("*")) == left
    subprocess.run(_command(landmarks, 2), cwd=landmarks, check=True, capture_output=True)
    assert test_kill._results(landmarks) == test_kill._results(within)


def test_errors_are_those_of_the_stage(landmarks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "OWN_PROCESS_FROM", 2)
    subject, config = tracked_clip.load_subject(landmarks, "keyframes=[99]")
    with pytest.raises(InputError, match="keyframes: 99 is beyond the last frame 4") as caught:
        pipeline.run_stages(subject, config, ("identity", *_LATER), "cpu", False)
    assert "stages/calibration.py" in caught.value.__notes__[0]
    with pytest.raises(InputError, match="run the stages before it first"):
        pipeline.run_stages(subject, config, ("tracking", "review"), "cpu", False)


def test_what_it_hands_over_may_fail_here(within: Path, landmarks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(beside, "OWN_PROCESS_FROM", 2)
    subject, config = tracked_clip.load_subject(landmarks)
    carry_out, seen = FrameFiles.do, []

    def do(self: FrameFiles, job: KeptFrame | FinalFrame) -> None:
        seen.append(type(job))
        if seen.count(FinalFrame) == 3:
            raise OSError(28, "No space left on device")
        carry_out(self, job)

    monkeypatch.setattr(FrameFiles, "do", do)
    with pytest.raises(OSError, match="No space left"):
        pipeline.run_stages(subject, config, ("identity", *_LATER), "cpu", False)
    assert KeptFrame in seen
    assert sorted(path.name for path in subject.checkpoint_dir.iterdir()) == ["00000.frame", "00001.frame"]
    subprocess.run(_command(landmarks, 2), cwd=landmarks, check=True, capture_output=True)
    assert test_kill._results(landmarks) == test_kill._results(within)


def test_pictures_of_the_video_are_made_while_the_solver_calibrates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails there is said, what stays unfinished is made by the next run, and crops stay as they are."""
    monkeypatch.setattr(beside, "OWN_PROCESS_FROM", 2)
    tracked_clip.write_clip(tmp_path)
    subject, config = tracked_clip.load_subject(tmp_path)
    extract, there = frames._extract, []

    def no_space(*_given: object) -> int:
        there.append((subject.crop_path.exists(), subject.calibration_path.exists()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frames, "_extract", no_space)
    with pytest.raises(OSError, match="No space left"):
        pipeline.run_stages(subject, config, pipeline.STAGES, "cpu", False)
    assert there == [(True, False)]
    assert not subject.source_dir.exists()
    monkeypatch.setattr(frames, "_extract", extract)
    steps = {name: reason for name, _, reason in pipeline.plan(subject, config, pipeline.STAGES, False)}
    assert steps["frames"] == "interrupted"
    crops = {path: path.stat().st_mtime_ns for path in subject.images_dir.iterdir()}
    pipeline.run_stages(subject, config, pipeline.STAGES, "cpu", False)
    assert crops == {path: path.stat().st_mtime_ns for path in subject.images_dir.iterdir()}
    assert len(subject.source_paths()) == len(crops)
    again = [runs for _, runs, _ in pipeline.plan(subject, config, pipeline.STAGES, False)]
    assert not any(again)


def test_a_process_that_died_is_named(landmarks: Path) -> None:
    subject, config = tracked_clip.load_subject(landmarks)
    pipeline.run_stages(subject, config, ("identity",), "cpu", False)
    with SolverProcess(subject.config_path, "cpu") as process:
        assert process.begin("calibration", False)
        process._process.kill()
        process.start()
        with pytest.raises(SubjectError, match="calibration: its process ended with code -9"):
            process.wait("calibration")


def test_it_answers_before_all_is_loaded_and_can_be_left(landmarks: Path) -> None:
    subject, config = tracked_clip.load_subject(landmarks)
    pipeline.run_stages(subject, config, ("identity",), "cpu", False)
    started = time.monotonic()
    with SolverProcess(subject.config_path, "cpu"):
        pass
    assert time.monotonic() - started < 30


class _Stubborn(Exception):
    """Cannot be pickled and put together again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_errors_that_cannot_be_sent_say_what_they_were() -> None:
    assert str(solver_process._sendable(_Stubborn("a", "b"))) == "_Stubborn: a b"
    error = InputError("x.json: damaged")
    assert solver_process._sendable(error) is error


def test_what_is_printed_does_not_disturb_the_answers() -> None:
    code = (
        "import os, pickle; from stages import solver_process as s; pipe = s._own_output(); print('noise'); "
        "os.write(1, b'noise'); pickle.dump(s.Ended(), pipe); pipe.flush()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert pickle.loads(done.stdout) == solver_process.Ended()
    assert done.stderr.count(b"noise") == 2


def test_a_line_of_the_log_keeps_level_and_place() -> None:
    sink = io.StringIO()
    number = logger.add(sink, format="{level} {name}:{line} {message}", level="DEBUG")
    try:
        solver_process._say_again(solver_process.Said("WARNING", "50 {braces} %", "stages.tracking", 7))
    finally:
        logger.remove(number)
    assert sink.getvalue() == "WARNING stages.tracking:7 50 {braces} %\n"


def test_short_clips_and_single_stages_stay_within(landmarks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, config = tracked_clip.load_subject(landmarks)
    run = Run(subject, config, "cpu", HashCache(subject.hash_cache_path), False)
    assert not beside.solver_apart(run, pipeline.STAGES)
    monkeypatch.setattr(beside, "OWN_PROCESS_FROM", 2)
    assert beside.solver_apart(run, pipeline.STAGES)
    assert not beside.solver_apart(run, ("identity", "calibration", "tracking"))
    assert not beside.solver_apart(run, ("frames", "crop", "landmarks"))
    files.remove(subject.input_dir / "video.mp4")
    files.remove(subject.source_dir)
    assert not beside.solver_apart(run, pipeline.STAGES)
