"""The embedded default head (docs/generic_head.md)."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.head.bias_file import bias_path, with_bias

if TYPE_CHECKING:
    # What draws asks for the path alone and does without torch.
    from tracker.head.model import HeadModel

GENERIC_HEAD_PATH = Path(__file__).resolve().parents[2] / "assets" / "generic_head.npz"


def load_generic(path: Path | None = None) -> "HeadModel":
    """Reads the generic head.

    Args:
        path: another file in the same layout; default assets/generic_head.npz of this repository.

    Returns:
        The model, float32 on the CPU, with the landmark bias measured on it where its file lies beside it.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = GENERIC_HEAD_PATH if path is None else path
    return _loaded(path, _stamp(path), _stamp(bias_path(path)))


@lru_cache(maxsize=1)
def _loaded(path: Path, _head: tuple[int, int], _bias: tuple[int, int]) -> "HeadModel":
    """The model of a file, kept as long as neither it nor its bias changes: each stage of a run asks for it."""
    from tracker.head.store import load_head

    return with_bias(load_head(path), bias_path(path))


def _stamp(path: Path) -> tuple[int, int]:
    """Time and size of a file, zeros where there is none."""
    found = path.stat() if path.exists() else None
    return (found.st_mtime_ns, found.st_size) if found else (0, 0)
