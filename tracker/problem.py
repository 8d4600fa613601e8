"""One frame's energy: landmarks, colours, priors and time, under bounds."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.kernels import energy
from tracker.kernels import frame as kernels
from tracker.local_contrast import PLAIN
from tracker.normal_equations import NormalEquations, squared
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.state import FrameState, Layout


@dataclass(frozen=True, eq=False)
class Bounds:
    """Box limits of the bounded unknowns.

    Attributes:
        expression: (E, 2) lower and upper bound.
        eyelids: (2,) lower and upper bound of both lids.
        eyes: (2, 2) largest angle to either side of yaw and pitch: [[-yaw, yaw], [-pitch, pitch]], radians.
    """

    expression: Tensor
    eyelids: Tensor
    eyes: Tensor

    @cached_property
    def limits(self) -> np.ndarray:
        """(P, 2) lowest and highest value of each unknown as the kernels take them; infinite for the pose's."""
        limits = np.tile([-np.inf, np.inf], (15 + len(self.expression), 1))
        limits[Layout.eyes] = self.eyes.repeat(2, 1).numpy()
        limits[Layout.eyelids] = self.eyelids.expand(2, 2).numpy()
        limits[Layout(len(self.expression)).expression] = self.expression.numpy()
        return limits

    def clamp(self, state: FrameState) -> FrameState:
        """The nearest state inside the box."""
        return replace(
            state,
            expression=torch.maximum(torch.minimum(state.expression, self.expression[:, 1]), self.expression[:, 0]),
            eyelids=state.eyelids.clamp(float(self.eyelids[0]), float(self.eyelids[1])),
            eyes=torch.maximum(torch.minimum(state.eyes, self.eyes[:, 1]), self.eyes[:, 0]),
        )

    def room(self, state: FrameState) -> tuple[Tensor, Tensor]:
        """Smallest and largest step (P,) of each unknown that stays inside the box."""
        layout = Layout(len(state.expression))
        lowest = torch.full((layout.size,), -torch.inf, dtype=torch.float64)
        highest = -lowest
        eyes = self.eyes.repeat(2, 1)
        for block, value, limits in (
            (Layout.eyes, state.eyes.reshape(-1), eyes),
            (Layout.eyelids, state.eyelids, self.eyelids.expand(2, 2)),
            (layout.expression, state.expression, self.expression),
        ):
            lowest[block] = (limits[:, 0] - value).clamp_max(0)
            highest[block] = (limits[:, 1] - value).clamp_min(0)
        return lowest, highest

    def room_arrays(self, state: FrameState) -> tuple[np.ndarray, np.ndarray]:
        """`room` on the CPU."""
        nothing = np.zeros(len(self.limits))
        _, lowest, highest = kernels.box(state.arrays, self.limits, np.zeros(len(nothing), bool), nothing)
        return lowest, highest

    def retract(self, state: FrameState, step: np.ndarray) -> FrameState:
        """The state after a step (P,), clamped, on the CPU."""
        return state.with_arrays(kernels.retract(state.arrays, step, self.limits))

    def active(self, state: FrameState, gradient: Tensor) -> Tensor:
        """Unknowns (P,) at a bound that descent would push further out (projected Gauss-Newton).

        Source: Bertsekas, Projected Newton Methods for Optimization Problems with Simple Constraints, 1982.
        """
        frozen = torch.zeros(len(gradient), dtype=torch.bool)
        eyes = self.eyes.repeat(2, 1)
        for block, value, limits in (
            (Layout.eyes, state.eyes.reshape(-1), eyes),
            (Layout.eyelids, state.eyelids, self.eyelids.expand(2, 2)),
            (Layout(len(state.expression)).expression, state.expression, self.expression),
        ):
            at_lower = (value <= limits[:, 0]) & (gradient[block] > 0)
            at_upper = (value >= limits[:, 1]) & (gradient[block] < 0)
            frozen[block] = at_lower | at_upper
        return frozen


@dataclass(frozen=True, eq=False)
class FrameProblem:
    """The energy of one frame, for `tracker.solver.minimise`.

    Attributes:
        intrinsics: of the crop, pixels.
        landmarks: landmark terms (478 points, 68 points), possibly empty.
        photometric: colour term of one pyramid level, or None.
        gaussians: priors and temporal terms.
        gaze: symmetry of gaze.
        bounds: box limits.
        scale: (P,) standard deviations by which steps are measured.
        held: (P,) unknowns that are not solved for.
    """

    intrinsics: Intrinsics
    landmarks: tuple[LandmarkTerm, ...]
    photometric: PhotometricTerm | None
    gaussians: tuple[GaussianTerm, ...]
    gaze: GazeSymmetryTerm
    bounds: Bounds
    scale: Tensor
    held: Tensor

    def linearise(self, state: FrameState) -> NormalEquations:
        """Normal equations of all terms."""
        terms = self._arrays
        return self.linearise_by_term(state) if terms is None else self._linearise_at_once(state, terms)

    def linearise_by_term(self, state: FrameState) -> NormalEquations:
        """`linearise` for any terms, on any device."""
        equations = NormalEquations.zero(self.scale)
        for landmarks in self.landmarks:
            landmarks.add_to(equations, state, self.intrinsics)
        if self.photometric is not None:
            self.photometric.add_to(equations, state, self.intrinsics)
        for gaussian in self.gaussians:
            gaussian.add_to(equations, state)
        self.gaze.add_to(equations, state)
        allowed = kernels.box(state.arrays, self.bounds.limits, self.held.numpy(), equations.g.numpy())
        equations.frozen, equations.lowest, equations.highest = (torch.from_numpy(part) for part in allowed)
        return equations

    def cost(self, state: FrameState) -> float:
        """Robust cost of all terms."""
        terms = self._arrays
        if terms is None:
            return self.cost_by_term(state)
        return energy.cost(state.arrays, terms.marks, terms.samples, terms.gaussians, terms.gaze)

    def cost_by_term(self, state: FrameState) -> float:
        """`cost` for any terms, on any device."""
        cost = sum(term.cost(state, self.intrinsics) for term in self.landmarks)
        if self.photometric is not None:
            cost += self.photometric.cost(state, self.intrinsics)
        return cost + sum(term.cost(state) for term in self.gaussians) + self.gaze.cost(state)

    def retract(self, state: FrameState, step: Tensor) -> FrameState:
        """The state after a step, clamped to the bounds."""
        return self.bounds.retract(state, step.numpy())

    def _linearise_at_once(self, state: FrameState, terms: "_Arrays") -> NormalEquations:
        size = len(self.scale)
        H, g, rows = np.zeros((size, size)), np.zeros(size), terms.rows
        parts = terms.marks, terms.samples, terms.gaussians, terms.gaze
        held = self.held.numpy()
        cost, *allowed = energy.linearise(state.arrays, *parts, self.bounds.limits, held, rows, H, g)
        frozen, lowest, highest = map(torch.from_numpy, allowed)
        H_all = torch.from_numpy(H) + squared(torch.from_numpy(rows.reshape(-1, size)))
        return NormalEquations(H_all, torch.from_numpy(g), cost, self.scale, frozen, lowest, highest)

    @cached_property
    def _arrays(self) -> "_Arrays | None":
        """The terms as the kernels take them; None where they do not."""
        terms: list[LandmarkTerm | PhotometricTerm] = [*self.landmarks]
        if self.photometric is not None:
            terms.append(self.photometric)
        one_dtype = len({term.points.rest.dtype for term in terms}) == 1
        few = len(self.landmarks) <= 1 and 1 <= len(self.gaussians) <= 2
        return _Arrays.of(self) if one_dtype and few and all(term.compiled for term in terms) else None


@dataclass(frozen=True, eq=False)
class _Arrays:
    """A frame's terms as `tracker.kernels.energy` takes them.

    Attributes:
        marks: landmarks, possibly none.
        samples: photometric samples, possibly none.
        gaussians: two normal distributions.
        gaze: standard deviations between the eyes.
        rows: room for the rows of all terms, written anew at each linearisation.
    """

    marks: energy.LandmarkArrays
    samples: energy.SampleArrays
    gaussians: energy.GaussianArrays
    gaze: tuple[float, float]
    rows: np.ndarray

    @classmethod
    def of(cls, problem: FrameProblem) -> "_Arrays":
        """Those of a problem with landmarks or samples and one or two normal distributions."""
        marks = problem.landmarks[0].arrays(problem.intrinsics) if problem.landmarks else None
        samples = None if problem.photometric is None else problem.photometric.arrays(problem.intrinsics)
        surface, joints, camera, *_ = marks or samples or ()
        none = tuple(part[:0] for part in surface), joints, camera
        dtype = surface[0].dtype
        marks, samples = marks or (*none, *_no_landmarks()), samples or (*none, *_no_samples(dtype))
        gaussians = [(term.target.arrays, np.ascontiguousarray(term.inverse_std.numpy())) for term in problem.gaussians]
        if len(gaussians) == 1:
            # Compiled for two: the second says nothing.
            gaussians.append((gaussians[0][0], np.zeros_like(gaussians[0][1])))
        count = len(marks[3]) + len(marks[5]) + len(samples[6])
        rows = np.empty((count, 2, len(problem.scale)), dtype)
        return cls(marks, samples, tuple(gaussians), (problem.gaze.yaw_std, problem.gaze.pitch_std), rows)


@cache
def _no_landmarks() -> tuple[Any, ...]:
    """What comes after the points of a landmark term that is missing."""
    return np.empty((0, 2)), np.empty(0), np.empty((0, 2), np.int64), np.empty(0), (1.0, 1.0)


@cache
def _no_samples(dtype: np.dtype) -> tuple[Any, ...]:
    """What comes after the points of a photometric term that is missing."""
    level, axes = np.empty((2, 2, 3), dtype), np.empty((0, 2, 2), dtype)
    return level, axes, PLAIN, np.empty((0, 3), dtype), np.empty(0, dtype), 1.0
