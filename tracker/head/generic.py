"""The embedded default head (docs/generic_head.md)."""

from pathlib import Path

from tracker.head.model import HeadModel
from tracker.head.store import load_head

GENERIC_HEAD_PATH = Path(__file__).resolve().parents[2] / "assets" / "generic_head.npz"


def load_generic(path: Path | None = None) -> HeadModel:
    """Reads the generic head.

    Args:
        path: another file in the same layout; default assets/generic_head.npz of this repository.

    Returns:
        The model, float32 on the CPU.

    Raises:
        InputError: the file is missing or damaged.
    """
    return load_head(GENERIC_HEAD_PATH if path is None else path)
