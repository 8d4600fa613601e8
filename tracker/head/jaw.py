"""Opening the mouth of any head model: by its jaw joint, or by the expression jawOpen where the joint moves nothing."""

import torch
from torch import Tensor

from tracker.head.ict_rig import rigid_hinge
from tracker.head.model import JAW, HeadModel
from tracker.rotations import exp_so3

_OPENING = "jawOpen"


def turns_jaw(model: HeadModel) -> bool:
    """Whether the model's jaw joint moves any vertex."""
    return bool(model.skin_weights[:, JAW].any())


def opened(model: HeadModel, radians: float) -> tuple[Tensor, Tensor]:
    """Expression and jaw of a mouth that the jaw opens, else at rest.

    Args:
        model: the head.
        radians: the jaw's turn about x.

    Returns:
        (E,) expression and (3, 3) rotation, float32. A model without a jaw joint takes the share of jawOpen that turns
        its lower teeth so far; one that has neither stays shut.
    """
    neutral = model.neutral()
    if turns_jaw(model):
        return neutral.expression, exp_so3(torch.tensor([radians, 0.0, 0.0]))
    full = opening_radians(model)
    if full is not None:
        neutral.expression[model.expression_names.index(_OPENING)] = min(radians / full, 1.0)
    return neutral.expression, neutral.jaw


def opening_radians(model: HeadModel) -> float | None:
    """Angle by which jawOpen at full strength turns the lower teeth; None where the model has no such parts."""
    if _OPENING not in model.expression_names or "lower_teeth" not in model.regions:
        return None
    teeth = model.regions["lower_teeth"]
    before = model.template[teeth].double().numpy()
    moved = model.expression_basis[teeth][..., model.expression_names.index(_OPENING)].double().numpy()
    hinge = rigid_hinge(before, before + moved)
    return None if hinge is None else hinge[1]
