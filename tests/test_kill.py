"""kill -9 in a stage, then the same command again: the same files as without the kill."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import clips
import pytest

from stages import files

ROOT = Path(__file__).resolve().parent.parent
# Files that tell of runs rather than results: logs, and manifests' accounts of time.
_ACCOUNTS = ("train.log", "hashes.cache")


def _command(home: Path) -> list[str]:
    return [sys.executable, str(ROOT / "run_tracking.py"), "--cfg", str(home / "anna.yml"), "--until", "identity"]


def _results(home: Path) -> dict[str, str]:
    paths = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name not in _ACCOUNTS]
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _make(home: Path) -> None:
    clips.encode(clips.swaying(40, 360), home / "input/anna/video.mp4")
    files.write_text(home / "anna.yml", "actor: input/anna\nsave_folder: output\n")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("uninterrupted")
    _make(home)
    subprocess.run(_command(home), cwd=home, check=True, capture_output=True)
    return _results(home)


@pytest.mark.parametrize(("folder", "count"), [("source.*.tmp", 3), ("images", 7), ("kpt_dense", 5)])
def test_killed_run_continues_to_the_same_files(
    uninterrupted: dict[str, str], tmp_path: Path, folder: str, count: int
) -> None:
    _make(tmp_path)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(_command(tmp_path), cwd=tmp_path, stdout=quiet, stderr=quiet) as process:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "input/anna").glob(f"{folder}/*"))) < count:
            assert process.poll() is None, f"the run ended before {folder} held {count} files"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(_command(tmp_path), cwd=tmp_path, check=True, capture_output=True)
    assert _results(tmp_path) == uninterrupted
