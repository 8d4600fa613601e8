"""Where what is made from a head model's files, once, is kept: converted models, measured landmark biases."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

CACHE_VARIABLE = "HEAD_TRACKER_CACHE"


def cache_folder() -> Path:
    """$HEAD_TRACKER_CACHE, else head-tracker in the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "head-tracker"


def files_digest(version: int, files: Iterable[Path]) -> str:
    """Names what is made from files: another one when the size or date of one changes.

    Args:
        version: of the program that makes it.
        files: the sources, all there.
    """
    digest = hashlib.blake2b(str(version).encode(), digest_size=8)
    for file in files:
        about = file.stat()
        digest.update(f"{file.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()
