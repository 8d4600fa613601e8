"""Rotations: exponential and logarithm, the 6-D form of files, derivatives, and points where formulas break."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import numeric_jacobian, worst_relative

from tracker.rotations import exp_so3, log_so3, matrix_from_6d, matrix_to_6d, rotation_angle, skew

_COMPONENT = st.floats(-1, 1, allow_nan=False)
_DIRECTION = st.tuples(_COMPONENT, _COMPONENT, _COMPONENT).filter(lambda v: math.hypot(*v) > 0.1)
# Angles that matter: at zero, at the switch to the series (1e-4), ordinary ones, and up to pi.
_ANGLE = st.one_of(
    st.sampled_from([0.0, 1e-12, 1e-8, 0.99e-4, 1.01e-4, math.pi - 1e-9, math.pi - 1e-5]), st.floats(0, math.pi - 1e-6)
)


def _vector(direction: tuple[float, float, float], angle: float) -> torch.Tensor:
    return angle * torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)


@settings(deadline=None, max_examples=200)
@given(_DIRECTION, _ANGLE)
def test_logarithm_undoes_the_exponential(direction: tuple[float, float, float], angle: float) -> None:
    w = _vector(direction, angle)
    R = exp_so3(w)
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-12)
    # 3e-9 measured, at the switch between series and closed form.
    assert torch.allclose(log_so3(R), w, atol=2e-8)
    assert float(rotation_angle(R)) == pytest.approx(angle, abs=2e-8)


def test_half_a_turn_has_either_axis() -> None:
    for axis in torch.eye(3, dtype=torch.float64):
        w = log_so3(exp_so3(math.pi * axis))
        assert torch.allclose(w.abs(), math.pi * axis, atol=1e-7)


def test_exponential_turns_right_handed() -> None:
    quarter = math.pi / 2
    x, y, z = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(exp_so3(quarter * z) @ x, y, atol=1e-12)
    assert torch.allclose(exp_so3(quarter * x) @ y, z, atol=1e-12)
    assert torch.allclose(exp_so3(quarter * y) @ z, x, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(_DIRECTION, st.floats(0, 3), _DIRECTION)
def test_exponential_equals_the_matrix_exponential(
    direction: tuple[float, float, float], angle: float, other: tuple[float, float, float]
) -> None:
    w, v = _vector(direction, angle), torch.tensor(other, dtype=torch.float64)
    assert torch.allclose(exp_so3(w), torch.linalg.matrix_exp(skew(w)), atol=1e-9)
    assert torch.allclose(skew(w) @ v, torch.linalg.cross(w, v), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 2e-4, 0.5, 3.0])
def test_gradient_equals_finite_differences(angle: float) -> None:
    w = _vector((0.3, -0.5, 0.8), angle)
    analytic = torch.autograd.functional.jacobian(exp_so3, w)
    assert torch.isfinite(analytic).all()
    numeric = numeric_jacobian(lambda d: exp_so3(w + d), 3)
    assert worst_relative(analytic, numeric) < 1e-6


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.7, 2.9])
def test_logarithm_has_a_finite_gradient(angle: float) -> None:
    R = exp_so3(_vector((0.3, -0.5, 0.8), angle))
    analytic = torch.autograd.functional.jacobian(lambda d: log_so3(exp_so3(d) @ R), torch.zeros(3).double())
    assert torch.isfinite(analytic).all()
    numeric = numeric_jacobian(lambda d: log_so3(exp_so3(d) @ R), 3)
    assert worst_relative(analytic, numeric) < 1e-5


@settings(deadline=None, max_examples=100)
@given(_DIRECTION, st.floats(0, math.pi))
def test_6d_form_is_the_first_two_rows(direction: tuple[float, float, float], angle: float) -> None:
    R = exp_so3(_vector(direction, angle))
    d6 = matrix_to_6d(R)
    assert torch.equal(d6[:3], R[0])
    assert torch.equal(d6[3:], R[1])
    assert torch.allclose(matrix_from_6d(d6), R, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(_DIRECTION, _DIRECTION, st.floats(0.1, 5), st.floats(0.1, 5))
def test_6d_form_that_is_not_orthonormal(
    first: tuple[float, float, float], second: tuple[float, float, float], stretch: float, lean: float
) -> None:
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    cosine = float(a @ b / (a.norm() * b.norm()))
    if abs(cosine) > 0.99:
        return
    R = matrix_from_6d(torch.cat([a, b]))
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-9)
    assert torch.allclose(R[0], a / a.norm(), atol=1e-12)
    # Gram-Schmidt: neither the length of the rows nor what the second shares with the first matters.
    assert torch.allclose(matrix_from_6d(torch.cat([stretch * a, lean * b + stretch * a])), R, atol=1e-7)
    assert float(R[1] @ b) > 0


def test_batches_equal_single_rotations() -> None:
    w = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 5, 3)))
    R = exp_so3(w)
    assert R.shape == (4, 5, 3, 3)
    assert torch.allclose(R[2, 3], exp_so3(w[2, 3]))
    assert torch.allclose(log_so3(R)[1, 1], log_so3(R[1, 1]))
    assert torch.allclose(matrix_from_6d(matrix_to_6d(R)), R)
