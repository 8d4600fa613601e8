"""Freed memory stays with the process where glibc is asked to keep it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tracker import allocator

_FAULTS = """
import resource, sys
import numpy as np
from tracker.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def fill():
    return [np.full(3_000_000, 1, np.uint8) for _ in range(4)]
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(way: str) -> int:
    """Page faults of twenty times four pictures made and freed in a process of its own."""
    command = [sys.executable, "-c", _FAULTS, way]
    root = Path(__file__).parents[1]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_pictures_reuse_the_memory_of_the_ones_before() -> None:
    # 0 and 58,000 measured.
    assert page_faults("keep") < page_faults("not") / 10


@pytest.mark.parametrize("name", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(allocator.sys, "platform", name)
    assert not allocator.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _name: object())
    assert not allocator.keep_freed_memory()
