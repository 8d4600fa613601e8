"""Keeps native libraries from writing to the console."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere for the duration of the block.

    mediapipe's graphs report harmless facts there when they start ('Created TensorFlow Lite XNNPACK delegate …',
    'Feedback manager requires …'), before its log level applies. Only start-up is muted; errors come as exceptions.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
