"""Hashes of files keep their values: manifests and exports of earlier runs hold them."""

from pathlib import Path

import pytest

from tracker import file_hash


@pytest.mark.parametrize(
    ("content", "quick", "secure"),
    [
        # BLAKE2b-128 and SHA-256 of "abc", by coreutils' b2sum -l 128 and sha256sum.
        (
            b"abc",
            "cf4ab791c62b8d2b2109c90275287816",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        # Longer than what is read at once.
        (
            b"a" * (2 << 20) + b"b",
            "ae5916d79fd618da18666479962adaf5",
            "7603e6773fe035271eca09d39e22d0220145b9eaeba5ab227adca76bb2a6566c",
        ),
    ],
)
def test_values_are_those_of_the_standard_tools(tmp_path: Path, content: bytes, quick: str, secure: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert (file_hash.content_hash(path), file_hash.sha256(path)) == (quick, secure)
