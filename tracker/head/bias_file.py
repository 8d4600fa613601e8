"""The file of a head model's measured landmark bias, and what it changes in the model."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.head.landmark_bias import LandmarkBias

if TYPE_CHECKING:
    from torch import Tensor

    # What draws asks for paths alone and does without torch.
    from tracker.head.model import HeadModel, LandmarkIdentity


def bias_path(head: Path) -> Path:
    """Where the landmark bias of a head model in this project's layout lies: beside it."""
    return head.with_name(f"{head.stem}_landmarks.npz")


def template_digest(model: "HeadModel") -> str:
    """Names a head's geometry: a bias measured on another one does not apply."""
    return _digest(model.template)


def shape_digest(model: "HeadModel") -> str:
    """Names a head's identity modes: a response to others does not apply."""
    return _digest(model.shape_basis)


def _digest(values: "Tensor") -> str:
    return hashlib.blake2b(values.contiguous().numpy().tobytes(), digest_size=8).hexdigest()


def load_bias(model: "HeadModel", path: Path) -> LandmarkBias | None:
    """The landmark bias of a file, or None where there is none, or it was not measured on this very geometry.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return None
    bias = LandmarkBias.load(path)
    return bias if bias.template_digest == template_digest(model) else None


def with_bias(model: "HeadModel", path: Path) -> "HeadModel":
    """The model with the landmark bias of a file; as it is where `load_bias` finds none.

    Raises:
        InputError: the file is damaged.
    """
    import torch

    bias = load_bias(model, path)
    if bias is None:
        return model
    rows = model.landmarks478.indices
    return replace(
        model,
        landmark_offsets=torch.from_numpy(bias.offset_m)[rows].float(),
        landmark_offset_std=torch.from_numpy(bias.spread_m)[rows].float(),
        landmark_lid_response=torch.from_numpy(bias.lid_response_m)[rows].float(),
        landmark_identity=_identity(bias, model),
    )


def _identity(bias: LandmarkBias, model: "HeadModel") -> "LandmarkIdentity | None":
    """Its part about identities, where it was measured on these very modes."""
    import torch

    from tracker.head.model import LandmarkIdentity

    parts = (bias.identity_response_m, bias.together_m, bias.alone_m)
    if any(part is None for part in parts) or bias.shape_digest != shape_digest(model):
        return None
    rows = model.landmarks478.indices
    return LandmarkIdentity(*(torch.from_numpy(part)[rows] for part in parts))
