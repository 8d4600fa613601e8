"""Work that must not hold up other work."""

import os
import sys
import threading
from contextlib import suppress

# A tenth of the weight that the scheduler gives to other threads.
_NICENESS = 10


def stand_back() -> None:
    """Lowers the calling thread's priority for good, and that of the threads and processes that it starts.

    A thread that has to wait for a core beside several short-lived ones waits longer than its share. On Linux only:
    elsewhere priorities belong to processes.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
