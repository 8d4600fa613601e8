"""What the tests of the batched solve share: devices, and a calibrated rendered clip on them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from rendered_clip import RenderedClip

from tracker.batched.solver import BatchSolver
from tracker.clip import FrameInput
from tracker.frame_solver import FrameSolver
from tracker.pose import initial_pose
from tracker.state import FrameState, neutral_state
from tracker.track import TrackedFrame

_NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine")
DEVICES = ["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, _NO_CUDA))]
BLACK = FrameInput(np.zeros((256, 256, 3), np.uint8), None, None)


@dataclass(frozen=True, eq=False)
class Case:
    """A rendered clip, its solver of single frames, and the batched one on a device."""

    clip: RenderedClip
    single: FrameSolver
    batch: BatchSolver

    def starts(self, frames: Sequence[FrameInput]) -> list[FrameState]:
        """Poses from the landmarks alone, everything else at rest."""
        return [replace(self.rest(), R=R, t=t) for R, t in (self._pose(frame) for frame in frames)]

    def rest(self) -> FrameState:
        """The head at rest in the clip's light."""
        return replace(neutral_state(self.clip.model), light=self.single.clip.light)

    def _pose(self, frame: FrameInput) -> tuple[torch.Tensor, torch.Tensor]:
        calibrated = self.single.clip
        assert frame.dense_px is not None
        targets = calibrated.landmarks.targets(frame.dense_px, None).numpy()
        R, t = initial_pose(calibrated.landmark_points.rest.numpy(), targets, calibrated.intrinsics)
        return torch.from_numpy(R), torch.from_numpy(t)


def converted(value: Any, change: Any) -> Any:
    """A dataclass of tensors, nested, with `change` applied to each tensor; other values stay."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(converted(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: converted(getattr(value, field.name), change) for field in fields(value)})
    return value


def in_float64(value: Any) -> Any:
    """The same with every float tensor in float64."""
    return converted(value, lambda x: x.double() if x.is_floating_point() else x)


def landmarks_apart_px(ours: TrackedFrame, theirs: TrackedFrame) -> float:
    """Median distance of two frames' fitted landmarks."""
    return float(np.nanmedian(np.linalg.norm(ours.landmarks478 - theirs.landmarks478, axis=1)))
