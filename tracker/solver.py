"""Damped Gauss-Newton (Levenberg-Marquardt) over any problem that gives its normal equations.

Source: Nocedal and Wright, Numerical Optimization, 2006, section 10.3; gain-ratio damping after Nielsen, Damping
Parameter in Marquardt's Method, IMM-REP-1999-05.
"""

import math
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

State = TypeVar("State")


@dataclass(frozen=True)
class SolverSettings:
    """Termination and damping of one solve."""

    max_steps: int = 10
    """Accepted and rejected steps together; see `slack`."""
    damping: float = 1e-4
    """First damping, relative to the diagonal of the normal matrix."""
    step_tolerance: float = 1e-3
    """Converged when a step is shorter than this, in units of each unknown's standard deviation (RMS)."""
    cost_tolerance: float = 1e-4
    """Converged when an accepted step lowers the cost by less than this fraction."""
    slack: float = 0.0
    """Steps are accepted whose cost is at most this fraction above the lowest so far, and the cost does not say when
    the solve has converged: for normal equations whose gradient is not quite that of the cost. A step that is refused
    goes far too far then: damping rises tenfold at once, and a few such steps do not count."""


@dataclass(frozen=True)
class Outcome:
    """How a solve ended; a value, not an exception.

    Attributes:
        status: 'converged', 'max iterations', 'singular' or 'non-finite'.
        costs: cost at the start and after each accepted step.
        dampings: damping of each tried step.
    """

    status: str
    costs: tuple[float, ...]
    dampings: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Steps tried."""
        return len(self.dampings)


class Equations(Protocol):
    """Normal equations of a linearised problem."""

    @property
    def cost(self) -> float:
        """Cost at the point of linearisation."""

    def step(self, damping: float) -> Tensor | None:
        """Minimiser of the damped quadratic model, or None where the matrix is singular."""

    def predicted_decrease(self, step: Tensor) -> float:
        """Decrease of the undamped quadratic model."""

    def relative_length(self, step: Tensor) -> float:
        """RMS length of a step in units of each unknown's prior standard deviation."""


Linear = TypeVar("Linear", bound=Equations)
_Linear_co = TypeVar("_Linear_co", bound=Equations, covariant=True)


class Problem(Protocol[State, _Linear_co]):
    """A least-squares problem on a manifold."""

    def linearise(self, state: State) -> _Linear_co:
        """Normal equations at a state."""

    def cost(self, state: State) -> float:
        """Robust cost at a state."""

    def retract(self, state: State, step: Tensor) -> State:
        """The state after a step, bounds respected."""


@dataclass(frozen=True)
class Solution(Generic[State, Linear]):
    """The state found and how it was found.

    Attributes:
        state: the state.
        outcome: how the solve ended.
        equations: of the last linearisation.
        linearised: where that was: the state, or the one before it where the last step was accepted.
    """

    state: State
    outcome: Outcome
    equations: Linear
    linearised: State


MAX_DAMPING = 1e8
# With slack: what damping rises by after a step that was refused, and how many of them do not count.
_SLACK_GROWTH = 10.0
_SPARE_STEPS = 4


def minimise(problem: Problem[State, Linear], start: State, settings: SolverSettings) -> Solution[State, Linear]:
    """Minimises a problem from a start.

    Args:
        problem: gives normal equations, costs and retractions.
        start: first state.
        settings: limits.

    Returns:
        The last accepted state, without slack the lowest seen, and the outcome. Never raises for numerical failure.
    """
    state, damping, growth = start, settings.damping, 2.0
    limit, spare = settings.max_steps, _SPARE_STEPS if settings.slack else 0
    equations, linearised = problem.linearise(state), state
    costs, dampings = [equations.cost], list[float]()

    def ended(status: str) -> Solution[State, Linear]:
        return Solution(state, Outcome(status, tuple(costs), tuple(dampings)), equations, linearised)

    if not math.isfinite(equations.cost):
        return ended("non-finite")
    while len(dampings) < limit:
        dampings.append(damping)
        step = equations.step(damping)
        if step is None or not math.isfinite(float(step.sum())):
            if damping >= MAX_DAMPING:
                return ended("singular")
            damping *= 100
            continue
        candidate = problem.retract(state, step)
        cost = problem.cost(candidate)
        gain = (costs[-1] - cost) / max(equations.predicted_decrease(step), 1e-300)
        if math.isfinite(cost) and cost <= min(costs) * (1 + settings.slack):
            small = equations.relative_length(step) < settings.step_tolerance
            if settings.slack:
                # The cost is not what is followed: it must not raise the damping of a step that was taken.
                gain = max(gain, 0.5)
            else:
                small = small or costs[-1] - cost < settings.cost_tolerance * costs[-1]
            state = candidate
            costs.append(cost)
            if small:
                return ended("converged")
            damping *= max(1 / 3, 1 - (2 * min(gain, 1.0) - 1) ** 3)
            growth = 2.0
            if len(dampings) < limit:
                # Before the next ones are made: those of a joint solve are large.
                del equations
                equations, linearised = problem.linearise(state), state
        else:
            if equations.relative_length(step) < settings.step_tolerance:
                return ended("converged")
            limit, spare = limit + min(spare, 1), max(spare - 1, 0)
            damping, growth = (damping * _SLACK_GROWTH, 2.0) if settings.slack else (damping * growth, growth * 2)
            if damping > MAX_DAMPING:
                return ended("converged" if math.isfinite(cost) else "non-finite")
    return ended("max iterations")
