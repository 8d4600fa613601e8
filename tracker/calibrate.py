"""Calibration of a clip: identity, camera and landmark offsets from landmarks, then appearance and light from colours."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tracker.appearance import estimate_light, mean_albedo, unwrap
from tracker.bundle import BundleProblem, BundleState, ColourObservation, Observation, SharedPrior
from tracker.camera import Intrinsics
from tracker.clip import (
    ClipModel,
    FrameInput,
    SampleSet,
    frame_bounds,
    frame_prior,
    landmark_facing,
    landmark_term,
    step_scale,
)
from tracker.frame_solver import FrameSolver
from tracker.head.model import HeadModel, vertex_normals
from tracker.image import inside, pyramid, sample
from tracker.landmark_set import LandmarkSet, inter_ocular_px
from tracker.pose import initial_pose
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.residuals.projection import project_state
from tracker.samples import face_samples
from tracker.settings import CalibrationSettings, EnergySettings, TrackingSettings
from tracker.shading import sh_basis
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState, neutral_state
from tracker.surface import sample_visibility, surface_view

_AMBIENT = 1 / 0.282094806432724
# The head's size is not observable by one camera; half a percent keeps the solve well conditioned.
_SIZE_STD = 0.005


@dataclass(frozen=True, eq=False)
class CameraPrior:
    """What is known of the crop's camera beforehand.

    Attributes:
        focal_px: mean focal length, pixels of the crop.
        focal_log_std: spread of its logarithm; 0 where it is known.
        centre_px: mean principal point, pixels of the crop.
        centre_std_px: its spread; 0 holds it.
    """

    focal_px: float
    focal_log_std: float
    centre_px: tuple[float, float]
    centre_std_px: float

    @property
    def intrinsics(self) -> Intrinsics:
        """The mean camera."""
        return Intrinsics(self.focal_px, *self.centre_px)


@dataclass(frozen=True, eq=False)
class CalibrationTask:
    """A clip to calibrate.

    Attributes:
        model: head model, cut to the modes in use.
        landmarks: which landmarks are used.
        frames: the calibration frames, a face in each.
        camera: prior of the camera.
        shape: (S,) given identity (the prior's mean), or None.
        optimize_shape: whether the identity may move.
        held: (P,) frame unknowns that are not solved for.
        energy: noise and priors.
        settings: of the calibration.
        tracking: samples, levels, steps.
    """

    model: HeadModel
    landmarks: LandmarkSet
    frames: tuple[FrameInput, ...]
    camera: CameraPrior
    shape: Tensor | None
    optimize_shape: bool
    held: Tensor
    energy: EnergySettings
    settings: CalibrationSettings
    tracking: TrackingSettings


@dataclass(frozen=True, eq=False)
class GeometrySolution:
    """Result of the landmark solve.

    Attributes:
        state: all unknowns.
        outcome: how the solve ended.
        log_focal_std: posterior standard deviation of the log focal length; NaN where it could not be computed.
        reprojection_px: median landmark error over the calibration frames.
    """

    state: BundleState
    outcome: Outcome
    log_focal_std: float
    reprojection_px: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Result of the calibration.

    Attributes:
        clip: what tracking needs.
        offsets_m: (N, 3) landmark offsets.
        states: solved calibration frames.
        geometry: the landmark solve.
        photometric_l1: mean absolute colour residual over the calibration frames.
    """

    clip: ClipModel
    offsets_m: Tensor
    states: tuple[FrameState, ...]
    geometry: GeometrySolution
    photometric_l1: float


def calibrate(task: CalibrationTask) -> Calibration:
    """Runs both parts of the calibration.

    Args:
        task: the clip.

    Returns:
        The calibrated clip.
    """
    geometry = solve_geometry(task)
    return solve_appearance(task, geometry)


def first_states(task: CalibrationTask, points_head_m: Tensor) -> tuple[FrameState, ...]:
    """Pose of every calibration frame by perspective-n-point on the rest head."""
    states = []
    for frame in task.frames:
        assert frame.dense_px is not None
        targets = task.landmarks.targets(frame.dense_px, frame.sparse_px).numpy()
        R, t = initial_pose(points_head_m.numpy(), targets, task.camera.intrinsics)
        states.append(replace(neutral_state(task.model), R=torch.from_numpy(R), t=torch.from_numpy(t)))
    return tuple(states)


def solve_geometry(task: CalibrationTask) -> GeometrySolution:
    """Identity, camera, landmark offsets and poses from landmarks.

    The first solve keeps the offsets at their mean, so that poses and camera settle; the second frees them.
    """
    shape = torch.zeros(task.model.shape_count, dtype=torch.float64) if task.shape is None else task.shape
    offsets = task.landmarks.offset_mean_m
    rest = task.landmarks.template.with_shape(shape).moved(offsets).rest
    state = BundleState(shape, task.camera.intrinsics, offsets, first_states(task, rest))
    problem = _bundle_problem(task, state, free_offsets=False)
    state = minimise(problem, state, SolverSettings(max_steps=15, cost_tolerance=1e-3)).state
    problem = _bundle_problem(task, state, free_offsets=True)
    solution = minimise(problem, state, SolverSettings(max_steps=30, cost_tolerance=1e-4))
    state = solution.state
    covariance = problem.linearise(state).shared_covariance()
    at = len(state.shape)
    variance = float("nan") if covariance is None else float(covariance[at, at])
    points = problem.points(state)
    errors = [
        (project_state(points, frame, state.intrinsics) - seen.targets_px).norm(dim=1)
        for frame, seen in zip(state.frames, problem.observations, strict=True)
    ]
    return GeometrySolution(state, solution.outcome, math.sqrt(variance), float(torch.cat(errors).median()))


def _bundle_problem(task: CalibrationTask, state: BundleState, free_offsets: bool) -> BundleProblem:
    model, landmarks = task.model, task.landmarks
    shape_std = task.settings.shape_std if task.optimize_shape else 0.0
    vertices = model.rest_vertices(state.shape.float())
    normals = vertex_normals(vertices, model.triangles)
    points = landmarks.template.with_shape(state.shape).moved(state.offsets_m)
    observations = []
    for frame, frame_state in zip(task.frames, state.frames, strict=True):
        facing = landmark_facing(landmarks, normals, model, frame_state)
        term = landmark_term(landmarks, points, frame, facing, task.energy)
        observations.append(
            Observation(
                term.targets_px, term.sigma_px, term.confidence, term.pairs, term.pair_sigma_px, term.pair_confidence
            )
        )
    zero_shape = torch.zeros(model.shape_count, dtype=torch.float64)
    return BundleProblem(
        template=landmarks.template,
        observations=tuple(observations),
        shared=SharedPrior(
            shape=zero_shape if task.shape is None else task.shape,
            shape_std=torch.full((model.shape_count,), shape_std, dtype=torch.float64),
            log_focal=math.log(task.camera.focal_px),
            log_focal_std=task.camera.focal_log_std,
            centre_px=task.camera.centre_px,
            centre_std_px=task.camera.centre_std_px,
            offsets_m=landmarks.offset_mean_m,
            offset_std_m=_offset_stds(task) if free_offsets else torch.zeros(len(landmarks), dtype=torch.float64),
            size_direction=size_direction(landmarks),
            size_std=_SIZE_STD,
        ),
        gaussian=frame_prior(model, task.energy),
        gaze=GazeSymmetryTerm(),
        bounds=frame_bounds(model),
        held=task.held,
        scale=step_scale(model, task.energy),
    )


def _offset_stds(task: CalibrationTask) -> Tensor:
    """Spread (N,) of the landmark offsets: as measured for the head model, else the configured one; 0 holds them."""
    default = task.settings.offset_std_mm / 1000
    known = task.landmarks.offset_std_m
    return torch.where(known.isnan(), torch.full_like(known, default), known.clamp(max=default))


def size_direction(landmarks: LandmarkSet) -> Tensor:
    """Relative change of the face's size by each identity coefficient, (S,): the part of its motion that scales."""
    rest = landmarks.template.points.rest
    arms = rest - rest.mean(0)
    return torch.einsum("nk,nks->s", arms, landmarks.template.shape_basis) / arms.square().sum()


@dataclass(frozen=True, eq=False)
class _Views:
    """All calibration frames seen at the samples: colours (K, N, 3) a level, weights (K, N), normals (K, N, 3)."""

    colours: tuple[Tensor, ...]
    weight: Tensor
    normals_cam: Tensor


def solve_appearance(task: CalibrationTask, geometry: GeometrySolution) -> Calibration:
    """Appearance, light, and all geometry again with colours, by alternation.

    Each round unwraps the appearance with the poses at hand, solves every frame from coarse to fine with it, and then
    solves all frames jointly at the finest level, where identity and camera move too. Coarse levels do not move them:
    measured on clips with truth, blurred pictures pull identity away from it.
    """
    state = geometry.state
    samples = SampleSet.of(task.model, face_samples(task.model, task.tracking.samples))
    clip = _clip(task, state, samples)
    l1, outcome = float("nan"), geometry.outcome
    for round_ in range(task.settings.rounds):
        clip, frames = _unwrapped(clip, task, state.frames, first=round_ == 0)
        solver = FrameSolver(clip, task.energy, task.tracking, task.held)
        solutions = [solver.solve(frame, one, None, one.light) for frame, one in zip(task.frames, frames, strict=True)]
        l1 = float(np.nanmean([solution.photometric_l1 for solution in solutions]))
        state = replace(state, frames=tuple(solution.state for solution in solutions))
        clip, state = _joint_round(task, clip, state, solver)
    clip, frames = _unwrapped(clip, task, state.frames, first=False)
    return Calibration(clip, state.offsets_m, frames, geometry, l1)


def _joint_round(
    task: CalibrationTask, clip: ClipModel, state: BundleState, solver: FrameSolver
) -> tuple[ClipModel, BundleState]:
    """All frames, identity, camera and offsets together, with landmarks and the finest level's colours."""
    problem = _bundle_problem(task, state, free_offsets=True)
    colours, frames = [], []
    for frame, one in zip(task.frames, state.frames, strict=True):
        term, keep, one = solver.photometric_term(pyramid(frame.image, 1)[0], 0, one, one.light)
        if term is None:
            return clip, state
        colours.append(ColourObservation(keep, term.normals, term.albedo, term.level, term.sigma, term.confidence))
        frames.append(one)
    state = replace(state, frames=tuple(frames))
    problem = replace(problem, samples=clip.samples.template, colours=tuple(colours))
    state = minimise(problem, state, SolverSettings(max_steps=task.settings.joint_steps)).state
    moved = _clip(task, state, clip.samples)
    return replace(moved, albedo=clip.albedo, seen=clip.seen, light=clip.light), state


def _clip(task: CalibrationTask, state: BundleState, samples: SampleSet) -> ClipModel:
    """The clip with the geometry of a joint solve, appearance still blank."""
    return ClipModel(
        model=task.model,
        shape=state.shape,
        intrinsics=state.intrinsics,
        size=(task.frames[0].image.shape[0], task.frames[0].image.shape[1]),
        landmarks=task.landmarks,
        landmark_points=task.landmarks.template.with_shape(state.shape).moved(state.offsets_m),
        samples=samples,
        sample_points=samples.template.with_shape(state.shape),
        albedo=torch.zeros(task.tracking.levels, len(samples.surface), 3),
        seen=torch.zeros(len(samples.surface)),
        light=neutral_state(task.model).light,
    )


def _views(clip: ClipModel, task: CalibrationTask, states: tuple[FrameState, ...]) -> _Views:
    colours: list[list[Tensor]] = [[] for _ in range(task.tracking.levels)]
    weights, normals = [], []
    for frame, state in zip(task.frames, states, strict=True):
        view = surface_view(clip.model, clip.shape, state)
        camera = (state, clip.intrinsics)
        visible, normals_head, cosine = sample_visibility(clip.model, clip.samples.surface, view, camera, clip.size)
        pixels = project_state(clip.sample_points, state, clip.intrinsics)
        weights.append((visible & inside(pixels, clip.size)).float() * cosine.clamp_min(0) ** 2)
        normals.append(normals_head @ state.R.float().T)
        for level, picture in enumerate(pyramid(frame.image, task.tracking.levels)):
            colours[level].append(sample(picture.pixels, pixels * picture.scale)[0])
    return _Views(tuple(torch.stack(c) for c in colours), torch.stack(weights), torch.stack(normals))


def _unwrapped(
    clip: ClipModel, task: CalibrationTask, states: tuple[FrameState, ...], first: bool
) -> tuple[ClipModel, tuple[FrameState, ...]]:
    """Light of every frame and albedo at every level, for the given poses."""
    views = _views(clip, task, states)
    finest = views.colours[0]
    mean = mean_albedo(finest, views.weight)
    albedo = mean.expand(finest.shape[1], 3) if first else clip.albedo[0]
    light = _clip_light(finest, albedo, views, neutral_state(task.model).light if first else clip.light)
    lit = []
    # A frame's own light stays close to the clip's: the rest is skin that moves, not light.
    inverse_std = torch.full((9,), 1 / (0.1 * _AMBIENT), dtype=torch.float64)
    for k, state in enumerate(states):
        weight = views.weight[k] * _robust(finest[k], albedo, views.normals_cam[k], light)
        lit.append(
            replace(state, light=estimate_light(finest[k], albedo, views.normals_cam[k], weight, light, inverse_std))
        )
    shading = torch.stack([sh_basis(views.normals_cam[k]) @ lit[k].light.float() for k in range(len(lit))])
    levels, seen = [], torch.zeros(0)
    for colours in views.colours:
        level_albedo, seen = unwrap(colours, shading, views.weight)
        levels.append(level_albedo)
    scale = mean / mean_albedo(levels[0][None], seen[None]).clamp_min(1e-3)
    albedos = torch.stack(levels) * scale
    lit = [replace(state, light=state.light / scale.double()) for state in lit]
    return replace(clip, albedo=albedos, seen=seen, light=light / scale.double()), tuple(lit)


def _clip_light(colours: Tensor, albedo: Tensor, views: _Views, prior: Tensor) -> Tensor:
    """One light for all frames, robust against what is not skin."""
    count = len(colours)
    flat, normals = colours.reshape(-1, 3), views.normals_cam.reshape(-1, 3)
    repeated = albedo.repeat(count, 1)
    weight = views.weight.reshape(-1) * _robust(flat, repeated, normals, prior)
    # Directional light is weaker than ambient: half of it is one standard deviation.
    inverse_std = torch.full((9,), 1 / (0.5 * _AMBIENT), dtype=torch.float64)
    return estimate_light(flat, repeated, normals, weight, prior, inverse_std)


def _robust(colours: Tensor, albedo: Tensor, normals_cam: Tensor, light: Tensor) -> Tensor:
    """Geman-McClure weights (N,) of colours under a light, divided by the colour variance."""
    residual = (colours - albedo * (sh_basis(normals_cam) @ light.float())).abs().mean(1)
    sigma = max(1.4826 * float(residual.median()), 0.02)
    return 1 / (1 + (residual / (2 * sigma)) ** 2) ** 2 / sigma**2


def mean_inter_ocular_px(frames: tuple[FrameInput, ...]) -> float:
    """Mean inter-ocular distance over the frames with a face."""
    return float(np.mean([inter_ocular_px(frame.dense_px) for frame in frames if frame.dense_px is not None]))
