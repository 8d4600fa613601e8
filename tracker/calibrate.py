"""Calibration of a clip: geometry from landmarks, then appearance, and all of it together."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tracker.appearance_fit import frame_lights, view_samples, with_appearance
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
from tracker.image import contrast, pyramid
from tracker.landmark_set import LandmarkSet
from tracker.pose import initial_pose
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.residuals.projection import project_state
from tracker.samples import face_samples
from tracker.settings import CalibrationSettings, EnergySettings, TrackingSettings
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState, neutral_state

# The head's size is not observable by one camera. Left half a percent of play, it ran 1.7 % off on clips with truth.
_SIZE_STD = 0.0005
# On clips with known truth the focal length was 0 to 11 % off where the covariance alone said 2 to 4 %.
_MODEL_LOG_FOCAL_STD = 0.06
# Landmark offsets vary together over this distance, metres (about an eye's width), and on their own by this share of
# their variance.
_OFFSET_REACH_M, _OWN_SHARE = 0.025, 0.1


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
        log_focal_std: posterior standard deviation of the log focal length after the joint solve.
    """

    clip: ClipModel
    offsets_m: Tensor
    states: tuple[FrameState, ...]
    geometry: GeometrySolution
    photometric_l1: float
    log_focal_std: float


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
    problem = _bundle_problem(task, state, free_offsets=False, with_colours=False)
    state = minimise(problem, state, SolverSettings(max_steps=15, cost_tolerance=1e-3)).state
    problem = _bundle_problem(task, state, free_offsets=True, with_colours=False)
    solution = minimise(problem, state, SolverSettings(max_steps=30, cost_tolerance=1e-4))
    state = solution.state
    points = problem.points(state)
    errors = [
        (project_state(points, frame, state.intrinsics) - seen.targets_px).norm(dim=1)
        for frame, seen in zip(state.frames, problem.observations, strict=True)
    ]
    return GeometrySolution(state, solution.outcome, _log_focal_std(problem, state), float(torch.cat(errors).median()))


def _bundle_problem(task: CalibrationTask, state: BundleState, free_offsets: bool, with_colours: bool) -> BundleProblem:
    model, landmarks, settings = task.model, task.landmarks, task.settings
    shape_std = settings.shape_std if with_colours else settings.landmark_shape_std
    shape_std = shape_std if task.optimize_shape else 0.0
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
            shape_std=shape_std * detail_falloff(model),
            log_focal=math.log(task.camera.focal_px),
            log_focal_std=task.camera.focal_log_std,
            centre_px=task.camera.centre_px,
            centre_std_px=task.camera.centre_std_px,
            offsets_m=landmarks.offset_mean_m,
            offset_precision=offset_precision(landmarks, settings.offset_std_mm / 1000) if free_offsets else None,
            size_direction=size_direction(model),
            size_std=_SIZE_STD,
        ),
        gaussian=frame_prior(model, task.energy),
        gaze=GazeSymmetryTerm(),
        bounds=frame_bounds(model),
        held=task.held,
        scale=step_scale(model, task.energy),
    )


def offset_precision(landmarks: LandmarkSet, default_std_m: float) -> Tensor | None:
    """Inverse covariance (N, N) of the landmark offsets.

    A detector errs smoothly: when it puts the corner of a mouth too far out, its neighbours go along. Independent
    offsets would let hundreds of points agree on an identity that none of them knows.

    Args:
        landmarks: N landmarks, their spreads where measured.
        default_std_m: spread where none was measured, and the largest one used; 0 holds the offsets.

    Returns:
        1 / m^2, for each direction; None where the offsets are held.
    """
    if default_std_m <= 0:
        return None
    known = landmarks.offset_std_m
    std = torch.where(known.isnan(), torch.full_like(known, default_std_m), known.clamp(max=default_std_m))
    rest = landmarks.template.points.rest
    squared = (rest[:, None] - rest[None]).square().sum(2)
    identity = torch.eye(len(rest), dtype=torch.float64)
    kernel = (1 - _OWN_SHARE) * torch.exp(-squared / (2 * _OFFSET_REACH_M**2)) + _OWN_SHARE * identity
    return torch.linalg.inv(kernel * std[:, None] * std[None]).contiguous()


def detail_falloff(model: HeadModel) -> Tensor:
    """How much of its spread each identity mode keeps, (S,) in (0, 1]: the square root of its size on the face.

    Fine modes move the face by less than a detector or a blurred texture can tell; left their full spread they take up
    what neither the broad modes nor the poses explain.
    """
    ids = model.regions.get("face", torch.arange(model.vertex_count))
    size = model.shape_basis[ids].double().square().sum(1).mean(0).sqrt()
    return (size / size.max().clamp_min(1e-12)).clamp_min(1e-4).sqrt()


def size_direction(model: HeadModel) -> Tensor:
    """Relative change of the face's size by each identity coefficient, (S,): the part of its motion that scales."""
    ids = model.regions.get("face", torch.arange(model.vertex_count))
    vertices = model.template[ids].double()
    arms = vertices - vertices.mean(0)
    return torch.einsum("nk,nks->s", arms, model.shape_basis[ids].double()) / arms.square().sum()


def solve_appearance(task: CalibrationTask, geometry: GeometrySolution) -> Calibration:
    """Appearance, light, and all geometry again with the pictures, by alternation.

    Each round unwraps the appearance with the poses at hand, solves every frame from coarse to fine with it, and then
    solves all frames jointly at the finest level, where identity and camera move too. Coarse levels do not move them:
    measured on clips with truth, blurred pictures pull identity away from it.
    """
    state, spread = geometry.state, geometry.log_focal_std
    samples = SampleSet.of(task.model, face_samples(task.model, task.tracking.samples))
    pictures = [pyramid(frame.image, task.tracking.levels) for frame in task.frames]
    clip, l1 = _clip(task, state, samples), float("nan")
    for _ in range(task.settings.rounds):
        views = view_samples(clip, state.frames, pictures, task.energy.contrast_sigma_px)
        clip = with_appearance(clip, views)
        solver = FrameSolver(clip, task.energy, task.tracking, task.held)
        solutions = [
            solver.solve(frame, one, None, clip.light) for frame, one in zip(task.frames, state.frames, strict=True)
        ]
        state = replace(state, frames=tuple(solution.state for solution in solutions))
        l1 = float(np.nanmean([solution.photometric_l1 for solution in solutions]))
        clip, state, spread = _joint_round(task, clip, state, solver)
    views = view_samples(clip, state.frames, pictures, task.energy.contrast_sigma_px)
    clip = with_appearance(clip, views)
    lit = tuple(replace(one, light=light) for one, light in zip(state.frames, frame_lights(clip, views), strict=True))
    return Calibration(clip, state.offsets_m, lit, geometry, l1, spread)


def _joint_round(
    task: CalibrationTask, clip: ClipModel, state: BundleState, solver: FrameSolver
) -> tuple[ClipModel, BundleState, float]:
    """All frames, identity, camera and offsets together, with landmarks and the finest level's contrast.

    Returns:
        The clip and the unknowns after it, and the posterior standard deviation of the log focal length.
    """
    problem = _bundle_problem(task, state, free_offsets=True, with_colours=True)
    observations = []
    for frame, one in zip(task.frames, state.frames, strict=True):
        seen = solver.visible(one)
        if seen is None:
            return clip, state, _log_focal_std(problem, state)
        level = contrast(pyramid(frame.image, 1)[0], task.energy.contrast_sigma_px)
        term = solver.contrast_term(level, 0, one, seen)
        observations.append(
            ColourObservation(seen.ids, term.normals, term.albedo, term.level, term.sigma, term.confidence)
        )
    problem = replace(problem, samples=clip.samples.template, colours=tuple(observations))
    state = minimise(problem, state, SolverSettings(max_steps=task.settings.joint_steps)).state
    moved = _clip(task, state, clip.samples)
    moved = replace(moved, contrast=clip.contrast, albedo=clip.albedo, seen=clip.seen, light=clip.light)
    return moved, state, _log_focal_std(problem, state)


def _log_focal_std(problem: BundleProblem, state: BundleState) -> float:
    """Posterior standard deviation of the log focal length, all else marginalised; NaN where singular, 0 where held.

    The solve's own covariance knows noise only; what the model itself gets wrong is added (docs/solver.md).
    """
    covariance = problem.linearise(state).shared_covariance()
    at = len(state.shape)
    if covariance is None or problem.shared.log_focal_std == 0:
        return float("nan") if covariance is None else 0.0
    return math.hypot(math.sqrt(float(covariance[at, at])), _MODEL_LOG_FOCAL_STD)


def _clip(task: CalibrationTask, state: BundleState, samples: SampleSet) -> ClipModel:
    """The clip with the geometry of a joint solve, appearance still blank."""
    count = len(samples.surface)
    return ClipModel(
        model=task.model,
        shape=state.shape,
        intrinsics=state.intrinsics,
        size=(task.frames[0].image.shape[0], task.frames[0].image.shape[1]),
        landmarks=task.landmarks,
        landmark_points=task.landmarks.template.with_shape(state.shape).moved(state.offsets_m),
        samples=samples,
        sample_points=samples.template.with_shape(state.shape),
        contrast=torch.zeros(task.tracking.levels, count, 3),
        albedo=torch.zeros(count, 3),
        seen=torch.zeros(count),
        light=neutral_state(task.model).light,
    )
