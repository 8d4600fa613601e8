"""Compiled kernels against their twins in torch, and the box-bounded step against a dense quadratic programme."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from scipy.optimize import minimize

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel, embed, embed_torch, skin_torch, vertex_normals, vertex_normals_torch
from tracker.image import ImageLevel
from tracker.kernels import contrast, mesh, rotations
from tracker.local_contrast import WINDOW, local_contrast, local_contrast_torch, window_axes, window_axes_torch
from tracker.normal_equations import NormalEquations, bounded_step, bounded_step_torch
from tracker.points import PointTemplate, point_template
from tracker.problem import Bounds, FrameProblem
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import (
    ShapeMotion,
    linearise_projection,
    linearise_projection_torch,
    project_state,
    project_state_torch,
)
from tracker.robust import geman_mcclure
from tracker.rotations import exp_so3, log_so3
from tracker.state import FrameState, Layout
from tracker.surface import surface_view

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


@pytest.mark.parametrize("at", [-1e30, -3.0, 39998.9, 39999.7, 40001.0, 1e30])
def test_contrast_stays_within_a_wide_picture_in_float32(at: float) -> None:
    """Beyond 16,000 pixels float32 rounds the last place before the edge up to the edge."""
    level = np.random.default_rng(0).random((3, 40000, 3), np.float32)
    # What lies behind the picture in memory must not be read.
    held = np.concatenate([level, np.full((1, 40000, 3), np.nan, np.float32)])[:3]
    pixels, value = np.array([[at, 2.9]], np.float32), np.empty((1, 3), np.float32)
    contrast.values(held, pixels, np.zeros((1, 2, 2), np.float32), np.empty((0, 3)), value)
    x = min(max(at - 0.5, 0), 39999)
    left = min(int(x), 39998)
    np.testing.assert_allclose(value[0], (1 + left - x) * level[2, left] + (x - left) * level[2, left + 1], atol=0.01)


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


# ---- landmarks, priors, bounds


def _landmarks(spread_px: float) -> tuple[LandmarkTerm, FrameState]:
    template, state = _case(False, torch.float64)
    points = template.with_shape(torch.zeros(template.shape_basis.shape[2]))
    generator = torch.Generator().manual_seed(5)

    def rand(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    targets = project_state(points, state, CAMERA) + spread_px * (rand(len(points), 2) - 0.5)
    pairs = torch.tensor([[0, 1], [2, 5], [3, 1]])
    confidence = rand(len(points))
    confidence[1] = 0
    return LandmarkTerm(points, targets, 2.0, confidence, pairs, 0.7, rand(3)), state


@pytest.mark.parametrize("spread_px", [2.0, 60.0])
def test_landmark_term_is_that_of_torch(spread_px: float) -> None:
    # The wider spread puts most points beyond the knee of the robust kernel.
    term, state = _landmarks(spread_px)
    ours, theirs = (NormalEquations.zero(torch.ones(Layout(len(state.expression)).size).double()) for _ in range(2))
    term.add_to(ours, state, CAMERA)
    term.add_to_torch(theirs, state, CAMERA)
    assert float(theirs.H.abs().max()) > 1
    assert torch.allclose(ours.H, theirs.H, rtol=1e-10, atol=1e-8)
    assert torch.allclose(ours.g, theirs.g, rtol=1e-10, atol=1e-8)
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-12)
    assert term.cost(state, CAMERA) == pytest.approx(theirs.cost, rel=1e-12)
    assert term.cost_torch(state, CAMERA) == pytest.approx(theirs.cost, rel=1e-12)


def test_landmark_term_without_pairs() -> None:
    term, state = _landmarks(5.0)
    term = replace(term, pairs=term.pairs[:0], pair_confidence=term.pair_confidence[:0])
    ours, theirs = (NormalEquations.zero(torch.ones(Layout(len(state.expression)).size).double()) for _ in range(2))
    term.add_to(ours, state, CAMERA)
    term.add_to_torch(theirs, state, CAMERA)
    assert torch.allclose(ours.H, theirs.H, rtol=1e-10, atol=1e-8)
    assert term.cost(state, CAMERA) == pytest.approx(theirs.cost, rel=1e-12)


def test_gaussian_is_its_jacobian_squared() -> None:
    model = _head(False)
    state, target = random_state(model, 4), random_state(model, 5)
    size = Layout(len(state.expression)).size
    inverse = torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inverse[3] = 0
    term, equations = GaussianTerm(target, inverse), NormalEquations.zero(torch.ones(size).double())
    equations.H += 1
    term.add_to(equations, state)
    J, r = term.jacobian(state), term.residual(state)
    assert torch.allclose(equations.H - 1, J.T @ J, atol=1e-12)
    assert torch.allclose(equations.g, J.T @ r, atol=1e-12)
    assert equations.cost == pytest.approx(0.5 * float(r @ r))
    assert term.cost(state) == pytest.approx(0.5 * float(r @ r))


def test_gaze_symmetry_is_its_rows_squared() -> None:
    state, term = random_state(_head(False), 4), GazeSymmetryTerm()
    size = Layout(len(state.expression)).size
    equations = NormalEquations.zero(torch.ones(size).double())
    term.add_to(equations, state)
    rows, r = torch.zeros(2, size, dtype=torch.float64), term.residual(state)
    rows[:, Layout.eyes] = term._rows()
    assert float(r.abs().min()) > 0
    assert torch.allclose(equations.H, rows.T @ rows)
    assert torch.allclose(equations.g, rows.T @ r)
    assert equations.cost == pytest.approx(0.5 * float(r @ r))
    assert term.cost(state) == pytest.approx(0.5 * float(r @ r))


def _bounded() -> tuple[FrameProblem, FrameState]:
    term, state = _landmarks(40.0)
    count = len(state.expression)
    double = torch.float64
    limits = torch.stack([state.expression.clamp_max(-0.1), state.expression.clamp_min(0.1)], 1)
    bounds = Bounds(limits, torch.tensor([-0.4, 1.15], dtype=double), torch.tensor([[-0.8, 0.8], [-0.6, 0.6]]).double())
    state = bounds.clamp(replace(state, eyelids=torch.tensor([1.15, 0.3], dtype=double)))
    size = Layout(count).size
    held = torch.zeros(size, dtype=torch.bool)
    held[Layout.jaw] = True
    prior = GaussianTerm(state, torch.ones(size).double())
    scale = torch.ones(size, dtype=double)
    return FrameProblem(CAMERA, (term,), None, (prior,), GazeSymmetryTerm(), bounds, scale, held), state


def test_bounds_of_the_kernel_are_those_of_torch() -> None:
    problem, state = _bounded()
    equations = problem.linearise(state)
    active = problem.bounds.active(state, equations.g)
    assert 0 < int(active.sum()) < len(active)
    assert torch.equal(equations.frozen, problem.held | active)
    lowest, highest = problem.bounds.room(state)
    assert torch.equal(equations.lowest, lowest)
    assert torch.equal(equations.highest, highest)


def test_retraction_of_the_kernel_is_that_of_torch() -> None:
    problem, state = _bounded()
    size = len(problem.scale)
    step = 0.5 * torch.randn(size, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    ours, theirs = problem.retract(state, step), problem.bounds.clamp(state.retract(step))
    for name, value in vars(theirs).items():
        assert torch.allclose(getattr(ours, name), value, rtol=0, atol=1e-14), name
    assert not torch.allclose(ours.expression, state.retract(step).expression)


@pytest.mark.parametrize("seed", range(8))
def test_bounded_step_is_that_of_torch(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(30, 20, generator=generator, dtype=torch.float64)
    H, g = A.T @ A, 10 * torch.randn(20, generator=generator, dtype=torch.float64)
    low, high = -torch.rand(20, generator=generator).double(), torch.rand(20, generator=generator).double()
    low[:5], high[:5] = -torch.inf, torch.inf
    free = torch.rand(20, generator=generator) > 0.2
    ours, theirs = (solve(H, g, free, low, high) for solve in (bounded_step, bounded_step_torch))
    assert ours is not None
    assert theirs is not None
    assert torch.allclose(ours, theirs, atol=1e-10)
    assert bounded_step_torch(-H, g, free, low, high) is None


def test_bounded_step_with_nothing_free() -> None:
    H, g = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    wide = torch.full((3,), torch.inf, dtype=torch.float64)
    step = bounded_step(H, g, torch.zeros(3, dtype=torch.bool), -wide, wide)
    assert step is not None
    assert torch.equal(step, torch.zeros(3, dtype=torch.float64))


# ---- the mesh


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_and_points_are_those_of_torch(dtype: torch.dtype) -> None:
    model = _head(False)
    vertices = model.template.to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    ours, theirs = vertex_normals(vertices, model.triangles), vertex_normals_torch(vertices, model.triangles)
    assert ours.dtype == dtype
    assert torch.allclose(ours, theirs, atol=tolerance)
    at = model.landmarks478
    points = embed(at.faces, at.bary, model.triangles, vertices)
    assert points.dtype == dtype
    assert torch.allclose(points, embed_torch(at.faces, at.bary, model.triangles, vertices), atol=tolerance)


def test_discs_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(7)
    normals = torch.nn.functional.normalize(torch.randn(60, 3, generator=generator, dtype=torch.float64), dim=1)
    points = torch.randn(60, 3, generator=generator, dtype=torch.float64) * 0.1 + torch.tensor([0, 0, 0.6]).double()
    assert torch.allclose(
        window_axes(points, normals, CAMERA, 0.002), window_axes_torch(points, normals, CAMERA, 0.002), atol=1e-12
    )


def test_skinning_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(8)

    def randn(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    weights = torch.rand(40, 5, generator=generator).double()
    weights[:20, 2:] = 0
    parts = (randn(40, 3), weights, exp_so3(randn(5, 3)), randn(5, 3), randn(40, 3, 2), randn(2))
    assert torch.allclose(torch.from_numpy(mesh.skin(*(p.numpy() for p in parts))), skin_torch(*parts), atol=1e-12)


def test_surface_of_a_subject_is_the_models() -> None:
    model = _head(True)
    state, shape = random_state(model, 4), torch.full((model.shape_count,), 0.3, dtype=torch.float64)
    params = state.head_params(shape)
    exact = model.vertices(type(params)(**{k: v.double() for k, v in vars(params).items() if v is not None}))
    assert torch.allclose(surface_view(model, shape, state).vertices_head_m.double(), exact, atol=1e-6)
    # Another identity of the same model is not mistaken for it.
    other = surface_view(model, -shape, state).vertices_head_m.double()
    assert float((other - exact).abs().max()) > 1e-4
