"""Reads numpy's npz archives, and knows what reading a damaged one raises."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from tracker.errors import InputError

Out = TypeVar("Out")

# What reading damaged bytes raises in zipfile's, zlib's and numpy's code (found by changing bytes at random).
DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def one_line(error: Exception) -> str:
    """What an exception says, without line feeds; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz, without pickled objects.

    Raises:
        FileNotFoundError: there is none.
        Exception: it is damaged: one of `DAMAGE`.
    """
    with path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise ValueError("it is a single array, not an npz")
        with content as archive:
            return {key: archive[key] for key in archive.files}


def read_as(path: Path, make: Callable[[dict[str, np.ndarray]], Out], missing: str, damaged: str, remedy: str) -> Out:
    """What a function makes of an npz's arrays.

    Args:
        path: the file.
        make: what it raises, too, counts as damage.
        missing: what is said of a file that is not there, its remedy included.
        damaged: what is said of one that is damaged.
        remedy: what to do about that.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return make(arrays_of(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: {missing}") from error
    except DAMAGE as error:
        raise InputError(f"{path}: {damaged} ({one_line(error)}); {remedy}") from error


def read_npz(path: Path, remedy: str = "get it from its publisher again") -> dict[str, np.ndarray]:
    """All arrays of an npz, without pickled objects.

    Args:
        path: the file.
        remedy: what to do about a damaged one.

    Raises:
        InputError: it is missing or damaged.
    """
    return read_as(path, dict, f"not there; {remedy}", "damaged", remedy)
