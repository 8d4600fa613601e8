"""Levenberg-Marquardt on B frames in step with each other; rules and limits of `tracker.solver`.

Every frame has its own damping and takes or leaves its own step. A frame that has ended rests while the others go on.
Nothing in the loop is asked by the host: the number of steps is fixed, decisions are masks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.batched.equations import BatchEquations, bounded_step, box, difference, gaussians, gaussians_cost
from tracker.batched.state import BatchState
from tracker.batched.terms import BatchContrast, BatchLandmarks
from tracker.camera import Intrinsics
from tracker.solver import MAX_DAMPING, Outcome, SolverSettings
from tracker.state import Layout

# How a frame ended, by number.
STATUS = ("max iterations", "converged", "singular", "non-finite")
_MAX_ITERATIONS, _CONVERGED, _SINGULAR, _NON_FINITE = range(4)


@dataclass(frozen=True, eq=False)
class Fixed:
    """What all frames of a clip share.

    Attributes:
        lens: of the full picture.
        prior: state of one frame, the mean of the priors; its rows serve all frames.
        prior_inverse_std: (P,).
        temporal_inverse_std: (P,).
        gaze: (4, 4) matrix of the symmetry of gaze over both eyes' yaw and pitch.
        limits: (P, 2) lowest and highest value of each unknown.
        scale: (P,) standard deviations by which steps are measured.
        held: (P,) bool, not solved for.
    """

    lens: Intrinsics
    prior: BatchState
    prior_inverse_std: Tensor
    temporal_inverse_std: Tensor
    gaze: Tensor
    limits: Tensor
    scale: Tensor
    held: Tensor


@dataclass(frozen=True, eq=False)
class BatchProblem:
    """The energy of B frames: `tracker.problem.FrameProblem` for each.

    Attributes:
        fixed: priors, bounds, camera.
        predicted: (B) states that time pulls to.
        pull: (B, P) reciprocal standard deviations of that; zero where it does not.
        landmarks: landmark terms.
        contrast: photometric terms of one level, or None.
    """

    fixed: Fixed
    predicted: BatchState
    pull: Tensor
    landmarks: BatchLandmarks
    contrast: BatchContrast | None

    def linearise(self, state: BatchState) -> BatchEquations:
        """Normal equations of all terms."""
        equations = self.landmarks.linearise(state, self.fixed.lens)
        if self.contrast is not None:
            equations = equations + self.contrast.linearise(state, self.fixed.lens)
        eyes = state.eyes.flatten(1)
        pull = eyes @ self.fixed.gaze
        pad = (Layout.eyes.start, state.expression.shape[1] + 2)
        H = torch.nn.functional.pad(self.fixed.gaze, (*pad, *pad))
        gaze = BatchEquations(H, torch.nn.functional.pad(pull, pad), 0.5 * (pull * eyes).sum(1))
        return equations + gaze + gaussians(state, (self._prior, self._time))

    def cost(self, state: BatchState) -> Tensor:
        """(B,) robust cost of all terms."""
        cost = self.landmarks.cost(state, self.fixed.lens)
        if self.contrast is not None:
            cost = cost + self.contrast.cost(state, self.fixed.lens)
        eyes = state.eyes.flatten(1)
        return cost + 0.5 * ((eyes @ self.fixed.gaze) * eyes).sum(1) + gaussians_cost(state, (self._prior, self._time))

    def temporal(self, state: BatchState) -> BatchEquations:
        """The pull to the prediction alone; nothing for a frame on its own."""
        return gaussians(state, (self._time,))

    @property
    def _prior(self) -> tuple[BatchState, Tensor]:
        return self.fixed.prior, self.fixed.prior_inverse_std

    @property
    def _time(self) -> tuple[BatchState, Tensor]:
        return self.predicted, self.pull

    def step(self, state: BatchState, equations: BatchEquations, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Damped steps (B, P) within the bounds, and (B,) whether there was one."""
        fixed = self.fixed
        diagonal = torch.diagonal(equations.H, dim1=1, dim2=2)
        damped = equations.H + torch.diag_embed(damping[:, None] * (diagonal + fixed.scale**-2))
        return bounded_step(damped, equations.g, *box(state, fixed.limits, fixed.held, equations.g))


@dataclass(frozen=True, eq=False)
class BatchSolution:
    """The best states found.

    Attributes:
        state: of each frame.
        equations: of each frame's last linearisation.
        linearised: where that was.
        status: (B,) ids into `STATUS`.
        costs: (B, S + 1) cost at the start and after each step; NaN where a step was not tried or not taken.
        dampings: (B, S) damping of each tried step; NaN where a frame rested.
    """

    state: BatchState
    equations: BatchEquations
    linearised: BatchState
    status: Tensor
    costs: Tensor
    dampings: Tensor

    def where(self, mask: Tensor, other: "BatchSolution") -> "BatchSolution":
        """State, equations and their place of this one for the frames of a (B,) mask, of the other for the rest."""
        return BatchSolution(
            self.state.where(mask, other.state),
            self.equations.where(mask, other.equations),
            self.linearised.where(mask, other.linearised),
            self.status,
            self.costs,
            self.dampings,
        )

    @property
    def history(self) -> Tensor:
        """(B, 2 S + 2) status, costs and dampings in a row, for `outcomes`."""
        return torch.cat([self.status[:, None], self.costs, self.dampings], 1)


def minimise(problem: BatchProblem, start: BatchState, asked: Tensor, settings: SolverSettings) -> BatchSolution:
    """Minimises B problems.

    Args:
        problem: of the frames.
        start: first states.
        asked: (B,) bool, the frames to be solved; the others keep their state.
        settings: limits.

    Returns:
        The lowest states seen.
    """
    state, linearised, equations = start, start, problem.linearise(start)
    cost = equations.cost
    damping, growth = torch.full_like(cost, settings.damping), torch.full_like(cost, 2.0)
    finite = torch.isfinite(cost)
    status = torch.where(finite, _MAX_ITERATIONS, _NON_FINITE)
    running, missing = asked & finite, torch.full_like(cost, torch.nan)
    costs, dampings = [torch.where(asked, cost, missing)], []
    for number in range(settings.max_steps):
        dampings.append(torch.where(running, damping, missing))
        step, solved = problem.step(state, equations, damping)
        candidate = state.retract(step, problem.fixed.limits)
        # The next step linearises where this one ends; the last one asks only whether it is taken.
        following = problem.linearise(candidate) if number + 1 < settings.max_steps else None
        trial = problem.cost(candidate) if following is None else following.cost
        short = (step / problem.fixed.scale).square().mean(1).sqrt() < settings.step_tolerance
        tried = running & solved
        better = tried & torch.isfinite(trial) & (trial <= cost)
        worse = tried & ~better
        small = better & (cost - trial < settings.cost_tolerance * cost)
        gain = (cost - trial) / equations.predicted_decrease(step).clamp_min(1e-30)
        state, cost = candidate.where(better, state), torch.where(better, trial, cost)
        costs.append(torch.where(better, trial, missing))
        if following is not None:
            equations, linearised = following.where(better, equations), candidate.where(better, linearised)
        # Nielsen's damping; a matrix that was not positive definite is damped a hundred times as much.
        stuck = running & ~solved
        singular = stuck & (damping >= MAX_DAMPING)
        easier = damping * (1 - (2 * gain.clamp(-1, 1) - 1) ** 3).clamp_min(1 / 3)
        damping = torch.where(better, easier, torch.where(worse, damping * growth, damping))
        damping = torch.where(stuck, damping * 100, damping)
        growth = torch.where(better, 2.0, torch.where(worse, growth * 2, growth))
        hopeless = worse & (damping > MAX_DAMPING)
        ended = (tried & short) | small | (hopeless & torch.isfinite(trial))
        status = torch.where(ended, _CONVERGED, status)
        status = torch.where(singular, _SINGULAR, torch.where(hopeless & ~ended, _NON_FINITE, status))
        running = running & ~(ended | singular | hopeless)
    return BatchSolution(state, equations, linearised, status, torch.stack(costs, 1), torch.stack(dampings, 1))


def outcomes(history: Tensor, asked: list[bool]) -> list[Outcome | None]:
    """How each frame's solve ended, from `BatchSolution.history` on the host; None where it was not asked for."""
    tried = (history.shape[1] - 2) // 2
    found: list[Outcome | None] = []
    for row, wanted in zip(history, asked, strict=True):
        costs, dampings = row[1 : 2 + tried], row[2 + tried :]
        taken = costs[torch.isfinite(costs) | (torch.arange(len(costs)) == 0)]
        made = dampings[~dampings.isnan()]
        outcome = Outcome(STATUS[int(row[0])], tuple(taken.tolist()), tuple(made.tolist()))
        found.append(outcome if wanted else None)
    return found


def evidence_of(problem: BatchProblem, solution: BatchSolution) -> tuple[Tensor, Tensor]:
    """What the frames by themselves say, see `tracker.evidence.frame_evidence`: H (B, P, P) and g (B, P)."""
    pull = problem.temporal(solution.linearised)
    H, g = solution.equations.H - pull.H, solution.equations.g - pull.g
    step = difference(solution.state, solution.linearised)
    return H, g + (H @ step[..., None])[..., 0]
