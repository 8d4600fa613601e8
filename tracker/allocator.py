"""How the C library's allocator treats large arrays."""

import ctypes
import sys

# From malloc.h: the free memory at the end of a heap that is given back, the size from which an array has pages of its
# own. The second is at its largest value.
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 64 << 20
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 32 << 20


def keep_freed_memory() -> bool:
    """Lets glibc keep the memory of freed pictures for the next ones, for this process, from now on.

    By default an array of a few megabytes gets fresh pages whenever it is made and gives them back when it goes. The
    kernel zeroes each page anew, and it is cold in the cache: a sixth of what drawing a review frame took.

    Returns:
        Whether the C library took it; other libraries than glibc do not, and nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Setting either ends glibc's own adjustment of both.
    taken = [mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES), mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)]
    return all(taken)
