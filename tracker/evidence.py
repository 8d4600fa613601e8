"""What one frame by itself says of its unknowns: a quadratic around its solution, without the pull of time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.normal_equations import NormalEquations
from tracker.residuals.prior import GaussianTerm
from tracker.solver import Solution
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class Evidence:
    """`0.5 d^T H d + g^T d` for a step d (`Layout` order, left increments) from a frame's solved state.

    Attributes:
        H: (P, P) float64 Gauss-Newton matrix of landmarks, colours and priors.
        g: (P,) float64 gradient of the same; not zero, because the solution also heeds its prediction.
    """

    H: Tensor
    g: Tensor


def frame_evidence(solution: Solution[FrameState, NormalEquations], temporal: GaussianTerm | None) -> Evidence:
    """The evidence of a solved frame, from the equations of its last linearisation.

    Args:
        solution: of the frame's finest level.
        temporal: the pull to the prediction that its equations hold; it is taken out.

    Returns:
        The quadratic, moved from where it was linearised to the solution.
    """
    equations, at = solution.equations, solution.linearised
    H, g = equations.H, equations.g
    if temporal is not None:
        pull = NormalEquations.zero(equations.scale)
        temporal.add_to(pull, at)
        H, g = H - pull.H, g - pull.g
    step = GaussianTerm(at, torch.ones_like(g)).residual(solution.state)
    return Evidence(H, g + H @ step)
