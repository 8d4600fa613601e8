"""Work on several frames at once, on threads: kernels and matrix products run outside the interpreter's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

# Beyond that many the interpreter's lock is what they wait for.
_MOST = 4


def on_threads(work: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Results of `work` in the order of the items; it must not change what other items read."""
    count = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))
