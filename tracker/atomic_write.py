"""Files that appear whole: written under a temporary name in the same folder, then renamed."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from tracker.errors import InputError

TEMPORARY_SUFFIX = ".tmp"


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path`, then renames; several processes may write the same file.

    A kill leaves no half file at `path`, and a failure nothing at all.

    Args:
        path: the final file; its folder is made if need be.
        write: writes the whole file to the path that it is given, whose name ends in `TEMPORARY_SUFFIX`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes bytes atomically."""
    write_atomic(path, lambda temporary: temporary.write_bytes(data))


def check_writable(path: Path) -> None:
    """Finds out before long work whether `write_atomic` could write a file; makes its folder.

    Raises:
        InputError: its folder cannot be made or written to, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def leftovers(path: Path) -> list[Path]:
    """What killed writers of one file have left beside it."""
    return sorted(path.parent.glob(f"{path.name}.*{TEMPORARY_SUFFIX}")) if path.parent.is_dir() else []


def _temporary(path: Path) -> Path:
    """A name that no other writer has: process and thread, and a number for containers that count alike."""
    unique = f"{os.getpid()}-{threading.get_native_id()}-{os.urandom(3).hex()}"
    return path.with_name(f"{path.name}.{unique}{TEMPORARY_SUFFIX}")
