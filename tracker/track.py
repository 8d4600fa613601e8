"""The track of a clip: prediction, solve, judgement, frame by frame."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from tracker.clip import FrameInput
from tracker.frame_solver import FrameSolution, FrameSolver
from tracker.kernels.rotations import exp_so3, log_so3
from tracker.landmark_set import COUNT, inter_ocular_px
from tracker.pose import initial_pose
from tracker.residuals.prior import GaussianTerm
from tracker.residuals.projection import project_state
from tracker.settings import TrackingSettings
from tracker.smoother import RawFrame
from tracker.state import FrameState, neutral_state

# Share of the last motion that the prediction carries on: heads decelerate more often than not.
_VELOCITY = 0.7
# A head that moved more than this from one frame to the next did not move: a cut lies between, or it was lost.
_FASTEST_M = 0.05
_FASTEST_RAD = 0.5
# Farther than this (inter-ocular distances) from the prediction, the head has jumped (a cut, a lost stretch).
_JUMP = 0.5
# Where the correlation falls by more than this from one frame to the next, the landmarks may have led away; where it is
# by more than this better without them, they have.
_DOUBTFUL_FALL = 0.15
_WORTH_LEAVING = 0.1
# How far landmarks may be off where the correlation is sure, times where it is not: in profile a detector guesses the
# half of its points that are hidden.
_SURE_LIMIT = 3.0


@dataclass(frozen=True, eq=False)
class Past:
    """What the next frame needs of those before; enough to go on exactly after a restart.

    Attributes:
        last: state of the frame before, or None at the start.
        before: state of the one before that, or None.
        status: status of the frame before: 'ok', 'poor', 'lost' or '' at the start.
        correlation: of the frame before, NaN where there is none.
    """

    last: FrameState | None
    before: FrameState | None
    status: str
    correlation: float = math.nan

    def then(self, state: FrameState, status: str, correlation: float) -> "Past":
        """The past of the next frame."""
        return Past(state, self.last if self.status != "lost" else None, status, correlation)

    def behind(self, tracked: "TrackedFrame") -> "Past":
        """The past of the next frame, behind one that has been tracked."""
        return self.then(tracked.state, tracked.status, tracked.solution.correlation)


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """One frame of the track.

    Attributes:
        state: its unknowns.
        status: 'ok', 'poor' or 'lost'.
        solution: how it was found.
        landmarks478: (478, 2) fitted points, pixels, NaN where the model has none.
        reprojection_px: median distance to the detected points, NaN without a face.
        cut: the detected face is far from the prediction: nothing links the frame with those before.
    """

    state: FrameState
    status: str
    solution: FrameSolution
    landmarks478: np.ndarray
    reprojection_px: float
    cut: bool = False

    def raw(self) -> RawFrame:
        """What the smoother needs of the frame; what a lost frame's picture said is not trusted."""
        evidence = None if self.status == "lost" else self.solution.evidence
        return RawFrame(self.state, evidence, self.cut, self.status == "poor")


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where a frame's solve starts.

    Attributes:
        start: its first state, or None where nothing can be solved: no face, and none before.
        predicted: what the frames before say, or None.
        linked: time pulls to the prediction.
        jumped: the detected face is far from the prediction.
    """

    start: FrameState | None
    predicted: FrameState | None
    linked: bool
    jumped: bool


def track_frame(solver: FrameSolver, frame: FrameInput, past: Past) -> TrackedFrame:
    """Tracks one frame.

    Args:
        solver: of the calibrated clip.
        frame: picture and detections.
        past: the frames before.

    Returns:
        The tracked frame. A frame that cannot be tracked keeps the predicted state and says 'lost'.
    """
    beginning = begin_frame(solver, frame, past)
    solution = None
    if beginning.start is not None:
        linked = beginning.predicted if beginning.linked else None
        temporal = None if linked is None else temporal_term(solver, linked)
        solution = solver.solve(frame, beginning.start, temporal, beginning.start.light)
        solution = second_opinion(solver, frame, past, beginning, solution)
    return end_frame(solver, frame, past, beginning, solution)


def second_opinion(
    solver: FrameSolver, frame: FrameInput, past: Past, beginning: Beginning, solution: FrameSolution
) -> FrameSolution:
    """A frame's solution, or one without its landmarks where that explains the picture and this one suddenly does not.

    Far in profile all points of a detector may be off together; they then draw the head to where every sample is an
    outlier, and the colours can no longer say so.
    """
    start, found = beginning.start, _known(solution.correlation)
    if start is None or not beginning.linked or frame.dense_px is None:
        return solution
    if not found < past.correlation - _DOUBTFUL_FALL:
        return solution
    alone = replace(frame, dense_px=None, sparse_px=None)
    other = solver.solve(alone, start, temporal_term(solver, start), start.light)
    better = _known(other.correlation) > found + _WORTH_LEAVING and not other.failed
    return other if better else solution


def _known(correlation: float) -> float:
    """A correlation; the least one where too few samples are seen to have any."""
    return -1.0 if math.isnan(correlation) else correlation


def begin_frame(solver: FrameSolver, frame: FrameInput, past: Past) -> Beginning:
    """Where a frame starts: at the prediction, or anew from its landmarks after a lost frame, a jump, or nothing."""
    predicted = predict(past)
    jumped = predicted is not None and _jumped(solver, frame, predicted)
    if predicted is None or past.status == "lost" or jumped:
        return Beginning(_restart(solver, frame, past.last), predicted, False, jumped)
    return Beginning(predicted, predicted, True, False)


def end_frame(
    solver: FrameSolver, frame: FrameInput, past: Past, beginning: Beginning, solution: FrameSolution | None
) -> TrackedFrame:
    """Judges a frame; `solution` is None where there was no start."""
    if solution is None:
        state = (
            past.last if past.last is not None else replace(neutral_state(solver.clip.model), light=solver.clip.light)
        )
        return _judged(solver, frame, FrameSolution(state, (), float("nan"), float("nan")))
    tracked = replace(_judged(solver, frame, solution), cut=beginning.jumped)
    predicted = beginning.predicted
    if tracked.status == "lost" and predicted is not None:
        # What was found is not trusted: the bridge is the prediction, and the status says so.
        held = replace(tracked.solution, state=predicted)
        return replace(tracked, state=predicted, solution=held, landmarks478=fitted478(solver, predicted))
    return tracked


def predict(past: Past) -> FrameState | None:
    """Damped constant velocity of the pose, none across a cut; everything else stays."""
    if past.last is None or past.before is None or past.status == "lost":
        return past.last
    # In numpy, whose small operations take a third of torch's time.
    R, t = past.last.R.numpy(), past.last.t.numpy()
    turn = log_so3((R @ past.before.R.numpy().T)[None])
    motion = t - past.before.t.numpy()
    if np.linalg.norm(motion) > _FASTEST_M or np.linalg.norm(turn) > _FASTEST_RAD:
        return past.last
    turned, moved = exp_so3(_VELOCITY * turn)[0] @ R, t + _VELOCITY * motion
    return replace(past.last, R=torch.from_numpy(turned), t=torch.from_numpy(moved))


def temporal_term(solver: FrameSolver, predicted: FrameState) -> GaussianTerm:
    """Pull to the prediction."""
    return GaussianTerm(predicted, solver.change_inverse_std)


def _jumped(solver: FrameSolver, frame: FrameInput, predicted: FrameState) -> bool:
    """Whether the detected face is far from the predicted one."""
    if frame.dense_px is None:
        return False
    fitted = project_state(solver.landmark_points, predicted, solver.clip.intrinsics)
    targets = solver.clip.landmarks.targets(frame.dense_px, frame.sparse_px)
    distance_px = np.linalg.norm(fitted.numpy() - targets.numpy(), axis=1)
    return float(np.median(distance_px)) > _JUMP * inter_ocular_px(frame.dense_px)


def _restart(solver: FrameSolver, frame: FrameInput, last: FrameState | None) -> FrameState | None:
    """A state from this frame's landmarks alone, or None without a face."""
    if frame.dense_px is None:
        return None
    clip = solver.clip
    targets = clip.landmarks.targets(frame.dense_px, frame.sparse_px).numpy()
    R, t = initial_pose(clip.landmark_points.rest.numpy(), targets, clip.intrinsics)
    light = clip.light if last is None else last.light
    return replace(neutral_state(clip.model), R=torch.from_numpy(R), t=torch.from_numpy(t), light=light)


def _judged(solver: FrameSolver, frame: FrameInput, solution: FrameSolution) -> TrackedFrame:
    """Status of a solved frame from its landmarks and colours."""
    fitted = fitted478(solver, solution.state)
    status, reprojection = judge(solver.tracking, fitted, frame.dense_px, solution.correlation)
    if not solution.state.is_finite() or solution.failed:
        status = "lost"
    return TrackedFrame(solution.state, status, solution, fitted, reprojection)


def judge(
    tracking: TrackingSettings, fitted_px: np.ndarray, dense_px: np.ndarray | None, correlation: float
) -> tuple[str, float]:
    """Status of a frame, and its landmark error.

    Args:
        tracking: limits.
        fitted_px: (478, 2) fitted points, NaN where the model has none.
        dense_px: (478, 2) detected points, or None where no face was found.
        correlation: of picture and appearance.

    Returns:
        'ok', 'poor' or 'lost', and the median distance of fitted and detected points in pixels, NaN without a face.
    """
    if dense_px is None:
        # Colours alone can bridge a detector's gap, but a frame without a detection is never called good.
        return "poor" if correlation >= tracking.lost_correlation else "lost", float("nan")
    reprojection = float(np.nanmedian(np.linalg.norm(fitted_px - dense_px, axis=1)))
    limit = tracking.poor_reprojection * inter_ocular_px(dense_px)
    if correlation >= tracking.sure_correlation:
        # The picture says that it is the detector that errs.
        limit *= _SURE_LIMIT
    return "poor" if reprojection > limit or correlation < tracking.poor_correlation else "ok", reprojection


def fitted478(solver: FrameSolver, state: FrameState) -> np.ndarray:
    """Fitted FaceMesh points (478, 2), float32 pixels, NaN where the model has none."""
    clip = solver.clip
    points = np.full((COUNT, 2), np.nan, np.float32)
    pixels = project_state(clip.landmark_points, state, clip.intrinsics)
    points[clip.landmarks.dense.numpy()] = pixels[: len(clip.landmarks.dense)].numpy()
    return points
