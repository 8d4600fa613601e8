"""Compiled kernels against their twins in torch, and the box-bounded step against a dense quadratic programme."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from scipy.optimize import minimize

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel
from tracker.image import ImageLevel
from tracker.kernels import contrast, rotations
from tracker.local_contrast import WINDOW, local_contrast, local_contrast_torch, window_axes
from tracker.normal_equations import bounded_step
from tracker.points import PointTemplate, point_template
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.projection import (
    ShapeMotion,
    linearise_projection,
    linearise_projection_torch,
    project_state,
    project_state_torch,
)
from tracker.robust import geman_mcclure
from tracker.rotations import exp_so3, log_so3
from tracker.state import FrameState

CAMERA = Intrinsics(700.0, 260.0, 250.0)


def _head(correctives: bool) -> HeadModel:
    model = random_head()
    if not correctives:
        return replace(model, pose_correctives=None)
    generator = torch.Generator().manual_seed(2)
    return replace(model, pose_correctives=1e-3 * torch.randn(model.vertex_count, 3, 36, generator=generator))


def _case(correctives: bool, dtype: torch.dtype) -> tuple[PointTemplate, FrameState]:
    model = _head(correctives)
    state = replace(random_state(model, 4), t=torch.tensor([0.01, -0.02, 0.6], dtype=torch.float64))
    return point_template(model, model.landmarks478.faces, model.landmarks478.bary, dtype), state


@pytest.mark.parametrize("correctives", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 3e-5)])
def test_projection_is_that_of_torch(correctives: bool, dtype: torch.dtype, tolerance: float) -> None:
    template, state = _case(correctives, dtype)
    points = template.with_shape(torch.full((template.shape_basis.shape[2],), 0.4))
    motion = ShapeMotion(template.shape_basis, template.pivot_basis)
    ours = linearise_projection(points, state, CAMERA, motion)
    theirs = linearise_projection_torch(points, state, CAMERA, motion)
    for name in ("pixels", "jacobian", "by_rest"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.shape == b.shape
        assert a.dtype == dtype
        assert float((a - b).abs().max() / b.abs().max()) < tolerance, name
    assert torch.allclose(project_state(points, state, CAMERA), project_state_torch(points, state, CAMERA), atol=1e-3)
    alone = linearise_projection(points, state, CAMERA)
    assert torch.equal(alone.jacobian, ours.jacobian[..., : alone.jacobian.shape[2]])


def test_rotations_are_those_of_torch() -> None:
    w = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = torch.cat([w, 1e-6 * w[:3], torch.zeros(1, 3, dtype=torch.float64)])
    # A tensor that asks for its derivative takes the way through torch.
    expected = exp_so3(w.clone().requires_grad_()).detach()
    assert torch.allclose(torch.from_numpy(rotations.exp_so3(w.numpy())), expected, atol=1e-14)
    logs = log_so3(expected.clone().requires_grad_()).detach()
    assert torch.allclose(torch.from_numpy(rotations.log_so3(expected.numpy())), logs, atol=1e-12)


def _picture() -> ImageLevel:
    y, x = np.mgrid[0:520, 0:560] / 9.0
    channels = [np.sin(x + k) * np.cos(0.7 * y - k) * 0.4 + 0.5 for k in range(3)]
    return ImageLevel(torch.from_numpy(np.stack(channels, -1)), 1.0)


def _term(light: bool) -> tuple[PhotometricTerm, FrameState]:
    template, state = _case(False, torch.float64)
    points = template.with_shape(torch.zeros(template.shape_basis.shape[2]))
    generator = torch.Generator().manual_seed(1)
    count = len(points)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1)
    albedo = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    confidence = torch.rand(count, generator=generator, dtype=torch.float64)
    axes = 3 * torch.randn(count, 2, 2, generator=generator, dtype=torch.float64)
    term = PhotometricTerm(points, normals, albedo, _picture(), 0.1, confidence, axes=axes)
    return (replace(term, light=state.light) if light else term), state


def test_photometric_rows_are_those_of_torch() -> None:
    term, state = _term(light=False)

    # The same kernel under another name is not recognised and takes the way through torch.
    def twin(squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return geman_mcclure(squared)

    slow = replace(term, kernel=twin)
    rows, gradient, cost = term.rows(state, CAMERA)
    slow_rows, slow_gradient, slow_cost = slow.rows(state, CAMERA)
    assert torch.allclose(rows.T @ rows, slow_rows.T @ slow_rows, rtol=1e-9, atol=1e-6)
    assert torch.allclose(gradient, slow_gradient, rtol=1e-9, atol=1e-6)
    assert cost == pytest.approx(slow_cost, rel=1e-12)
    assert term.cost(state, CAMERA) == pytest.approx(slow.cost(state, CAMERA), rel=1e-12)
    assert rows.shape[0] == 2 * len(term.points)
    assert slow_rows.shape[0] == 3 * len(term.points)


def test_contrast_is_that_of_torch_and_its_slope_its_derivative() -> None:
    level, generator = _picture(), torch.Generator().manual_seed(3)
    pixels = 100 + 300 * torch.rand(40, 2, generator=generator, dtype=torch.float64)
    axes = 3 * torch.randn(40, 2, 2, generator=generator, dtype=torch.float64)
    value, slope = local_contrast_torch(level, pixels, axes)
    assert torch.allclose(local_contrast(level, pixels, axes), value, atol=1e-12)
    h = 1e-6
    for d in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[d] = h
        ahead = local_contrast_torch(level, pixels + step, axes)[0]
        numeric = (ahead - local_contrast_torch(level, pixels - step, axes)[0]) / (2 * h)
        assert torch.allclose(slope[..., d], numeric, atol=1e-5)


def test_window_is_a_centred_disc() -> None:
    assert WINDOW[:, 2].sum() == pytest.approx(1)
    np.testing.assert_allclose((WINDOW[:, :2] * WINDOW[:, 2:]).sum(0), 0, atol=1e-12)
    spread = np.einsum("ki,kj,k->ij", WINDOW[:, :2], WINDOW[:, :2], WINDOW[:, 2])
    # Cut off at two deviations, which leaves 0.8 of the deviation.
    np.testing.assert_allclose(spread, spread[0, 0] * np.eye(2), atol=0.02)
    assert 0.75 < np.sqrt(spread[0, 0]) < 0.85


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_contrast_does_not_see_a_change_of_light(gain: float) -> None:
    level = _picture()
    pixels = torch.tensor([[200.0, 210.0], [300.5, 111.2]], dtype=torch.float64)
    axes = 3 * torch.eye(2, dtype=torch.float64).repeat(2, 1, 1)
    brighter = ImageLevel(level.pixels * gain, 1.0)
    # Only the small constant that keeps black areas quiet knows the difference.
    assert torch.allclose(local_contrast(level, pixels, axes), local_contrast(brighter, pixels, axes), atol=0.08)


def test_disc_is_seen_foreshortened() -> None:
    facing = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    turned = torch.nn.functional.normalize(torch.tensor([[-1.0, 0.0, -1.0]], dtype=torch.float64), dim=1)
    point = torch.tensor([[0.0, 0.0, 0.5]], dtype=torch.float64)
    round_ = torch.linalg.svdvals(window_axes(point, facing, CAMERA, 0.002)[0])
    oval = torch.linalg.svdvals(window_axes(point, turned, CAMERA, 0.002)[0])
    assert torch.allclose(round_, torch.full((2,), 700 / 0.5 * 0.002, dtype=torch.float64))
    assert float(oval[1] / oval[0]) == pytest.approx(2**-0.5, rel=1e-6)


def test_sampling_outside_is_clamped() -> None:
    level = np.random.default_rng(0).random((8, 9, 3)).astype(np.float32)
    out = np.empty((2, 3))
    contrast.values(level, np.array([[-5.0, -5.0], [50.0, 50.0]]), np.zeros((2, 2, 2)), np.empty((0, 3)), out)
    np.testing.assert_allclose(out, [level[0, 0], level[-1, -1]], atol=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_bounded_step_lies_in_the_box_and_lowers_the_model(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(12, 8, generator=generator, dtype=torch.float64)
    H, g = A.T @ A, torch.randn(8, generator=generator, dtype=torch.float64)
    low, high = -0.1 * torch.ones(8, dtype=torch.float64), 0.1 * torch.ones(8, dtype=torch.float64)
    free = torch.ones(8, dtype=torch.bool)
    free[2] = False
    step = bounded_step(H, g, free, low, high)
    assert step is not None
    assert bool(((step >= low) & (step <= high)).all())
    assert float(step[2]) == 0

    def model(x: torch.Tensor) -> float:
        return float(g @ x + 0.5 * x @ (H @ x))

    bounds = [(0, 0) if i == 2 else (-0.1, 0.1) for i in range(8)]
    best = minimize(lambda x: model(torch.from_numpy(x)), np.zeros(8), bounds=bounds).fun
    cut = torch.zeros(8, dtype=torch.float64)
    cut[free] = -torch.linalg.solve(H[free][:, free], g[free])
    # A few passes, not an exact solution.
    assert model(step) <= 0.95 * best
    assert model(step) <= model(cut.clamp(-0.1, 0.1)) + 1e-12


def test_bounded_step_without_bounds_is_the_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(12, 8, generator=generator, dtype=torch.float64)
    H, g = A.T @ A, torch.randn(8, generator=generator, dtype=torch.float64)
    wide = torch.full((8,), torch.inf, dtype=torch.float64)
    step = bounded_step(H, g, torch.ones(8, dtype=torch.bool), -wide, wide)
    assert step is not None
    assert torch.allclose(step, -torch.linalg.solve(H, g))
    assert bounded_step(-H, g, torch.ones(8, dtype=torch.bool), -wide, wide) is None
