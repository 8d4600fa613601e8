"""Files that appear whole, and what is left where they do not."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tracker.atomic_write import TEMPORARY_SUFFIX, check_writable, leftovers, write_atomic, write_bytes
from tracker.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_bytes(path, b"old")
    for failure in (OSError("disk full"), KeyboardInterrupt()):

        def half(temporary: Path, failure: BaseException = failure) -> None:
            temporary.write_text("ha")
            raise failure

        with pytest.raises(type(failure)):
            write_atomic(path, half)
        assert path.read_bytes() == b"old"
        assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """The second begins and ends while the first is at work."""
    path = tmp_path / "a"

    def first(temporary: Path) -> None:
        temporary.write_bytes(b"first")
        write_bytes(path, b"second")
        assert path.read_bytes() == b"second"
        assert temporary.read_bytes() == b"first"

    write_atomic(path, first)
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_files_get_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "a", b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


_KILLED = """
import os, signal, sys
from pathlib import Path
from tracker.atomic_write import write_atomic

def write(temporary):
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

write_atomic(Path(sys.argv[1]), write)
"""


def test_what_a_kill_leaves_is_found_by_the_files_name(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "none" / "a.json") == []
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "a.json")], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.json").exists()
    (tmp_path / "b.json.1.tmp").touch()
    (found,) = leftovers(tmp_path / "a.json")
    assert found.name.startswith("a.json.")
    assert found.suffix == TEMPORARY_SUFFIX


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a: cannot be written \(.*\); choose another place"):
        check_writable(tmp_path / "file" / "a")
    with pytest.raises(InputError, match="new: is a folder; give the name of a file"):
        check_writable(tmp_path / "new")
    with pytest.raises(InputError, match=r"/proc/none/a: cannot be written"):
        check_writable(Path("/proc/none/a"))
