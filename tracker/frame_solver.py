"""The solve of one frame: landmarks first, then landmarks and colours from the coarsest to the finest level."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.appearance import estimate_light
from tracker.clip import (
    ClipModel,
    FrameInput,
    frame_bounds,
    frame_prior,
    landmark_facing,
    landmark_term,
    step_scale,
)
from tracker.image import ImageLevel, inside, pyramid, sample
from tracker.problem import FrameProblem
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import project_state
from tracker.settings import EnergySettings, TrackingSettings
from tracker.shading import sh_basis
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState
from tracker.surface import sample_visibility, surface_view

# Colour noise is estimated from the residuals themselves, within these limits (sRGB units): below, 8-bit video noise;
# above, everything would count as an inlier.
_SIGMA_LIMITS = (0.012, 0.08)
# A median absolute deviation times this is the standard deviation of a normal distribution.
_MAD = 1.4826
# Fewer visible samples than this say nothing.
_MIN_SAMPLES = 50


@dataclass(frozen=True, eq=False)
class FrameSolution:
    """One solved frame.

    Attributes:
        state: the frame's unknowns.
        outcomes: of the landmark solve and of each level.
        inlier_fraction: share of visible samples with a robust weight above one half; NaN without samples.
        photometric_l1: mean absolute colour residual of the visible samples; NaN without samples.
    """

    state: FrameState
    outcomes: tuple[Outcome, ...]
    inlier_fraction: float
    photometric_l1: float

    @property
    def steps(self) -> int:
        """Solver steps of all levels."""
        return sum(outcome.steps for outcome in self.outcomes)

    @property
    def status(self) -> str:
        """The worst outcome of the levels, or 'converged'."""
        bad = [outcome.status for outcome in self.outcomes if outcome.status in ("singular", "non-finite")]
        return bad[0] if bad else self.outcomes[-1].status if self.outcomes else "no data"


@dataclass(frozen=True, eq=False)
class FrameSolver:
    """Solves frames of one calibrated clip.

    Attributes:
        clip: the calibrated clip.
        energy: noise and priors.
        tracking: levels, steps.
        held: (P,) unknowns that are not solved for.
    """

    clip: ClipModel
    energy: EnergySettings
    tracking: TrackingSettings
    held: Tensor

    def solve(
        self, frame: FrameInput, start: FrameState, temporal: GaussianTerm | None, light_prior: Tensor
    ) -> FrameSolution:
        """Solves one frame.

        Args:
            frame: picture and detections.
            start: first state.
            temporal: pull to the prediction, or None for a frame on its own.
            light_prior: (9, 3) light of the frame before, camera axes.

        Returns:
            The solution; without landmarks only colours are used.
        """
        problem = self._problem(frame, start, temporal)
        state, outcomes = start, list[Outcome]()
        if problem.landmarks:
            solution = minimise(problem, state, SolverSettings(max_steps=self.tracking.steps + 2))
            state = solution.state
            outcomes.append(solution.outcome)
        levels = pyramid(frame.image, self.tracking.levels)
        term: PhotometricTerm | None = None
        for index in reversed(range(self.tracking.levels)):
            term, _, state = self.photometric_term(levels[index], index, state, light_prior)
            if term is None:
                break
            solution = minimise(
                replace(problem, photometric=term), state, SolverSettings(max_steps=self.tracking.steps)
            )
            state = solution.state
            outcomes.append(solution.outcome)
        if term is None:
            return FrameSolution(state, tuple(outcomes), float("nan"), float("nan"))
        inliers = float((term.robust_weights(state, self.clip.intrinsics) > 0.5).float().mean())
        l1 = float(term.residual(state, self.clip.intrinsics).abs().mean())
        return FrameSolution(state, tuple(outcomes), inliers, l1)

    def landmarks(self, frame: FrameInput, state: FrameState) -> tuple[LandmarkTerm, ...]:
        """The landmark term of a frame, or none where no face was found."""
        if frame.dense_px is None:
            return ()
        clip = self.clip
        view = surface_view(clip.model, clip.shape, state)
        facing = landmark_facing(clip.landmarks, view.normals_head, clip.model, state)
        return (landmark_term(clip.landmarks, clip.landmark_points, frame, facing, self.energy),)

    def _problem(self, frame: FrameInput, state: FrameState, temporal: GaussianTerm | None) -> FrameProblem:
        model = self.clip.model
        prior = frame_prior(model, self.energy)
        return FrameProblem(
            intrinsics=self.clip.intrinsics,
            landmarks=self.landmarks(frame, state),
            photometric=None,
            gaussians=(prior,) if temporal is None else (prior, temporal),
            gaze=GazeSymmetryTerm(),
            bounds=frame_bounds(model),
            scale=step_scale(model, self.energy),
            held=self.held,
        )

    def photometric_term(
        self, level: ImageLevel, index: int, state: FrameState, light_prior: Tensor
    ) -> tuple[PhotometricTerm | None, Tensor, FrameState]:
        """Visible samples at a level, their ids, and the state with the light fitted to them; None where too few."""
        clip = self.clip
        view = surface_view(clip.model, clip.shape, state)
        camera = (state, clip.intrinsics)
        visible, normals, cosine = sample_visibility(clip.model, clip.samples.surface, view, camera, clip.size)
        small = clip.intrinsics.scaled(level.scale)
        pixels = project_state(clip.sample_points, state, small)
        height, width = level.pixels.shape[:2]
        keep = visible & (clip.seen > 0) & inside(pixels, (height, width))
        if int(keep.sum()) < _MIN_SAMPLES:
            return None, keep, state
        colours = sample(level.pixels, pixels[keep])[0]
        albedo = clip.albedo[index][keep]
        normals = normals[keep]
        state = replace(state, light=self._light(colours, albedo, normals @ state.R.float().T, light_prior))
        shaded = albedo * (sh_basis(normals @ state.R.float().T) @ state.light.float())
        sigma = _MAD * float((colours - shaded).abs().median())
        confidence = self.energy.photometric_weight * cosine[keep]
        return (
            PhotometricTerm(
                points=clip.sample_points.subset(keep),
                normals=normals,
                albedo=albedo,
                level=level,
                sigma=min(max(sigma, _SIGMA_LIMITS[0]), _SIGMA_LIMITS[1]),
                confidence=confidence,
            ),
            keep.nonzero()[:, 0],
            state,
        )

    def _light(self, colours: Tensor, albedo: Tensor, normals_cam: Tensor, prior: Tensor) -> Tensor:
        """Robust light of a frame: one reweighting around the prior light's residuals."""
        shaded = albedo * (sh_basis(normals_cam) @ prior.float())
        residual = (colours - shaded).abs().mean(1)
        sigma = max(_MAD * float(residual.median()), _SIGMA_LIMITS[0])
        weight = self.energy.photometric_weight / sigma**2 / (1 + (residual / (3 * sigma)) ** 2) ** 2
        # Light is slow, in units of the ambient coefficient (1 / the first basis constant).
        inverse_std = torch.full((9,), 0.282094806432724 / self.tracking.light_std, dtype=torch.float64)
        return estimate_light(colours, albedo, normals_cam, weight, prior, inverse_std)
