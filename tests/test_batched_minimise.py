"""The batched solver's loop on its own: steps, damping, refusals, as the solver of single frames takes them."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tracker.batched.equations import BatchEquations, bounded_step
from tracker.batched.minimise import minimise, outcomes
from tracker.normal_equations import NormalEquations
from tracker.solver import SolverSettings
from tracker.solver import minimise as single_minimise


@dataclass(frozen=True, eq=False)
class _Point:
    """B points of a plane, or one."""

    x: torch.Tensor

    def retract(self, step: torch.Tensor, _limits: object = None) -> "_Point":
        return _Point(self.x + step)

    def where(self, mask: torch.Tensor, other: "_Point") -> "_Point":
        return _Point(torch.where(mask[:, None], self.x, other.x))


class _Valley:
    """Rosenbrock's curved valley, in which many steps lead uphill: B at once as a batch, or one by one."""

    fixed = SimpleNamespace(limits=None, scale=torch.ones(2, dtype=torch.float64))

    def _linear(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one, zero = torch.ones_like(x[..., 0]), torch.zeros_like(x[..., 0])
        residual = torch.stack([10 * (x[..., 1] - x[..., 0] ** 2), 1 - x[..., 0]], -1)
        jacobian = torch.stack([-20 * x[..., 0], 10 * one, -one, zero], -1).unflatten(-1, (2, 2))
        return residual, jacobian

    def cost(self, point: _Point) -> Any:
        cost = 0.5 * self._linear(point.x)[0].square().sum(-1)
        return cost if point.x.dim() == 2 else float(cost)

    def linearise(self, point: _Point) -> Any:
        residual, jacobian = self._linear(point.x)
        H, g = jacobian.mT @ jacobian, (jacobian.mT @ residual[..., None])[..., 0]
        if point.x.dim() == 2:
            return BatchEquations(H, g, self.cost(point))
        return replace(NormalEquations.zero(self.fixed.scale), H=H, g=g, cost=self.cost(point))

    def retract(self, point: _Point, step: torch.Tensor) -> _Point:
        return point.retract(step)

    def step(self, _state: _Point, equations: BatchEquations, damping: torch.Tensor) -> Any:
        diagonal = torch.diagonal(equations.H, dim1=1, dim2=2)
        free, wide = torch.ones_like(equations.g).bool(), torch.full_like(equations.g, torch.inf)
        damped = equations.H + torch.diag_embed(damping[:, None] * (diagonal + 1))
        return bounded_step(damped, equations.g, free, -wide, wide)


def test_steps_are_taken_left_and_damped_as_in_single_frames() -> None:
    starts = torch.tensor([[-1.2, 1.0], [0.9, 0.9], [3.0, -2.0], [1.0, 1.0], [-3.0, 8.0]], dtype=torch.float64)
    settings, asked = SolverSettings(max_steps=25), torch.tensor([True, True, True, True, False])
    found = minimise(_Valley(), _Point(starts), asked, settings)  # type: ignore[arg-type]
    assert torch.equal(found.state.x[4], starts[4])
    refused = 0
    for row, ours in enumerate(outcomes(found.history, asked.tolist())):
        if not asked[row]:
            assert ours is None
            continue
        theirs = single_minimise(_Valley(), _Point(starts[row]), settings)
        assert ours is not None
        assert ours.status == theirs.outcome.status
        assert ours.dampings == pytest.approx(theirs.outcome.dampings, rel=1e-6)
        assert ours.costs == pytest.approx(theirs.outcome.costs, rel=1e-6, abs=1e-12)
        assert torch.allclose(found.state.x[row], theirs.state.x)
        refused += theirs.outcome.steps + 1 - len(theirs.outcome.costs)
    assert refused > 3
    # The equations are of the place that is said, and no more than the last step behind.
    assert torch.equal(found.equations.H, _Valley().linearise(found.linearised).H)
    assert torch.equal(found.linearised.x[1:], found.state.x[1:])
    assert not torch.equal(found.linearised.x[0], found.state.x[0])
