"""The unknowns of B frames, one row a frame."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tracker.rotations import exp_so3
from tracker.state import FrameState, Layout

_ROTATIONS = ("R", "jaw")


@dataclass(frozen=True, eq=False)
class BatchState:
    """Unknowns of B frames, float32 on one device; names and units as in `FrameState`.

    Attributes:
        R: (B, 3, 3).
        t: (B, 3) metres.
        jaw: (B, 3, 3).
        eyes: (B, 2, 2) radians.
        eyelids: (B, 2).
        expression: (B, E).
        light: (B, 9, 3).
    """

    R: Tensor
    t: Tensor
    jaw: Tensor
    eyes: Tensor
    eyelids: Tensor
    expression: Tensor
    light: Tensor

    @classmethod
    def of(cls, states: Sequence[FrameState], device: torch.device | str) -> "BatchState":
        """Stacks the states of single frames."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: torch.stack([getattr(s, name) for s in states]).float().to(device) for name in names})

    def frames(self) -> list[FrameState]:
        """The states one by one, float64 on the CPU; rotations made exactly orthonormal again.

        A rotation that is multiplied in float32 frame after frame would otherwise drift away from one.
        """
        parts = {name: value.cpu().double() for name, value in vars(self).items()}
        for name in _ROTATIONS:
            parts[name] = nearest_rotation(parts[name])
        return [FrameState(**{name: value[b] for name, value in parts.items()}) for b in range(len(self.t))]

    def flat(self) -> Tensor:
        """(B, K) all unknowns of a frame in a row, in the order of the attributes."""
        return torch.cat([value.flatten(1) for value in vars(self).values()], 1)

    def from_flat(self, rows: Tensor) -> "BatchState":
        """A state of the same sizes from the rows (B, K) of `flat`, on their device."""
        parts, at = {}, 0
        for name, value in vars(self).items():
            size = value[0].numel()
            parts[name] = rows[:, at : at + size].reshape(value.shape)
            at += size
        return BatchState(**parts)

    def values(self) -> Tensor:
        """(B, P) the unknowns in `Layout` order; the six of the pose and the three of the jaw are zero."""
        return torch.nn.functional.pad(torch.cat([self.eyes.flatten(1), self.eyelids, self.expression], 1), (9, 0))

    def retract(self, step: Tensor, limits: Tensor) -> "BatchState":
        """The states after a step.

        Args:
            step: (B, P) in `Layout` order; rotations are left increments.
            limits: (P, 2) lowest and highest value; infinite for the pose's.

        Returns:
            New states inside the limits; the light is kept.
        """
        layout = Layout(self.expression.shape[1])
        moved = (self.values() + step).clamp(limits[:, 0], limits[:, 1])
        turns = exp_so3(torch.stack([step[:, layout.rotation], step[:, layout.jaw]]))
        return BatchState(
            R=turns[0] @ self.R,
            t=self.t + step[:, layout.translation],
            jaw=turns[1] @ self.jaw,
            eyes=moved[:, layout.eyes].reshape(-1, 2, 2),
            eyelids=moved[:, layout.eyelids],
            expression=moved[:, layout.expression],
            light=self.light,
        )

    def where(self, mask: Tensor, other: "BatchState") -> "BatchState":
        """This state for the frames of a (B,) mask, the other one for the rest."""
        return BatchState(**{name: pick(mask, value, getattr(other, name)) for name, value in vars(self).items()})


def pick(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Rows (B, ...) of one tensor where a (B,) mask says so, of another elsewhere."""
    return torch.where(mask.reshape(-1, *([1] * (yes.dim() - 1))), yes, no)


def nearest_rotation(R: Tensor) -> Tensor:
    """The rotation nearest to each matrix (..., 3, 3); what is not finite is returned as it is.

    Source: polar decomposition by the singular values, Higham, 1986.
    """
    finite = torch.isfinite(R).all(-1).all(-1)[..., None, None]
    u, _, v = torch.linalg.svd(torch.where(finite, R, torch.eye(3, dtype=R.dtype).expand_as(R)))
    return torch.where(finite, u @ v, R)
