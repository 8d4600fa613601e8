"""kill -9 in a stage, then the same command again: the same files as without the kill."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import clips
import cv2
import pytest
import tracked_clip

from stages import files

ROOT = Path(__file__).resolve().parent.parent
# Files that tell of runs rather than results: logs, and manifests' accounts of time.
_ACCOUNTS = ("train.log", "hashes.cache", "timings.csv")


def _command(home: Path, until: str = "identity") -> list[str]:
    return [sys.executable, str(ROOT / "run_tracking.py"), "--cfg", str(home / "anna.yml"), "--until", until]


def _content(path: Path) -> bytes:
    """What a file says of results; accounts of time are left out."""
    if path.name == "report.json":
        report = json.loads(path.read_text())
        report["summary"].pop("milliseconds_median")
        for frame in report["frames"]:
            frame.pop("milliseconds")
        return json.dumps(report).encode()
    if path.suffix == ".png":
        # Rarely (1 of 1200 pictures seen) ISA-L packs the same pixels a few bytes differently.
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None, path
        return repr(image.shape).encode() + image.tobytes()
    if path.parent.name == "manifests":
        # The files themselves are compared; their digests follow the packing.
        made = json.loads(path.read_text())
        made["inputs"], made["outputs"] = sorted(made["inputs"]), sorted(made["outputs"])
        return json.dumps(made).encode()
    return path.read_bytes()


def _results(home: Path) -> dict[str, str]:
    paths = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name not in _ACCOUNTS]
    paths = [path for path in paths if "logs" not in path.parts]
    return {str(path.relative_to(home)): hashlib.sha256(_content(path)).hexdigest() for path in paths}


def _make(home: Path) -> None:
    clips.encode(clips.swaying(40, 360), home / "input/anna/video.mp4")
    files.write_text(home / "anna.yml", "actor: input/anna\nsave_folder: output\n")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("uninterrupted")
    _make(home)
    subprocess.run(_command(home), cwd=home, check=True, capture_output=True)
    return _results(home)


def _kill_when(command: list[str], home: Path, folder: str, count: int) -> None:
    """Starts a run and kills it with SIGKILL once home/folder holds that many files."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=home, stdout=quiet, stderr=quiet) as process:
        deadline = time.monotonic() + 120
        while len(list(home.glob(f"{folder}/*"))) < count:
            assert process.poll() is None, f"the run ended before {folder} held {count} files"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("folder", "count"), [("source.*.tmp", 3), ("images", 7), ("kpt_dense", 5)])
def test_killed_run_continues_to_the_same_files(
    uninterrupted: dict[str, str], tmp_path: Path, folder: str, count: int
) -> None:
    _make(tmp_path)
    _kill_when(_command(tmp_path), tmp_path, f"input/anna/{folder}", count)
    subprocess.run(_command(tmp_path), cwd=tmp_path, check=True, capture_output=True)
    assert _results(tmp_path) == uninterrupted


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip after the stages identity, calibration, tracking and review, each in a folder of its own."""
    home = tmp_path_factory.mktemp("steps") / "first"
    tracked_clip.write_clip(home)
    folders = {}
    for stage in ("identity", "calibration", "tracking", "review"):
        if folders:
            home = shutil.copytree(home, home.with_name(stage))
        subprocess.run(_command(home, stage), cwd=home, check=True, capture_output=True)
        folders[stage] = home
    return folders


@pytest.mark.parametrize(
    ("after", "folder", "count"),
    [
        ("identity", "initialization", 2),
        ("calibration", "tracking.partial", 3),
        ("calibration", "depth", 1),
        ("calibration", "checkpoint", 3),
        ("tracking", "video", 2),
        ("tracking", "video", tracked_clip.TRACKED),
    ],
)
def test_killed_solve_continues_to_the_same_files(
    steps: dict[str, Path], tmp_path: Path, after: str, folder: str, count: int
) -> None:
    home = shutil.copytree(steps[after], tmp_path / "home")
    _kill_when(_command(home, "review"), home, f"output/anna/{folder}", count)
    subprocess.run(_command(home, "review"), cwd=home, check=True, capture_output=True)
    assert _results(home) == _results(steps["review"])
