"""Calibration of a clip: geometry from landmarks, then appearance, and all of it together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tracker.appearance_fit import frame_lights, view_samples, with_appearance
from tracker.bundle import BundleProblem, BundleState, Observation, OffsetModel, SharedPrior
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
from tracker.contour import find_outline
from tracker.frame_solver import FrameSolution, FrameSolver
from tracker.head.model import HeadModel, vertex_normals
from tracker.image import ImageLevel, pyramid
from tracker.landmark_set import IRISES, LandmarkSet
from tracker.points import point_template
from tracker.pose import initial_pose
from tracker.residuals.contour import ContourTerm
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.residuals.projection import linearise_projection
from tracker.residuals.shared_colours import ColourView, SharedColours
from tracker.samples import face_samples
from tracker.settings import CalibrationSettings, EnergySettings, TrackingSettings
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState, neutral_state
from tracker.threads import on_threads

# The head's size is not observable by one camera. Left half a percent of play, it ran 1.7 % off on clips with truth.
_SIZE_STD = 0.0005
# Neighbouring samples err together: the spread of the focal length is this many times what independent ones would give.
# The rest is what the model gets wrong: on clips with known truth the focal length was 0 to 6 % off.
_CAUTION = 4.0
_MODEL_LOG_FOCAL_STD = 0.06
# Landmarks alone pull the focal length up to 20 % down (they follow a turn of the head too little), and the pictures do
# not always bring it back; so it waits for the pictures near its prior.
_LANDMARK_FOCAL_STD = 0.03
# Rounds after which frames that the appearance does not explain are dropped.
_DROPPING_ROUNDS = 2
# Rounds of a refinement with more frames: it starts close.
_REFINING_ROUNDS = 2
# Standard deviation of the outline; the edge of the matte was 0.5 px off in the median at the true outline of rendered
# heads, the rest is what hair adds and what the fit is off at first.
_CONTOUR_SIGMA_PX = 2.0
# Landmarks of the joint solve, spread evenly over the face, beside those of the closure pairs and the irises.
_EVEN_LANDMARKS = 64
# Their offsets are wider than measured by this factor: neighbours err together, and a detector does not report what an
# identity changes in the fine (docs/solver.md).
_OFFSET_CAUTION = 2.0


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
        landmarks: those of the joint solve.
        offsets_m: (N, 3) offsets of all landmarks.
        outcome: how the solve ended.
        log_focal_std: posterior standard deviation of the log focal length; NaN where it could not be computed.
        reprojection_px: median landmark error over the calibration frames.
    """

    state: BundleState
    landmarks: LandmarkSet
    offsets_m: Tensor
    outcome: Outcome
    log_focal_std: float
    reprojection_px: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Result of the calibration.

    Attributes:
        clip: what tracking needs.
        offsets_m: (N, 3) landmark offsets.
        offsets: (N', 3) offsets of the joint solve's landmarks, in its own units.
        states: solved calibration frames.
        geometry: the landmark solve.
        photometric_l1: mean absolute colour residual over the calibration frames.
        log_focal_std: posterior standard deviation of the log focal length after the joint solve.
        kept: places in the task of the frames that `states` belong to; covered ones are dropped.
    """

    clip: ClipModel
    offsets_m: Tensor
    offsets: Tensor
    states: tuple[FrameState, ...]
    geometry: GeometrySolution
    photometric_l1: float
    log_focal_std: float
    kept: tuple[int, ...]


def first_states(task: CalibrationTask, points_head_m: Tensor) -> tuple[FrameState, ...]:
    """Pose of every calibration frame by perspective-n-point on the rest head."""
    return _posed(task, task.frames, points_head_m, task.camera.intrinsics)


def _posed(
    task: CalibrationTask, frames: Sequence[FrameInput], points_head_m: Tensor, intrinsics: Intrinsics
) -> tuple[FrameState, ...]:
    states = []
    for frame in frames:
        assert frame.dense_px is not None
        targets = task.landmarks.targets(frame.dense_px, frame.sparse_px).numpy()
        R, t = initial_pose(points_head_m.numpy(), targets, intrinsics)
        states.append(replace(neutral_state(task.model), R=torch.from_numpy(R), t=torch.from_numpy(t)))
    return tuple(states)


def solve_geometry(task: CalibrationTask) -> GeometrySolution:
    """Identity, camera, landmark offsets and poses from landmarks.

    The first solve keeps the offsets at their mean, so that poses and camera settle; the second frees them.
    """
    shape = torch.zeros(task.model.shape_count, dtype=torch.float64) if task.shape is None else task.shape
    rest = task.landmarks.template.with_shape(shape).moved(task.landmarks.offset_mean_m).rest
    chosen = joint_landmarks(task.landmarks)
    offsets = torch.zeros(len(chosen), 3, dtype=torch.float64)
    state = BundleState(shape, task.camera.intrinsics, offsets, first_states(task, rest))
    problem = _bundle_problem(task, state, chosen, free_offsets=False, with_colours=False)
    state = minimise(problem, state, SolverSettings(max_steps=15, cost_tolerance=1e-3)).state
    problem = _bundle_problem(task, state, chosen, free_offsets=True, with_colours=False)
    solution = minimise(problem, state, SolverSettings(max_steps=30, cost_tolerance=1e-4))
    state = solution.state
    offsets_m, errors = fitted_offsets(task, state)
    return GeometrySolution(
        state, chosen, offsets_m, solution.outcome, _log_focal_std(problem, state), float(errors.median())
    )


def fitted_offsets(task: CalibrationTask, state: BundleState) -> tuple[Tensor, Tensor]:
    """Constant offsets of all landmarks with everything else known, each by a ridge fit around its mean.

    Returns:
        offsets (N, 3) metres, and what they leave of each landmark's distance in each frame (F, N), pixels.
    """
    landmarks, energy = task.landmarks, task.energy
    points = landmarks.template.with_shape(state.shape).moved(landmarks.offset_mean_m)
    std = offset_std(landmarks, task.settings.offset_std_mm / 1000).clamp_min(1e-9)
    H = torch.eye(3, dtype=torch.float64) / std[:, None, None] ** 2
    g = torch.zeros(len(std), 3, dtype=torch.float64)
    errors, by_rest = [], []
    normals = vertex_normals(task.model.rest_vertices(state.shape.float()), task.model.triangles)
    for frame, one in zip(task.frames, state.frames, strict=True):
        # The weight below one counts what landmarks err together; a landmark's own offset is not of that kind.
        alone = energy.model_copy(update={"landmark_weight": 1.0})
        term = landmark_term(landmarks, points, frame, landmark_facing(landmarks, normals, task.model, one), alone)
        linear = linearise_projection(points, one, state.intrinsics)
        error = linear.pixels - term.targets_px
        weight = term.kernel((error / term.sigma_px).square().sum(1))[1] * term.confidence / term.sigma_px**2
        weighted = linear.by_rest * weight[:, None, None]
        H = H + torch.einsum("ndi,ndj->nij", weighted, linear.by_rest)
        g = g + torch.einsum("ndi,nd->ni", weighted, error)
        errors.append(error)
        by_rest.append(linear.by_rest)
    moved = -torch.linalg.solve(H, g)
    left = [error + torch.einsum("ndi,ni->nd", rest, moved) for error, rest in zip(errors, by_rest, strict=True)]
    return landmarks.offset_mean_m + moved, torch.stack(left).norm(dim=2)


def _bundle_problem(
    task: CalibrationTask, state: BundleState, landmarks: LandmarkSet, free_offsets: bool, with_colours: bool
) -> BundleProblem:
    model, settings = task.model, task.settings
    std = _OFFSET_CAUTION * offset_std(landmarks, settings.offset_std_mm / 1000)
    offsets = OffsetModel(landmarks.offset_mean_m, std if free_offsets else torch.zeros_like(std))
    # Fewer landmarks, each with the more weight.
    energy = task.energy
    weight = energy.landmark_weight * len(task.landmarks) / len(landmarks)
    energy = energy.model_copy(update={"landmark_weight": weight})
    shape_std = settings.shape_std if with_colours else settings.landmark_shape_std
    shape_std = shape_std if task.optimize_shape else 0.0
    vertices = model.rest_vertices(state.shape.float())
    normals = vertex_normals(vertices, model.triangles)
    points = landmarks.template.with_shape(state.shape).moved(offsets.offsets_m(state.offsets))
    observations = []
    for frame, frame_state in zip(task.frames, state.frames, strict=True):
        facing = landmark_facing(landmarks, normals, model, frame_state)
        term = landmark_term(landmarks, points, frame, facing, energy)
        observations.append(
            Observation(
                term.targets_px, term.sigma_px, term.confidence, term.pairs, term.pair_sigma_px, term.pair_confidence
            )
        )
    zero_shape = torch.zeros(model.shape_count, dtype=torch.float64)
    focal_std = task.camera.focal_log_std
    if not with_colours:
        focal_std = min(focal_std, _LANDMARK_FOCAL_STD)
    return BundleProblem(
        template=landmarks.template,
        observations=tuple(observations),
        shared=SharedPrior(
            shape=zero_shape if task.shape is None else task.shape,
            shape_std=shape_std * detail_falloff(model),
            log_focal=math.log(task.camera.focal_px),
            log_focal_std=focal_std,
            centre_px=task.camera.centre_px,
            centre_std_px=task.camera.centre_std_px,
            offsets=offsets,
            size_direction=size_direction(model),
            size_std=_SIZE_STD,
        ),
        gaussian=frame_prior(model, task.energy),
        gaze=GazeSymmetryTerm(),
        bounds=frame_bounds(model),
        held=task.held,
        scale=step_scale(model, task.energy),
    )


def offset_std(landmarks: LandmarkSet, default_std_m: float) -> Tensor:
    """Spread (N,) of the landmark offsets, metres: as measured, at most the default, which also stands where none was.

    Args:
        landmarks: N landmarks.
        default_std_m: 0 holds the offsets.
    """
    known = landmarks.offset_std_m
    return torch.where(known.isnan(), torch.full_like(known, default_std_m), known.clamp(max=default_std_m))


def joint_landmarks(landmarks: LandmarkSet) -> LandmarkSet:
    """The landmarks of the joint solve: closure pairs, irises, and points spread evenly over the face."""
    rest = landmarks.template.points.rest
    chosen = set(landmarks.pairs.reshape(-1).tolist())
    chosen |= {place for place, number in enumerate(landmarks.dense.tolist()) if number in IRISES}
    distance = (rest - rest.mean(0)).norm(dim=1)
    for _ in range(min(_EVEN_LANDMARKS, len(rest))):
        farthest = int(distance.argmax())
        chosen.add(farthest)
        distance = torch.minimum(distance, (rest - rest[farthest]).norm(dim=1))
    return landmarks.subset(torch.tensor(sorted(chosen)))


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
    """Appearance, light, and all geometry again with the pictures.

    Each round unwraps the appearance with the poses at hand, solves every frame with it, and then solves all frames
    jointly with the appearance eliminated; there identity and camera move too. The first rounds' joint solves work on
    coarse levels, from the coarsest on, the others on the finest: started there, the joint solve ends in a nearer and
    worse minimum (docs/solver.md). Frames that the common appearance does not explain (a hand before the face) are
    dropped in the first rounds.
    """
    kept = tuple(range(len(task.frames)))
    state, spread, l1 = geometry.state, geometry.log_focal_std, float("nan")
    samples = SampleSet.of(task.model, face_samples(task.model, task.tracking.samples))
    pictures = [pyramid(frame.image, task.tracking.levels) for frame in task.frames]
    clip = _clip(task, state, geometry.offsets_m, samples)
    for turn in range(task.settings.rounds):
        level = max(task.tracking.levels - 1 - turn, 0)
        clip = with_appearance(clip, view_samples(clip, state.frames, pictures, task.energy.contrast_sigma_px))
        solver = FrameSolver(clip, task.energy, task.tracking, task.held)
        solutions = _solved_alone(solver, task.frames, state.frames, close=turn > 0 and level == 0)
        state = replace(state, frames=tuple(solution.state for solution in solutions))
        explained = _explained(solutions, task.tracking.poor_correlation) if turn < _DROPPING_ROUNDS else None
        if explained is not None:
            kept = tuple(kept[place] for place in explained)
            task = replace(task, frames=tuple(task.frames[place] for place in explained))
            pictures = [pictures[place] for place in explained]
            state = replace(state, frames=tuple(state.frames[place] for place in explained))
            solutions = [solutions[place] for place in explained]
        l1 = float(np.nanmean([solution.photometric_l1 for solution in solutions]))
        clip, state, spread = _solved_jointly(task, geometry.landmarks, (solver, state), pictures, level)
    clip, lit = _with_light(task, clip, state, pictures)
    offsets_m = fitted_offsets(task, state)[0]
    return Calibration(clip, offsets_m, state.offsets, lit, geometry, l1, spread, kept)


def refine(task: CalibrationTask, calibration: Calibration, more: Sequence[FrameInput]) -> Calibration:
    """The joint solve again with more frames, each of them first solved on its own with the calibration at hand.

    Args:
        task: as it was calibrated, dropped frames included.
        calibration: its result.
        more: further frames with a face. Those that the appearance does not explain are left out.

    Returns:
        The refined calibration; its `kept` counts the task's frames and then `more`.
    """
    solver = FrameSolver(calibration.clip, task.energy, task.tracking, task.held)
    points = calibration.clip.landmark_points.rest
    starts = _posed(task, more, points, calibration.clip.intrinsics)
    solutions = _solved_alone(solver, more, starts, close=False)
    used = [k for k, solution in enumerate(solutions) if solution.correlation >= task.tracking.poor_correlation]
    frames = [task.frames[place] for place in calibration.kept] + [more[k] for k in used]
    kept = calibration.kept + tuple(len(task.frames) + k for k in used)
    states = calibration.states + tuple(solutions[k].state for k in used)
    task = replace(task, frames=tuple(frames))
    pictures = [pyramid(frame.image, task.tracking.levels) for frame in frames]
    clip, spread = calibration.clip, calibration.log_focal_std
    state = BundleState(clip.shape, clip.intrinsics, calibration.offsets, states)
    for _ in range(_REFINING_ROUNDS):
        clip = with_appearance(clip, view_samples(clip, state.frames, pictures, task.energy.contrast_sigma_px))
        solver = FrameSolver(clip, task.energy, task.tracking, task.held)
        clip, state, spread = _solved_jointly(task, calibration.geometry.landmarks, (solver, state), pictures)
    clip, lit = _with_light(task, clip, state, pictures)
    return replace(
        calibration,
        clip=clip,
        offsets_m=fitted_offsets(task, state)[0],
        offsets=state.offsets,
        states=lit,
        log_focal_std=spread,
        kept=kept,
    )


def _solved_jointly(
    task: CalibrationTask,
    landmarks: LandmarkSet,
    start: tuple[FrameSolver, BundleState],
    pictures: Sequence[list[ImageLevel]],
    level: int = 0,
) -> tuple[ClipModel, BundleState, float]:
    """Clip, state and spread of the log focal length after a joint solve at a pyramid level."""
    solver, state = start
    problem = _bundle_problem(task, state, landmarks, free_offsets=True, with_colours=True)
    colours = _shared_colours(solver, state, [levels[level] for levels in pictures], level)
    if colours is not None:
        problem = replace(problem, colours=colours, contours=_contours(task, state))
        state = minimise(problem, state, SolverSettings(max_steps=task.settings.joint_steps)).state
    spread = _log_focal_std(problem, state)
    before = solver.clip
    moved = _clip(task, state, fitted_offsets(task, state)[0], before.samples)
    clip = replace(moved, contrast=before.contrast, albedo=before.albedo, seen=before.seen, light=before.light)
    return clip, state, spread


def _with_light(
    task: CalibrationTask, clip: ClipModel, state: BundleState, pictures: Sequence[list[ImageLevel]]
) -> tuple[ClipModel, tuple[FrameState, ...]]:
    """The clip with its appearance, and the frames' states with their light."""
    views = view_samples(clip, state.frames, pictures, task.energy.contrast_sigma_px)
    clip = with_appearance(clip, views)
    lights = frame_lights(clip, views)
    return clip, tuple(replace(one, light=light) for one, light in zip(state.frames, lights, strict=True))


def _solved_alone(
    solver: FrameSolver, frames: Sequence[FrameInput], states: Sequence[FrameState], close: bool
) -> list[FrameSolution]:
    """Every frame on its own, with the appearance at hand."""

    def solve(pair: tuple[FrameInput, FrameState]) -> FrameSolution:
        return solver.solve(*pair, None, solver.clip.light, close=close)

    return on_threads(solve, zip(frames, states, strict=True))


def _explained(solutions: Sequence[FrameSolution], least: float) -> list[int] | None:
    """Places of the frames whose picture and common appearance correlate by at least `least`; None for all of them.

    None, too, where fewer than three would be left: then it is the appearance that is wrong.
    """
    places = [place for place, solution in enumerate(solutions) if not solution.correlation < least]
    return places if 3 <= len(places) < len(solutions) else None


def _shared_colours(
    solver: FrameSolver, state: BundleState, pictures: Sequence[ImageLevel], level: int
) -> SharedColours | None:
    """What all frames see of the surface at a level, weighted as each sees it now; None where one sees too little."""

    def view(pair: tuple[ImageLevel, FrameState]) -> ColourView | None:
        picture, one = pair
        seen = solver.visible(one)
        if seen is None:
            return None
        term = solver.contrast_term(picture, level, one, seen)
        weight = term.robust_scale(term.residual(one, solver.clip.intrinsics))[1] * term.inverse_variance
        assert term.axes is not None
        return ColourView(seen.ids, picture, term.axes, weight)

    found = on_threads(view, zip(pictures, state.frames, strict=True))
    views = tuple(one for one in found if one is not None)
    return SharedColours(solver.clip.samples.template, views) if len(views) == len(found) else None


def _contours(task: CalibrationTask, state: BundleState) -> tuple[ContourTerm, ...]:
    """The outline of every frame as it is now; none where it does not count."""
    if task.settings.contour_weight == 0 or any(frame.matte is None for frame in task.frames):
        return ()

    def one(pair: tuple[FrameInput, FrameState]) -> ContourTerm:
        frame, own = pair
        assert frame.matte is not None
        outline = find_outline(task.model, state.shape, own, state.intrinsics, frame.matte)
        points = point_template(task.model, outline.faces, outline.bary)
        sigma = _CONTOUR_SIGMA_PX
        return ContourTerm(points, outline.targets_px, outline.normals_px, sigma, task.settings.contour_weight)

    return tuple(on_threads(one, zip(task.frames, state.frames, strict=True)))


def _log_focal_std(problem: BundleProblem, state: BundleState) -> float:
    """Posterior standard deviation of the log focal length, all else marginalised; NaN where singular, 0 where held.

    The solve's own covariance takes the samples' errors for independent, which they are not, and knows nothing of what
    the model itself gets wrong (docs/solver.md).
    """
    covariance = problem.linearise(state).shared_covariance()
    at = len(state.shape)
    if covariance is None or problem.shared.log_focal_std == 0:
        return float("nan") if covariance is None else 0.0
    return math.hypot(_CAUTION * math.sqrt(float(covariance[at, at])), _MODEL_LOG_FOCAL_STD)


def _clip(task: CalibrationTask, state: BundleState, offsets_m: Tensor, samples: SampleSet) -> ClipModel:
    """The clip with the geometry of a joint solve, appearance still blank."""
    count = len(samples.surface)
    return ClipModel(
        model=task.model,
        shape=state.shape,
        intrinsics=state.intrinsics,
        size=(task.frames[0].image.shape[0], task.frames[0].image.shape[1]),
        landmarks=task.landmarks,
        landmark_points=task.landmarks.template.with_shape(state.shape).moved(offsets_m),
        samples=samples,
        sample_points=samples.template.with_shape(state.shape),
        contrast=torch.zeros(task.tracking.levels, count, 3),
        albedo=torch.zeros(count, 3),
        seen=torch.zeros(count),
        light=neutral_state(task.model).light,
        depth_m=float(torch.stack([frame.t[2] for frame in state.frames]).median()),
    )
