"""Freed memory stays with the process where glibc is asked to keep it."""

import platform
import subprocess
import sys
from collections.abc import Callable
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
    return _told(_FAULTS, way)


def _told(code: str, way: str) -> int:
    """The number that a process prints."""
    command = [sys.executable, "-c", code, way]
    root = Path(__file__).parents[1]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_pictures_reuse_the_memory_of_the_ones_before() -> None:
    # 0 and 58,000 measured.
    assert page_faults("keep") < page_faults("not") / 10


_THREADS = """
import re, sys, threading
import numpy as np
from tracker.allocator import share_one_heap
if sys.argv[1] == "share":
    assert share_one_heap()
go_on = threading.Event()
def take():
    kept = bytearray(50_000), np.ones(5000)
    go_on.wait()
threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads:
    thread.start()
# A thread's heap reserves 64 MB of addresses.
reserved = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
go_on.set()
print(reserved)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_threads_share_a_heap() -> None:
    shared, apart = (_told(_THREADS, way) for way in ("share", "leave"))
    # Six threads with heaps of their own reserve 384 MiB more.
    assert shared < apart - 100_000


_GAPS = """
import os, sys
import numpy as np
from tracker.allocator import give_freed_memory_back, share_one_heap
share_one_heap()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
pieces = [np.ones(2000) for _ in range(20_000)]
del pieces[:-1]
if sys.argv[1] == "give":
    assert give_freed_memory_back()
print(resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_what_is_free_before_a_piece_in_use_is_given_back() -> None:
    given, kept = (_told(_GAPS, way) for way in ("give", "keep"))
    # 320 MB in KiB.
    assert given < kept - 250_000


_WAYS = [allocator.keep_freed_memory, allocator.share_one_heap, allocator.give_freed_memory_back]


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("name", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str, way: Callable[[], bool]) -> None:
    monkeypatch.setattr(allocator.sys, "platform", name)
    assert not way()


@pytest.mark.parametrize("way", _WAYS)
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, way: Callable[[], bool]) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _name: object())
    assert not way()
