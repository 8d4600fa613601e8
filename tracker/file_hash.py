"""Hashes of files: a quick one by which a file is known again, and SHA-256, which others can check."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def content_hash(path: Path) -> str:
    """BLAKE2b of a file's content, 16 bytes in hexadecimal: what manifests, exports and caches hold."""
    return _digest(path, lambda: hashlib.blake2b(digest_size=16))


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    return _digest(path, hashlib.sha256)


def _digest(path: Path, start: Callable[[], Any]) -> str:
    found = start()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return str(found.hexdigest())
