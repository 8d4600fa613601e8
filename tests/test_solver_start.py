"""The solver's process, started before it is known whether it is needed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tracked_clip

from stages import solver_start

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    solver_start.end_unused()


def _ends(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(timeout=60)


def test_the_early_process_is_the_one_that_is_given() -> None:
    solver_start.start_early(["--cfg", "a.yml", "--set", "profile=preview"])
    early = solver_start._early[0]
    assert early.poll() is None
    with solver_start.start() as given:
        assert given is early
        assert not solver_start._early
        # It ends with its input, and a second one is another.
        assert _ends(given) == 0
    with solver_start.start() as other:
        assert other is not early
        _ends(other)


@pytest.mark.parametrize(
    "arguments",
    [
        ["assets"],
        ["--help"],
        ["--cfg", "a.yml", "--dry-run"],
        ["--cfg", "a.yml", "--until", "landmarks"],
        ["--cfg=a.yml", "--stages=review"],
    ],
)
def test_only_a_whole_run_starts_it(arguments: list[str]) -> None:
    solver_start.start_early(arguments)
    assert not solver_start._early


def test_one_that_nobody_asked_for_is_ended() -> None:
    solver_start.start_early(["--cfg=a.yml"])
    early = solver_start._early[0]
    solver_start.end_unused()
    assert early.returncode not in (None, 0)
    solver_start.end_unused()


def test_starting_it_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); from stages import solver_start; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; print(new - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "{'stages'}"


@pytest.mark.parametrize("more", [[], ["--set", "no_such_key=1"]], ids=["too short for it", "bad input"])
def test_a_run_that_does_without_it_leaves_none(tmp_path: Path, more: list[str]) -> None:
    tracked_clip.write_clip(tmp_path)
    command = [sys.executable, str(ROOT / "run_tracking.py"), "--cfg", "anna.yml", *more]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == (1 if more else 0), done.stderr
    # What it wrote last was not lost, although it leaves without taking itself apart.
    assert ("no_such_key" if more else "review: ") in done.stderr
    # A child would hold the pipes open, and `run` would not have come back; nor does one complain.
    assert "Traceback" not in done.stderr
