"""The embedded default head (docs/generic_head.md)."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.head.landmark_bias import LandmarkBias

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
    import torch

    from tracker.head.store import load_head

    path = GENERIC_HEAD_PATH if path is None else path
    model = load_head(path)
    bias = load_bias(model, path)
    if bias is None:
        return model
    rows = model.landmarks478.indices
    return replace(
        model,
        landmark_offsets=torch.from_numpy(bias.offset_m)[rows].float(),
        landmark_offset_std=torch.from_numpy(bias.spread_m)[rows].float(),
        landmark_lid_response=torch.from_numpy(bias.lid_response_m)[rows].float(),
    )


def bias_path(head: Path = GENERIC_HEAD_PATH) -> Path:
    """Where the landmark bias of a head model lies: beside it."""
    return head.with_name(f"{head.stem}_landmarks.npz")


def template_digest(model: "HeadModel") -> str:
    """Names a head's geometry: a bias measured on another one does not apply."""
    return hashlib.blake2b(model.template.numpy().tobytes(), digest_size=8).hexdigest()


def load_bias(model: "HeadModel", head: Path = GENERIC_HEAD_PATH) -> LandmarkBias | None:
    """The measured landmark bias of a head model, or None where none was measured on this very geometry.

    Raises:
        InputError: the file is damaged.
    """
    path = bias_path(head)
    if not path.is_file():
        return None
    bias = LandmarkBias.load(path)
    return bias if bias.template_digest == template_digest(model) else None
