"""Loads the solver's libraries and kernels on a thread while the first stages wait for decoder and detector."""

import threading

from tracker import warm_up


class WarmUp:
    """The thread. Use as a context manager: leaving it waits for the part that is being loaded, and no more."""

    def __init__(self) -> None:
        """Not started yet."""
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warm-up")

    def __enter__(self) -> "WarmUp":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        for _ in warm_up.steps():
            if self._left.is_set():
                return
