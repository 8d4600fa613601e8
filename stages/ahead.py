"""Work on threads, results in order, and only a few items under way: memory does not grow with the clip."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def in_order(work: Callable[[In], Out], items: Iterable[In], threads: int, under_way: int) -> Iterator[Out]:
    """Applies `work` to items on threads while the caller uses earlier results.

    Args:
        work: a function that mostly runs outside the interpreter's lock (decoding, numba, files).
        items: taken one at a time, on the caller's thread.
        threads: how many work at once.
        under_way: how many items may be taken before their results are asked for, at least 1.

    Yields:
        The results in the order of the items; what `work` or `items` raises comes at its place.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= under_way:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Left early (an error, Ctrl-C): what has not begun must not begin.
            for future in waiting:
                future.cancel()
