"""Starts the process of `stages.solver_process`, also before this one has loaded its own libraries.

Nothing but the standard library is imported here, so that a run can start it first of all: a third of a second in
which one core would have nothing to do.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# Not `-m`: as `__main__` that module's classes would be others than those that the pickles name. Looking for garbage
# among what libraries load costs a tenth of the time that loading takes; `main` begins to when they are there. An
# interrupt from the keyboard, which both processes get, ends this one without a word: the other one says it.
_CODE = (
    "import gc, signal; gc.disable(); signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "from stages import solver_process; solver_process.main()"
)
# Command lines with one of these may well do without.
_PARTIAL = ("--stages", "--from", "--until", "--dry-run", "--help", "-h")

_early: list[subprocess.Popen[bytes]] = []


def start_early(arguments: Sequence[str]) -> None:
    """Starts the process that the first `start` will give, if the command line asks for a whole run."""
    given = {argument.split("=")[0] for argument in arguments}
    if "--cfg" in given and not given.intersection(_PARTIAL):
        _early.append(_start())


def start() -> subprocess.Popen[bytes]:
    """The process, with pipes as its standard input and output."""
    return _early.pop() if _early else _start()


def end_unused() -> None:
    """Ends what was started early, if nobody has asked for it."""
    while _early:
        with _early.pop() as process:
            process.kill()


def _start() -> subprocess.Popen[bytes]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
