"""Hashes of files: a quick one by which a file is known again, and SHA-256, which others can check."""

import hashlib
from pathlib import Path


def content_hash(path: Path) -> str:
    """BLAKE2b of a file's content, 16 bytes in hexadecimal: what manifests, exports and caches hold."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
