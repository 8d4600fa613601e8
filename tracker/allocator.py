"""How the C library's allocator treats large arrays."""

import ctypes
import sys
from collections.abc import Callable

# From malloc.h: the free memory at the end of a heap that is given back, the size from which an array has pages of its
# own, the number of heaps. The second is at its largest value.
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 64 << 20
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 32 << 20
_M_ARENA_MAX = -8


def share_one_heap() -> bool:
    """Lets all threads of this process, from now on, take their memory from one heap.

    By default each has a heap of its own under glibc, and what one has freed is of no use to the others: a quarter of a
    gigabyte in the calibration. Call it before threads are started.

    Returns:
        Whether the C library took it; other libraries than glibc do not, and nothing is changed.
    """
    return _set(_M_ARENA_MAX, 1)


def keep_freed_memory() -> bool:
    """Lets glibc keep the memory of freed pictures for the next ones, for this process, from now on.

    By default an array of a few megabytes gets fresh pages whenever it is made and gives them back when it goes. The
    kernel zeroes each page anew, and it is cold in the cache: a sixth of what drawing a review frame took.

    Returns:
        As `share_one_heap`.
    """
    # Setting either ends glibc's own adjustment of both.
    return _set(_M_MMAP_THRESHOLD, _MMAP_BYTES) and _set(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def give_freed_memory_back() -> bool:
    """Gives the system what is free between pieces in use; the allocator by itself only does so at the heap's end.

    Returns:
        Whether the C library gave anything back; others than glibc are not asked.
    """
    trim = _function("malloc_trim")
    return trim is not None and bool(trim(0))


def _set(option: int, value: int) -> bool:
    mallopt = _function("mallopt")
    return mallopt is not None and bool(mallopt(option, value))


def _function(name: str) -> Callable[..., int] | None:
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
