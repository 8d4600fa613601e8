"""The solve of one frame: landmarks first, then landmarks and local contrast from the coarsest to the finest level.

Geometry follows the picture's local contrast, which no slow change of light touches; the frame's light is fitted to its
colours once the geometry is known.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tracker.clip import (
    ClipModel,
    FrameInput,
    change_stds,
    frame_bounds,
    frame_prior,
    landmark_facing,
    landmark_term,
    prior_stds,
    step_scale,
)
from tracker.evidence import Evidence, frame_evidence
from tracker.flow import FlowAppearance, flow_term
from tracker.image import ImageLevel, inside, pyramid
from tracker.kernels.light import fitted_light
from tracker.local_contrast import local_contrast, plain_colours, window_axes
from tracker.points import PointSet
from tracker.problem import Bounds, FrameProblem
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import project_state
from tracker.settings import EnergySettings, TrackingSettings
from tracker.sh_constants import SH_CONSTANTS
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState
from tracker.surface import SurfaceView, sample_visibility, surface_view

# Colour noise is estimated from the residuals themselves, within these limits (sRGB units): below, 8-bit video noise;
# above, everything would count as an inlier.
SIGMA_LIMITS = (0.012, 0.08)
# A median absolute deviation times this is the standard deviation of a normal distribution.
MAD = 1.4826
# Fewer visible samples than this say nothing.
MIN_SAMPLES = 50
# From a prediction the landmark solve ends with the first step that lowers its cost by less than this share: the levels
# after it have the same landmarks, and finer steps changed nothing on clips with truth.
_COARSE_TOLERANCE = 0.02
_FAILED = ("singular", "non-finite")


def landmark_settings(tracking: TrackingSettings, predicted: bool) -> SolverSettings:
    """Limits of the landmark solve, from a prediction or from afar."""
    settings = SolverSettings(max_steps=tracking.steps + 2)
    return replace(settings, cost_tolerance=_COARSE_TOLERANCE) if predicted else settings


@dataclass(frozen=True, eq=False)
class FrameSolution:
    """One solved frame.

    Attributes:
        state: the frame's unknowns.
        outcomes: of the landmark solve and of each level.
        correlation: normalised cross-correlation of picture and appearance, -1 to 1; NaN without samples.
        photometric_l1: mean absolute colour residual of the visible samples; NaN without samples.
        evidence: what the frame by itself says of its unknowns; None where nothing was solved.
    """

    state: FrameState
    outcomes: tuple[Outcome, ...]
    correlation: float
    photometric_l1: float
    evidence: Evidence | None = None

    @property
    def steps(self) -> int:
        """Solver steps of all levels."""
        return sum(outcome.steps for outcome in self.outcomes)

    @property
    def status(self) -> str:
        """The worst outcome of the levels, or 'converged'."""
        bad = [outcome.status for outcome in self.outcomes if outcome.status in _FAILED]
        return bad[0] if bad else self.outcomes[-1].status if self.outcomes else "no data"

    @property
    def failed(self) -> bool:
        """Whether a level ended without a solution."""
        return self.status in _FAILED


@dataclass(frozen=True, eq=False)
class FrameSolver:
    """Solves frames of one calibrated clip.

    Attributes:
        clip: the calibrated clip.
        energy: noise and priors.
        tracking: levels, steps.
        held: (P,) unknowns that are not solved for.
        appearance: what the flow term draws, or None without it.
    """

    clip: ClipModel
    energy: EnergySettings
    tracking: TrackingSettings
    held: Tensor
    appearance: FlowAppearance | None = None

    @cached_property
    def prior(self) -> GaussianTerm:
        """Prior of every frame."""
        return frame_prior(self.clip.model, self.energy)

    @cached_property
    def bounds(self) -> Bounds:
        """Box limits of every frame's unknowns."""
        return frame_bounds(self.clip.model)

    @cached_property
    def scale(self) -> Tensor:
        """(P,) scales by which steps are measured."""
        return step_scale(self.clip.model, self.energy)

    @cached_property
    def change_inverse_std(self) -> Tensor:
        """(P,) reciprocal standard deviations of a frame's unknowns around their prediction."""
        return 1 / change_stds(prior_stds(self.clip.model, self.energy), self.tracking)

    @cached_property
    def landmark_points(self) -> PointSet:
        """The clip's landmarks in float32, in which products take half the time."""
        return self.clip.landmark_points.single()

    def solve(
        self,
        frame: FrameInput,
        start: FrameState,
        temporal: GaussianTerm | None,
        light_prior: Tensor,
        close: bool = False,
    ) -> FrameSolution:
        """Solves one frame.

        Args:
            frame: picture and detections.
            start: first state.
            temporal: pull to the prediction, or None for a frame on its own.
            light_prior: (9, 3) light of the frame before, camera axes.
            close: the start is within a pixel or two: only the finest level is solved.

        Returns:
            The solution; without landmarks only colours are used.
        """
        view = surface_view(self.clip.model, self.clip.shape, start)
        problem = self._problem(frame, start, temporal, view)
        state, outcomes, solution = start, list[Outcome](), None
        if problem.landmarks and not close:
            solution = minimise(problem, state, landmark_settings(self.tracking, temporal is not None))
            state = solution.state
            outcomes.append(solution.outcome)
        flow = None if close else self.flow(frame, state)
        if flow is not None:
            pulled = replace(problem, landmarks=(*problem.landmarks, flow))
            solution = minimise(pulled, state, SolverSettings(max_steps=self.tracking.steps))
            state = solution.state
            outcomes.append(solution.outcome)
        levels = pyramid(frame.image, self.tracking.levels)
        term, seen = None, None
        for index in reversed(range(1 if close else self.tracking.levels)):
            # A tracked frame starts close enough for one test of visibility, with the expression predicted for it; one
            # on its own may come from far.
            if seen is None or temporal is None:
                seen = self.visible(state, None if temporal is None else view)
            if seen is None:
                break
            if term is None and temporal is None and self.clip.response is not None:
                # No frame before says what the light is, and the samples' contrast depends on it.
                pixels = project_state(self.clip.sample_points.subset(seen.ids), state, self.clip.intrinsics)
                state, _ = self._lit(levels[0], pixels, state, seen, light_prior)
            term = self.thinned_term(levels[index], index, state, seen)
            solution = minimise(
                replace(problem, photometric=term), state, SolverSettings(max_steps=self.tracking.steps)
            )
            state = solution.state
            outcomes.append(solution.outcome)
        evidence = None if solution is None else frame_evidence(solution, temporal)
        if term is None or seen is None:
            return FrameSolution(state, tuple(outcomes), float("nan"), float("nan"), evidence)
        pixels = project_state(term.points, state, self.clip.intrinsics)
        correlation = term.correlation(state, pixels)
        state, l1 = self._lit(levels[0], pixels, state, seen, light_prior)
        return FrameSolution(state, tuple(outcomes), correlation, l1, evidence)

    def flow(self, frame: FrameInput, state: FrameState) -> LandmarkTerm | None:
        """The flow term of a frame, drawn in a state; None where there is none.

        Where a face was detected, its landmarks lead as far, and flow changes nothing that is worth its time
        (docs/results.md).
        """
        energy = self.energy
        if self.appearance is None or energy.flow_weight == 0 or not (frame.dense_px is None or energy.flow_always):
            return None
        seen = self.visible(state)
        if seen is None:
            return None
        samples = (seen.ids, seen.cosine)
        return flow_term(
            self.appearance, self.clip, frame.image, state, seen.vertices_head_m, samples, energy.flow_weight
        )

    def landmarks(self, frame: FrameInput, state: FrameState, view: SurfaceView) -> tuple[LandmarkTerm, ...]:
        """The landmark term of a frame whose head looks like `view`, or none where no face was found."""
        if frame.dense_px is None:
            return ()
        clip = self.clip
        facing = landmark_facing(clip.landmarks, view.normals_head, clip.model, state)
        return (landmark_term(clip.landmarks, self.landmark_points, frame, facing, self.energy),)

    def _problem(
        self, frame: FrameInput, state: FrameState, temporal: GaussianTerm | None, view: SurfaceView
    ) -> FrameProblem:
        return FrameProblem(
            intrinsics=self.clip.intrinsics,
            landmarks=self.landmarks(frame, state, view),
            photometric=None,
            gaussians=(self.prior,) if temporal is None else (self.prior, temporal),
            gaze=GazeSymmetryTerm(),
            bounds=self.bounds,
            scale=self.scale,
            held=self.held,
        )

    def visible(self, state: FrameState, view: SurfaceView | None = None) -> "VisibleSamples | None":
        """The samples that the camera sees and the calibration saw; None where they are too few to say anything.

        Args:
            state: pose, and the expression where no view is given.
            view: the head in its own space, with an expression near the state's.
        """
        clip = self.clip
        view = view or surface_view(clip.model, clip.shape, state)
        camera = (state, clip.intrinsics)
        seen, normals, points, cosine = sample_visibility(clip.model, clip.samples.surface, view, camera, clip.size)
        pixels = project_state(clip.sample_points, state, clip.intrinsics)
        ids = (seen & (clip.seen > 0) & inside(pixels, clip.size)).nonzero()[:, 0]
        if len(ids) < MIN_SAMPLES:
            return None
        return VisibleSamples(ids, normals[ids], points[ids], cosine[ids], view.vertices_head_m)

    def thinned_term(self, level: ImageLevel, index: int, state: FrameState, seen: "VisibleSamples") -> PhotometricTerm:
        """The photometric term as a frame's own solve takes it, arguments as in `contrast_term`.

        Samples of coarse levels see the same pixels as their neighbours: some are taken, and count for as many.
        """
        stride = sample_stride(index)
        term = self.contrast_term(level, index, state, seen.every(stride))
        return replace(term, confidence=stride * term.confidence)

    def contrast_term(
        self, level: ImageLevel, index: int, state: FrameState, seen: "VisibleSamples"
    ) -> PhotometricTerm:
        """The photometric term of a picture, its noise taken from its own residuals.

        Args:
            level: the picture at a pyramid level.
            index: the level's number, 0 the full picture.
            state: where the residuals are taken.
            seen: the visible samples.
        """
        clip = self.clip
        points, target = clip.sample_points.subset(seen.ids), clip.contrast[index][seen.ids]
        if clip.response is not None:
            target = target * clip.response.gain(index, seen.ids, state.light, state.R)
        sigma_m = clip.contrast_sigma_m(self.energy.contrast_sigma_px, level.scale)
        normals_cam = seen.normals @ state.R.float().T
        lens = clip.intrinsics.scaled(level.scale)
        axes = window_axes(seen.points_cam_m, normals_cam, lens, sigma_m)
        residual = local_contrast(level, project_state(points, state, lens), axes) - target
        sigma = min(max(MAD * float(residual.abs().median()), SIGMA_LIMITS[0]), SIGMA_LIMITS[1])
        confidence = self.energy.photometric_weight * seen.cosine
        return PhotometricTerm(points, seen.normals, target, level, sigma, confidence, axes=axes)

    def _lit(
        self, level: ImageLevel, pixels: Tensor, state: FrameState, seen: "VisibleSamples", prior: Tensor
    ) -> tuple[FrameState, float]:
        """The frame's light, fitted to its colours around the light before, and the mean absolute colour error.

        `pixels` (M, 2) are those of the visible samples at the level.
        """
        clip = self.clip
        normals_cam = seen.normals @ state.R.float().T
        # Light is slow, in units of the ambient coefficient (1 / the first basis constant).
        inverse_std = np.full(9, SH_CONSTANTS[0] / self.tracking.light_std)
        colours = plain_colours(level, pixels)
        light, error = fitted_light(
            colours.numpy(),
            clip.albedo[seen.ids].numpy(),
            normals_cam.numpy(),
            seen.cosine.numpy(),
            np.ascontiguousarray(prior.numpy()),
            inverse_std,
            (SIGMA_LIMITS[0], MAD),
        )
        return replace(state, light=torch.from_numpy(light)), error


def sample_stride(index: int) -> int:
    """A frame's own solve takes one of so many samples at a pyramid level, 0 the full picture.

    One of three at least, so that of `MIN_SAMPLES` enough are left.
    """
    return min(index + 1, 3)


@dataclass(frozen=True, eq=False)
class VisibleSamples:
    """Samples that are seen in a state.

    Attributes:
        ids: (M,) which of the clip's samples.
        normals: (M, 3) head space.
        points_cam_m: (M, 3) camera frame.
        cosine: (M,) of the angle to the line of sight.
        vertices_head_m: (V, 3) of the whole head.
    """

    ids: Tensor
    normals: Tensor
    points_cam_m: Tensor
    cosine: Tensor
    vertices_head_m: Tensor

    def every(self, stride: int) -> "VisibleSamples":
        """Each `stride`-th of the clip's samples, so far as it is seen."""
        keep = (self.ids % stride == 0).nonzero()[:, 0]
        ids, normals, points = self.ids[keep], self.normals[keep], self.points_cam_m[keep]
        return VisibleSamples(ids, normals, points, self.cosine[keep], self.vertices_head_m)
