"""The embedded default head (docs/generic_head.md)."""

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
    from tracker.head.store import load_head

    path = GENERIC_HEAD_PATH if path is None else path
    return with_bias(load_head(path), bias_path(path))
