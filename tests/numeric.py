"""Finite differences for Jacobian tests."""

from collections.abc import Callable

import torch
from torch import Tensor


def numeric_jacobian(function: Callable[[Tensor], Tensor], size: int, step: float = 1e-6) -> Tensor:
    """Central differences at zero.

    Args:
        function: maps a (size,) float64 increment to a tensor of any shape.
        size: number of unknowns.
        step: half width of the difference.

    Returns:
        (..., size) derivative of each output element.
    """
    columns = []
    for i in range(size):
        increment = torch.zeros(size, dtype=torch.float64)
        increment[i] = step
        columns.append((function(increment) - function(-increment)) / (2 * step))
    return torch.stack(columns, -1)


def worst_relative(analytic: Tensor, numeric: Tensor) -> float:
    """Largest deviation of a Jacobian in units of its largest element."""
    return float((analytic - numeric).abs().max() / numeric.abs().max())
