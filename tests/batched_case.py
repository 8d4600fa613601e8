"""What the tests of the batched solve share: devices, and a calibrated rendered clip on them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from rendered_clip import RenderedClip

from tracker.batched.minimise import BatchProblem
from tracker.batched.pictures import pyramids
from tracker.batched.solver import BatchSolver, Link
from tracker.batched.state import BatchState
from tracker.clip import FrameInput
from tracker.frame_solver import FrameSolver
from tracker.image import pyramid
from tracker.pose import initial_pose
from tracker.problem import FrameProblem
from tracker.state import FrameState, neutral_state
from tracker.surface import surface_view
from tracker.track import TrackedFrame, temporal_term

_NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine")
DEVICES = ["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, _NO_CUDA))]
NUMBERS = (30, 31, 60)
BLACK = FrameInput(np.zeros((256, 256, 3), np.uint8), None, None)


@dataclass(frozen=True, eq=False)
class Case:
    """A rendered clip, its solver of single frames, and the batched one on a device."""

    clip: RenderedClip
    single: FrameSolver
    batch: BatchSolver

    @classmethod
    def of(cls, calibrated: Any, device: str) -> "Case":
        """Of the session's calibrated clip."""
        clip, task, _, calibration = calibrated
        single = FrameSolver(calibration.clip, task.energy, task.tracking, task.held)
        return cls(clip, single, BatchSolver(single, device))

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


def problems(case: Case, index: int) -> tuple[list[FrameProblem], BatchProblem, list[FrameState]]:
    """Frame problems and the batched one of the same frames, states and visible samples; the first is not linked."""
    frames = [case.clip.frame(number) for number in NUMBERS]
    states = [case.clip.state(number) for number in NUMBERS]
    predicted = [None, case.clip.state(NUMBERS[1] - 1), case.clip.state(NUMBERS[2] - 1)]
    links = [None if then is None else Link(then) for then in predicted]
    batch, start = case.batch.problem(frames, states, links), BatchState.of(states, case.batch.device)
    levels = pyramids([frame.image for frame in frames], 2, case.batch.device)
    seen = case.batch.visible(start, start)
    batch = replace(batch, contrast=case.batch.thinned_term(levels[index], index, start, seen))
    singles = []
    for frame, state, then in zip(frames, states, predicted, strict=True):
        temporal = None if then is None else temporal_term(case.single, then)
        visible = case.single.visible(state)
        assert visible is not None
        term = case.single.thinned_term(pyramid(frame.image, 2)[index], index, state, visible)
        view = surface_view(case.single.clip.model, case.single.clip.shape, state)
        singles.append(replace(case.single._problem(frame, state, temporal, view), photometric=term))
    return singles, batch, states


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
