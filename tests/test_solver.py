"""The solver on small problems whose answer is known: every outcome, bounds on steps, and falling costs."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tracker.normal_equations import NormalEquations
from tracker.solver import SolverSettings, minimise


@dataclass(frozen=True)
class _Residuals:
    """Least squares of a residual function, linearised by autograd."""

    function: object
    size: int

    def linearise(self, state: Tensor) -> NormalEquations:
        jacobian = torch.autograd.functional.jacobian(self.function, state)
        residual = self.function(state)
        equations = NormalEquations.zero(torch.ones(self.size, dtype=torch.float64))
        ones = torch.ones(len(residual), dtype=torch.float64)
        equations.add(residual[:, None], jacobian[:, None], ones, residual.square())
        return equations

    def cost(self, state: Tensor) -> float:
        return 0.5 * float(self.function(state).square().sum())

    def retract(self, state: Tensor, step: Tensor) -> Tensor:
        return state + step


def _rosenbrock(x: Tensor) -> Tensor:
    return torch.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def _start(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


TIGHT = SolverSettings(max_steps=100, step_tolerance=1e-9, cost_tolerance=1e-14)


def test_rosenbrock_valley_is_followed_to_its_end() -> None:
    solution = minimise(_Residuals(_rosenbrock, 2), _start(-1.2, 1.0), TIGHT)
    assert solution.outcome.status == "converged"
    assert torch.allclose(solution.state, _start(1, 1), atol=1e-6)
    costs = solution.outcome.costs
    assert costs[0] == pytest.approx(12.1)
    assert all(later <= earlier for earlier, later in pairwise(costs))
    assert costs[-1] < 1e-12
    # 37 measured; steepest descent takes thousands.
    assert solution.outcome.steps < 60


def test_a_linear_problem_takes_one_step_and_one_to_notice() -> None:
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0], [0.0, 1.0]], dtype=torch.float64)
    b = _start(1, 2, 3)
    solution = minimise(_Residuals(lambda x: A @ x - b, 2), _start(5, -7), SolverSettings(max_steps=10, damping=1e-12))
    assert solution.outcome.status == "converged"
    assert solution.outcome.steps <= 3
    assert torch.allclose(solution.state, torch.linalg.lstsq(A, b[:, None]).solution[:, 0], atol=1e-8)


def test_damping_falls_where_the_model_holds_and_rises_where_it_fails() -> None:
    easy = minimise(_Residuals(lambda x: x - 1, 1), _start(4.0), SolverSettings(4, 0.5, 0.0, 0.0)).outcome
    assert easy.dampings[1] == pytest.approx(0.5 / 3, rel=0.05)
    # From far out on the arctangent a Gauss-Newton step overshoots farther each time.
    hard = minimise(_Residuals(torch.atan, 1), _start(5.0), TIGHT)
    assert hard.outcome.dampings[1] == pytest.approx(2 * TIGHT.damping)
    assert hard.outcome.dampings[2] == pytest.approx(8 * TIGHT.damping)
    assert abs(float(hard.state)) < 1e-6
    assert hard.outcome.status == "converged"


def test_step_limit_is_kept() -> None:
    solution = minimise(_Residuals(_rosenbrock, 2), _start(-1.2, 1.0), SolverSettings(max_steps=12, cost_tolerance=0))
    assert solution.outcome.status == "max iterations"
    assert solution.outcome.steps == 12
    assert solution.outcome.costs[-1] < solution.outcome.costs[0]


def test_no_steps_give_back_the_start() -> None:
    start = _start(-1.2, 1.0)
    solution = minimise(_Residuals(_rosenbrock, 2), start, SolverSettings(max_steps=0))
    assert solution.state is start
    assert solution.outcome.status == "max iterations"
    assert solution.outcome.costs == (pytest.approx(12.1),)


def test_a_start_that_is_not_finite_is_said() -> None:
    solution = minimise(_Residuals(torch.log, 1), _start(-1.0), SolverSettings())
    assert solution.outcome.status == "non-finite"
    assert solution.outcome.steps == 0
    assert float(solution.state) == -1.0


def test_a_wall_of_nan_is_not_entered() -> None:
    # The minimum of (sqrt(x) + 1)^2 lies at x = 0, beyond which the cost is NaN.
    solution = minimise(_Residuals(lambda x: torch.sqrt(x) + 1, 1), _start(4.0), SolverSettings(max_steps=60))
    assert float(solution.state) >= 0
    assert all(math.isfinite(cost) for cost in solution.outcome.costs)
    assert solution.outcome.costs[-1] < solution.outcome.costs[0]


@dataclass(frozen=True)
class _Flawed(_Residuals):
    """A problem whose matrix is never positive definite."""

    def linearise(self, state: Tensor) -> NormalEquations:
        equations = super().linearise(state)
        equations.H = -1e12 * torch.eye(self.size, dtype=torch.float64)
        return equations


def test_a_matrix_that_stays_singular_is_said() -> None:
    start = _start(-1.2, 1.0)
    solution = minimise(_Flawed(_rosenbrock, 2), start, SolverSettings(max_steps=50))
    assert solution.outcome.status == "singular"
    assert solution.state is start


def test_an_unknown_without_data_stays() -> None:
    solution = minimise(_Residuals(lambda x: x[:1] - 3, 2), _start(0, 7), TIGHT)
    assert solution.outcome.status == "converged"
    assert torch.allclose(solution.state, _start(3, 7), atol=1e-6)


def test_frozen_unknowns_do_not_move() -> None:
    @dataclass(frozen=True)
    class Frozen(_Residuals):
        def linearise(self, state: Tensor) -> NormalEquations:
            equations = super().linearise(state)
            equations.frozen = torch.tensor([False, True])
            return equations

    solution = minimise(Frozen(_rosenbrock, 2), _start(-1.2, 1.0), TIGHT)
    assert float(solution.state[1]) == 1.0
    # With y = 1 the cost is (1 - x)^2 + 100 (1 - x^2)^2; the start lies in the left minimum's basin.
    x = float(solution.state[0])
    assert abs(-2 * (1 - x) - 400 * x * (1 - x * x)) < 1e-3


def test_normal_equations_accumulate_weighted_groups() -> None:
    generator = torch.Generator().manual_seed(0)
    residual = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    jacobian = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    weight = torch.rand(4, generator=generator, dtype=torch.float64)
    equations = NormalEquations.zero(torch.full((3,), 2.0, dtype=torch.float64))
    equations.add(residual, jacobian, weight, residual.square().sum(1))
    H = torch.einsum("n,ndi,ndj->ij", weight, jacobian, jacobian)
    assert torch.allclose(equations.H, H)
    assert torch.allclose(equations.g, torch.einsum("n,ndi,nd->i", weight, jacobian, residual))
    assert equations.cost == pytest.approx(0.5 * float(residual.square().sum()))
    step = equations.step(0.0)
    assert step is not None
    assert torch.allclose(H @ step, -equations.g, atol=1e-9)
    assert equations.predicted_decrease(step) == pytest.approx(-0.5 * float(equations.g @ step))
    assert equations.relative_length(step) == pytest.approx(float((step / 2).square().mean().sqrt()))


def test_the_last_linearisation_is_handed_out() -> None:
    """At the state, or one accepted step before it."""
    problem = _Residuals(_rosenbrock, 2)
    for steps in range(8):
        solution = minimise(problem, _start(-1.2, 1.0), SolverSettings(max_steps=steps, cost_tolerance=0))
        assert torch.equal(solution.equations.H, problem.linearise(solution.linearised).H)
        assert solution.equations.cost in solution.outcome.costs[-2:]
        assert solution.equations.cost == pytest.approx(problem.cost(solution.linearised))


@dataclass(frozen=True)
class _Misled(_Residuals):
    """Normal equations that lead to one, of a cost that is least elsewhere."""

    least: float = 0.9

    def linearise(self, state: Tensor) -> NormalEquations:
        equations = super().linearise(state)
        equations.cost = self.cost(state)
        return equations

    def cost(self, state: Tensor) -> float:
        return 1 + 0.5 * float((state - self.least).square().sum())


@pytest.mark.parametrize(("slack", "start", "arrives"), [(0.0, 0.95, False), (0.05, 0.95, True), (0.05, 0.5, False)])
def test_slack_lets_the_gradient_lead_but_not_far_uphill(slack: float, start: float, arrives: bool) -> None:
    """The cost rises by 0.4 % from 0.95 to 1, and by 17 % from 0.5."""
    problem = _Misled(lambda x: x - 1, 1, start - 0.05)
    solution = minimise(problem, _start(start), SolverSettings(max_steps=8, step_tolerance=1e-6, slack=slack))
    assert (abs(float(solution.state) - 1) < 1e-3) == arrives
    assert problem.cost(solution.state) <= (1 + slack) * problem.cost(_start(start))


def test_slack_spends_no_steps_on_steps_that_go_too_far() -> None:
    """Normal equations that take the valley for ten times as flat as it is: two tries for the first of two steps."""

    @dataclass(frozen=True)
    class _TooFlat(_Residuals):
        def linearise(self, state: Tensor) -> NormalEquations:
            equations = super().linearise(state)
            return replace(equations, H=equations.H / 10)

    problem = _TooFlat(lambda x: x - 1, 1)
    settings = SolverSettings(max_steps=2, damping=0.1, step_tolerance=1e-9)
    patient = minimise(problem, _start(0.0), replace(settings, slack=0.05))
    assert patient.outcome.dampings[:2] == pytest.approx((0.1, 1.0))
    assert len(patient.outcome.costs) == 3
    assert len(minimise(problem, _start(0.0), settings).outcome.costs) == 1
