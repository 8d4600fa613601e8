"""A thread that stands back takes its own threads and processes with it, and nothing else."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stages.background import stand_back


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have priorities of their own on Linux only")
def test_priority_is_the_threads_own() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def inside() -> tuple[int, int, int]:
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        with ThreadPoolExecutor(1) as pool:
            further = pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
        told = subprocess.run([sys.executable, "-c", "import os; print(os.nice(0))"], capture_output=True, check=True)
        return own, further, int(told.stdout)

    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        own, further, child = pool.submit(inside).result()
    assert own == further == child > before
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.background.sys.platform", "darwin")
    changed: list[tuple[int, ...]] = []
    monkeypatch.setattr("stages.background.os.setpriority", lambda *given: changed.append(given))
    stand_back()
    assert changed == []
