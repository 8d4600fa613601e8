"""Keeps native libraries from writing to the console."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Muted:
    """How many threads want silence, and where descriptor 2 led before the first of them."""

    lock = threading.Lock()
    threads = 0
    kept = -1


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere for the duration of the block; several threads may be inside at once.

    mediapipe's graphs report harmless facts there when they start ('Created TensorFlow Lite XNNPACK delegate …',
    'Feedback manager requires …'), before its log level applies. Only start-up is muted; errors come as exceptions.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _Muted.lock:
        if _Muted.threads == 0:
            _Muted.kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _Muted.threads += 1
    try:
        yield
    finally:
        with _Muted.lock:
            _Muted.threads -= 1
            if _Muted.threads == 0:
                os.dup2(_Muted.kept, 2)
                os.close(_Muted.kept)
