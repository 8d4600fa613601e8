"""Calibration of a clip: geometry from landmarks, then appearance, and all of it together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tracker.appearance_fit import view_samples, with_appearance
from tracker.bundle import BundleProblem, BundleState
from tracker.camera import Intrinsics
from tracker.clip import (
    ClipModel,
    FrameInput,
    SampleSet,
    landmark_facing,
    landmark_term,
)
from tracker.frame_solver import FrameSolution, FrameSolver
from tracker.head.model import vertex_normals
from tracker.image import ImageLevel, pyramid
from tracker.joint_problem import (
    NARROW_SHAPE,
    CalibrationTask,
    bundle_problem,
    contours,
    focal_spread,
    joint_landmarks,
    offset_std,
    shared_colours,
)
from tracker.landmark_set import LandmarkSet
from tracker.pose import initial_pose
from tracker.residuals.projection import linearise_projection
from tracker.samples import face_samples
from tracker.solver import Outcome, SolverSettings, minimise
from tracker.state import FrameState, neutral_state
from tracker.threads import on_threads

# Rounds after which frames that the appearance does not explain are dropped.
_DROPPING_ROUNDS = 2
# Rounds whose joint solve works on a coarse level, the coarsest first. Where the landmarks' response to the identity is
# not measured, FLAME's modes gain nothing by the second one and lose by the wider spread below (docs/results.md).
_COARSE_ROUNDS = 2
_COARSE_ROUNDS_UNMEASURED = 1
# The joint solve's gradient is that of its cost but for noise (`tracker.residuals.shared_colours`). It goes to where
# that vanishes, out of the noise's own minimum, in which the frames alone have ended: a round's cost rose by up to 4 %
# (six clips with truth).
_SLACK = 0.05
# Rounds of a refinement with more frames: it starts close.
_REFINING_ROUNDS = 2


@dataclass(frozen=True, eq=False)
class GeometrySolution:
    """Result of the landmark solve.

    Attributes:
        state: all unknowns.
        landmarks: those of the joint solve.
        offsets_m: (N, 3) offsets of all landmarks.
        outcome: how the solve ended.
        reprojection_px: median landmark error over the calibration frames.
    """

    state: BundleState
    landmarks: LandmarkSet
    offsets_m: Tensor
    outcome: Outcome
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
    shape_std = task.settings.landmark_shape_std
    problem = bundle_problem(task, state, chosen, shape_std, free_offsets=False, with_colours=False)
    state = minimise(problem, state, SolverSettings(max_steps=15, cost_tolerance=1e-3)).state
    problem = bundle_problem(task, state, chosen, shape_std, free_offsets=True, with_colours=False)
    solution = minimise(problem, state, SolverSettings(max_steps=30, cost_tolerance=1e-4))
    state = solution.state
    offsets_m, errors = fitted_offsets(task, state)
    return GeometrySolution(state, chosen, offsets_m, solution.outcome, float(errors.median()))


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


def solve_appearance(task: CalibrationTask, geometry: GeometrySolution) -> Calibration:
    """Appearance, light, and all geometry again with the pictures.

    Each round unwraps the appearance with the poses at hand, solves every frame with it, and then solves all frames
    jointly with the appearance eliminated; there identity and camera move too. The first joint solves work on coarse
    levels, the others on the finest: started there, they end in a nearer and worse minimum (docs/solver.md). Identity,
    camera and poses are all that is kept of the coarse ones: their wide local means reach over lids and lips.
    Frames that the common appearance does not explain (a hand before the face) are dropped in the first rounds.
    """
    kept = tuple(range(len(task.frames)))
    state, l1 = geometry.state, float("nan")
    samples = SampleSet.of(task.model, face_samples(task.model, task.settings.samples))
    pictures = [pyramid(frame.image, task.tracking.levels) for frame in task.frames]
    clip = _clip(task, state, geometry.offsets_m, samples)
    coarse = _COARSE_ROUNDS if task.landmarks.follow_identity else _COARSE_ROUNDS_UNMEASURED
    coarse = min(coarse, task.tracking.levels - 1, task.settings.rounds - 1)
    for turn in range(task.settings.rounds):
        level = max(coarse - turn, 0)
        if 0 < turn == coarse:
            state = _face_as_before(state, [geometry.state.frames[place] for place in kept])
            clip = _clip(task, state, fitted_offsets(task, state)[0], samples)
        clip, lit = _unwrapped(task, clip, state.frames, pictures)
        state = replace(state, frames=lit)
        solver = FrameSolver(clip, task.energy, task.tracking, task.held)
        solutions = _solved_alone(solver, task.frames, state.frames, close=turn > 0 and level == 0)
        state = replace(state, frames=tuple(solution.state for solution in solutions))
        # Under a light that moves, poses from landmarks alone are not enough to tell who is covered.
        judged = turn < _DROPPING_ROUNDS and (turn > 0 or clip.response is None)
        explained = _explained(solutions, task.tracking.poor_correlation) if judged else None
        if explained is not None:
            kept = tuple(kept[place] for place in explained)
            task = replace(task, frames=tuple(task.frames[place] for place in explained))
            pictures = [pictures[place] for place in explained]
            state = replace(state, frames=tuple(state.frames[place] for place in explained))
            solutions = [solutions[place] for place in explained]
        l1 = float(np.nanmean([solution.photometric_l1 for solution in solutions]))
        wide = turn > 0
        clip, state, problem = _solved_jointly(task, geometry.landmarks, (solver, state), pictures, level, wide)
    spread = focal_spread(problem, state)
    offsets_m = fitted_offsets(task, state)[0]
    clip, lit = _for_tracking(task, state, offsets_m, pictures)
    return Calibration(clip, offsets_m, state.offsets, lit, geometry, l1, spread, kept)


def _face_as_before(state: BundleState, before: Sequence[FrameState]) -> BundleState:
    """Identity, camera and poses of a state; what moves within the face from others, landmark offsets at their mean."""
    frames = tuple(
        replace(old, R=new.R, t=new.t, light=new.light) for new, old in zip(state.frames, before, strict=True)
    )
    return replace(state, frames=frames, offsets=torch.zeros_like(state.offsets))


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
    starts = tuple(replace(start, light=calibration.clip.light) for start in starts)
    solutions = _solved_alone(solver, more, starts, close=False)
    used = [k for k, solution in enumerate(solutions) if solution.correlation >= task.tracking.poor_correlation]
    frames = [task.frames[place] for place in calibration.kept] + [more[k] for k in used]
    kept = calibration.kept + tuple(len(task.frames) + k for k in used)
    states = calibration.states + tuple(solutions[k].state for k in used)
    task = replace(task, frames=tuple(frames))
    pictures = [pyramid(frame.image, task.tracking.levels) for frame in frames]
    found = calibration.clip
    state = BundleState(found.shape, found.intrinsics, calibration.offsets, states)
    samples = SampleSet.of(task.model, face_samples(task.model, task.settings.samples))
    clip = _clip(task, state, calibration.offsets_m, samples)
    for _ in range(_REFINING_ROUNDS):
        clip, lit = _unwrapped(task, clip, state.frames, pictures)
        state = replace(state, frames=lit)
        solver = FrameSolver(clip, task.energy, task.tracking, task.held)
        clip, state, problem = _solved_jointly(task, calibration.geometry.landmarks, (solver, state), pictures)
    spread = focal_spread(problem, state)
    offsets_m = fitted_offsets(task, state)[0]
    clip, lit = _for_tracking(task, state, offsets_m, pictures)
    return replace(
        calibration,
        clip=clip,
        offsets_m=offsets_m,
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
    wide: bool = True,
) -> tuple[ClipModel, BundleState, BundleProblem]:
    """Clip and state after a joint solve at a pyramid level, and what was solved.

    With `wide` the identity has its full spread where its landmarks were measured, else a share of it.
    """
    solver, state = start
    share = 1.0 if wide and task.landmarks.follow_identity else NARROW_SHAPE
    shape_std = share * task.settings.shape_std
    problem = bundle_problem(task, state, landmarks, shape_std, free_offsets=True, with_colours=True)
    colours = shared_colours(solver, state, [levels[level] for levels in pictures], level)
    if colours is not None:
        problem = replace(problem, colours=colours, contours=contours(task, state))
        state = minimise(problem, state, SolverSettings(max_steps=task.settings.joint_steps, slack=_SLACK)).state
    before = solver.clip
    moved = _clip(task, state, fitted_offsets(task, state)[0], before.samples)
    clip = replace(
        moved,
        contrast=before.contrast,
        albedo=before.albedo,
        seen=before.seen,
        light=before.light,
        response=before.response,
    )
    return clip, state, problem


def _for_tracking(
    task: CalibrationTask, state: BundleState, offsets_m: Tensor, pictures: Sequence[list[ImageLevel]]
) -> tuple[ClipModel, tuple[FrameState, ...]]:
    """The clip with the samples that tracking uses and their appearance, and the frames' states with their light."""
    clip = _clip(task, state, offsets_m, SampleSet.of(task.model, face_samples(task.model, task.tracking.samples)))
    return _unwrapped(task, clip, state.frames, pictures)


def _unwrapped(
    task: CalibrationTask, clip: ClipModel, states: Sequence[FrameState], pictures: Sequence[list[ImageLevel]]
) -> tuple[ClipModel, tuple[FrameState, ...]]:
    """The clip with the appearance that its frames show, and the frames' states with their light."""
    clip, lights = with_appearance(clip, view_samples(clip, states, pictures, task.energy.contrast_sigma_px))
    return clip, tuple(replace(one, light=light) for one, light in zip(states, lights, strict=True))


def _solved_alone(
    solver: FrameSolver, frames: Sequence[FrameInput], states: Sequence[FrameState], close: bool
) -> list[FrameSolution]:
    """Every frame on its own, with the appearance at hand."""

    def solve(pair: tuple[FrameInput, FrameState]) -> FrameSolution:
        return solver.solve(*pair, None, pair[1].light, close=close)

    return on_threads(solve, zip(frames, states, strict=True))


def _explained(solutions: Sequence[FrameSolution], least: float) -> list[int] | None:
    """Places of the frames whose picture and common appearance correlate by at least `least`; None for all of them.

    None, too, where fewer than three would be left: then it is the appearance that is wrong.
    """
    places = [place for place, solution in enumerate(solutions) if not solution.correlation < least]
    return places if 3 <= len(places) < len(solutions) else None


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
