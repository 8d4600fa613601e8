"""Expressions bounded to a box: the least cost inside it is found, the conditions of Karush, Kuhn and Tucker hold."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from scipy.optimize import lsq_linear
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.clip import frame_bounds, frame_prior, step_scale
from tracker.normal_equations import NormalEquations
from tracker.points import point_template
from tracker.problem import FrameProblem
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.residuals.projection import project_state
from tracker.settings import EnergySettings
from tracker.solver import SolverSettings, minimise
from tracker.state import FrameState, Layout

TIGHT = SolverSettings(max_steps=60, step_tolerance=1e-9, cost_tolerance=1e-14)
CAMERA = Intrinsics(900.0, 256.0, 256.0)
E = 53


@dataclass(frozen=True)
class _BoxedLine:
    """0.5 |A x - b|² for x in [0, 1], linearised and retracted as the frame's problem does it."""

    A: Tensor
    b: Tensor

    def linearise(self, state: Tensor) -> NormalEquations:
        equations = NormalEquations.zero(torch.ones(len(state), dtype=torch.float64))
        residual = self.A @ state - self.b
        ones = torch.ones(len(residual), dtype=torch.float64)
        equations.add(residual[:, None], self.A[:, None], ones, residual.square())
        equations.frozen = ((state <= 0) & (equations.g > 0)) | ((state >= 1) & (equations.g < 0))
        equations.lowest, equations.highest = -state, 1 - state
        return equations

    def cost(self, state: Tensor) -> float:
        return 0.5 * float((self.A @ state - self.b).square().sum())

    def retract(self, state: Tensor, step: Tensor) -> Tensor:
        return (state + step).clamp(0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_least_cost_in_the_box_is_found(seed: int) -> None:
    """53 unknowns whose free optimum lies far outside, against scipy's bounded least squares."""
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((80, E)), 4 * rng.standard_normal(80)
    free = np.linalg.lstsq(A, b, rcond=None)[0]
    assert ((free < 0) | (free > 1)).sum() > 15
    best = lsq_linear(A, b, bounds=(0, 1), tol=1e-14)
    problem = _BoxedLine(torch.from_numpy(A), torch.from_numpy(b))
    found = minimise(problem, torch.full((E,), 0.5, dtype=torch.float64), TIGHT)
    assert found.outcome.status == "converged"
    # Not stalled: 7 to 12 steps were counted.
    assert found.outcome.steps <= 20
    np.testing.assert_allclose(found.state.numpy(), best.x, atol=1e-6)


def _boxed_head(seed: int) -> tuple[FrameProblem, FrameState]:
    """A head with ICT-FaceKit's bounds whose landmarks show expressions outside of them."""
    head = random_head(seed, vertices=80, expressions=12)
    head = replace(head, expression_bounds=torch.tensor([[0.0, 1.0]]).repeat(12, 1), eyelid_bounds=(0.0, 1.0))
    points = point_template(head, head.landmarks68.faces, head.landmarks68.bary).points
    truth = random_state(head, seed)
    outside = torch.linspace(-0.8, 1.8, 12, dtype=torch.float64)
    truth = replace(truth, expression=outside, eyelids=torch.tensor([-0.5, 1.4], dtype=torch.float64))
    targets = project_state(points, truth, CAMERA)
    count = len(targets)
    ones = torch.ones(count, dtype=torch.float64)
    none = torch.zeros(0, 2, dtype=torch.long)
    term = LandmarkTerm(points, targets, 1.0, ones, none, 1.0, torch.zeros(0, dtype=torch.float64))
    energy = EnergySettings()
    problem = FrameProblem(
        intrinsics=CAMERA,
        landmarks=(term,),
        photometric=None,
        gaussians=(frame_prior(head, energy),),
        gaze=GazeSymmetryTerm(),
        bounds=frame_bounds(head),
        scale=step_scale(head, energy),
        held=torch.zeros(Layout(12).size, dtype=torch.bool),
    )
    start = replace(truth, expression=torch.full((12,), 0.3, dtype=torch.float64), eyelids=truth.eyelids.clamp(0, 1))
    return problem, problem.bounds.clamp(start)


@pytest.mark.parametrize("seed", range(3))
def test_karush_kuhn_and_tucker_hold_in_a_frame(seed: int) -> None:
    problem, start = _boxed_head(seed)
    found = minimise(problem, start, replace(TIGHT, max_steps=200))
    state = found.state
    assert found.outcome.status == "converged"
    values = torch.cat([state.eyelids, state.expression])
    assert bool(((values >= 0) & (values <= 1)).all())
    slope = problem.linearise(state).g[13:]
    at_lower, at_upper = values <= 0, values >= 1
    assert int(at_lower.sum()) >= 2
    assert int(at_upper.sum()) >= 2
    # At a bound the cost may fall only outwards; between the bounds it does not fall at all. Units: cost a unit; the
    # slopes at the start are above 1e3.
    start_slope = float(problem.linearise(start).g.abs().max())
    assert start_slope > 1e3
    assert float(slope[at_lower].min()) >= -1e-4 * start_slope
    assert float(slope[at_upper].max()) <= 1e-4 * start_slope
    between = ~at_lower & ~at_upper
    assert float(slope[between].abs().max()) < 1e-4 * start_slope
    pose = problem.linearise(state).g[:6]
    assert float(pose.abs().max()) < 1e-3 * start_slope


def test_no_start_in_the_box_ends_elsewhere() -> None:
    problem, start = _boxed_head(1)
    costs = []
    for level in (0.0, 0.5, 1.0):
        begun = replace(start, expression=torch.full((12,), level, dtype=torch.float64))
        costs.append(minimise(problem, begun, replace(TIGHT, max_steps=200)).outcome.costs[-1])
    assert max(costs) < 1.001 * min(costs)
