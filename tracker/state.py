"""The unknowns of one frame and their order in the solver's step vector."""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tracker.head.model import HeadModel, HeadParams
from tracker.rotations import exp_so3


@dataclass(frozen=True)
class Layout:
    """Where each unknown lies in a frame's step vector of length `size`.

    Attributes:
        expression_count: number of expression coefficients E.
    """

    expression_count: int

    rotation = slice(0, 3)
    translation = slice(3, 6)
    jaw = slice(6, 9)
    eyes = slice(9, 13)
    eyelids = slice(13, 15)

    @property
    def expression(self) -> slice:
        """Slice of the expression coefficients."""
        return slice(15, self.size)

    @property
    def size(self) -> int:
        """Length P of the step vector."""
        return 15 + self.expression_count

    @property
    def inner(self) -> slice:
        """The unknowns that act in head space: jaw, eyes, eyelids, expression."""
        return slice(6, self.size)


@dataclass(frozen=True, eq=False)
class FrameState:
    """Unknowns of one frame, float64.

    Attributes:
        R: (3, 3) head to camera rotation.
        t: (3,) metres, camera frame.
        jaw: (3, 3) rotation about the jaw joint.
        eyes: (2, 2) yaw and pitch of the left and right eyeball, radians; rotation `R_y(yaw) R_x(pitch)`.
        eyelids: (2,) closure of the left and right lids.
        expression: (E,) in the model's units.
        light: (9, 3) spherical-harmonics coefficients in camera axes.
    """

    R: Tensor
    t: Tensor
    jaw: Tensor
    eyes: Tensor
    eyelids: Tensor
    expression: Tensor
    light: Tensor

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """R, t, jaw, eyes, eyelids, expression as `tracker.kernels` take them; on the CPU they share memory."""
        whole = np.ascontiguousarray
        pose = whole(self.R.numpy()), whole(self.t.numpy()), whole(self.jaw.numpy())
        return (*pose, whole(self.eyes.numpy()), whole(self.eyelids.numpy()), whole(self.expression.numpy()))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Each unknown by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_arrays(self, arrays: tuple[np.ndarray, ...]) -> "FrameState":
        """The state with other `arrays`, the light kept."""
        R, t, jaw, eyes, eyelids, expression = (torch.from_numpy(part) for part in arrays)
        return FrameState(R, t, jaw, eyes, eyelids, expression, self.light)

    def retract(self, step: Tensor) -> "FrameState":
        """The state after a step.

        Args:
            step: (P,) in `Layout` order; rotations are left increments.

        Returns:
            A new state; the light is not part of the step.
        """
        layout = Layout(len(self.expression))
        return replace(
            self,
            R=exp_so3(step[layout.rotation]) @ self.R,
            t=self.t + step[layout.translation],
            jaw=exp_so3(step[layout.jaw]) @ self.jaw,
            eyes=self.eyes + step[layout.eyes].reshape(2, 2),
            eyelids=self.eyelids + step[layout.eyelids],
            expression=self.expression + step[layout.expression],
        )

    def head_params(self, shape: Tensor) -> HeadParams:
        """Parameters for `HeadModel.vertices`."""
        return HeadParams(shape, self.expression, self.jaw, eye_rotations(self.eyes), self.eyelids)

    def is_finite(self) -> bool:
        """Whether every unknown is a finite number."""
        return all(bool(torch.isfinite(value).all()) for value in self.tensors.values())


def spreads(
    prior: Tensor,
    *,
    rotation: float,
    translation_mm: float,
    jaw: float,
    gaze: float,
    eyelids: float,
    expression: float,
) -> Tensor:
    """Standard deviations (P,) of changes of a frame's unknowns, one for each kind of them.

    Args:
        prior: (P,) prior standard deviations.
        rotation: of the head, radians.
        translation_mm: of the head, millimetres.
        jaw: radians.
        gaze: radians.
        eyelids: in units of closure.
        expression: in units of the prior's.
    """
    stds = prior.clone()
    stds[Layout.rotation], stds[Layout.translation] = rotation, translation_mm / 1000
    stds[Layout.jaw], stds[Layout.eyes], stds[Layout.eyelids] = jaw, gaze, eyelids
    stds[Layout(len(prior) - 15).expression] *= expression
    return stds


def neutral_state(model: HeadModel) -> FrameState:
    """The head at rest, frontal, half a metre before the camera, under ambient light of one."""
    double = torch.float64
    light = torch.zeros(9, 3, dtype=double)
    light[0] = 1 / 0.282094806432724
    return FrameState(
        R=torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=double)),
        t=torch.tensor([0.0, 0.0, 0.5], dtype=double),
        jaw=torch.eye(3, dtype=double),
        eyes=torch.zeros(2, 2, dtype=double),
        eyelids=torch.zeros(2, dtype=double),
        expression=torch.zeros(model.expression_count, dtype=double),
        light=light,
    )


def eye_rotations(angles: Tensor) -> Tensor:
    """Eyeball rotations of (..., 2) yaw and pitch in radians: (..., 3, 3), `R_y(yaw) R_x(pitch)`."""
    zero = torch.zeros_like(angles[..., 0])
    yaw = exp_so3(torch.stack([zero, angles[..., 0], zero], -1))
    pitch = exp_so3(torch.stack([angles[..., 1], zero, zero], -1))
    return yaw @ pitch


def eye_axes(angles: Tensor) -> Tensor:
    """Left-increment axes of yaw and pitch.

    Args:
        angles: (2, 2) yaw and pitch of both eyes.

    Returns:
        (2, 2, 3): for each eye the axis of d/dyaw and of d/dpitch, so that dG = axis x G.
    """
    yaw = angles[:, 0]
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    up = torch.stack([zero, one, zero], -1)
    side = torch.stack([torch.cos(yaw), zero, -torch.sin(yaw)], -1)
    return torch.stack([up, side], 1)


def eye_angles(rotations: Tensor) -> Tensor:
    """Yaw and pitch of rotations without roll: inverse of `eye_rotations`, (..., 3, 3) to (..., 2)."""
    yaw = torch.atan2(-rotations[..., 2, 0], rotations[..., 0, 0])
    pitch = torch.atan2(-rotations[..., 1, 2], rotations[..., 1, 1])
    return torch.stack([yaw, pitch], -1)
