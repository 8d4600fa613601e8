"""Imports mediapipe without what its graphs do not need: matplotlib and the tasks take three quarters of the time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# mediapipe's drawing helpers import pyplot at once, for plots that nobody here asks for; its package imports the tasks.
_UNUSED = ("matplotlib", "matplotlib.pyplot", "mediapipe.tasks", "mediapipe.tasks.python")


@contextmanager
def lean_mediapipe() -> Iterator[None]:
    """Within the block, what is imported for mediapipe does without `_UNUSED`; afterwards they can be imported."""
    missing = [name for name in _UNUSED if name not in sys.modules] if "mediapipe" not in sys.modules else []
    if "matplotlib" not in missing:
        missing = [name for name in missing if not name.startswith("matplotlib")]
    stand_ins = {name: ModuleType(name) for name in missing}
    for name, module in stand_ins.items():
        module.__path__ = []  # a package
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
