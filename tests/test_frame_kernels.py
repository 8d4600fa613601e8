"""Kernels that do the work of a whole frame in one call, against the terms and the torch functions they stand for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from test_kernels import CAMERA, _bounded, _term
from torch import Tensor

from tracker.appearance import estimate_light
from tracker.camera import Intrinsics
from tracker.clip import landmark_facing
from tracker.frame_solver import MAD
from tracker.head.generic import load_generic
from tracker.image import ImageLevel, sample
from tracker.kernels import band, steps
from tracker.kernels.light import fitted_light
from tracker.kernels.visibility import seen_points
from tracker.landmark_set import landmark_set
from tracker.local_contrast import plain_colours
from tracker.normal_equations import NormalEquations
from tracker.problem import FrameProblem
from tracker.rasterizer import visible_points
from tracker.residuals.prior import GaussianTerm
from tracker.rotations import exp_so3
from tracker.samples import face_samples
from tracker.shading import sh_basis
from tracker.smoother import changes
from tracker.solver import SolverSettings, minimise
from tracker.state import FrameState, Layout, neutral_state
from tracker.surface import depth_buffer, sample_visibility, surface_view

DOUBLE = torch.float64


def _problem(with_landmarks: bool, with_samples: bool, with_pull: bool) -> tuple[FrameProblem, FrameState]:
    problem, state = _bounded()
    changes: dict[str, object] = {}
    if not with_landmarks:
        changes["landmarks"] = ()
    if with_samples:
        changes["photometric"] = _term(light=False)[0]
    if with_pull:
        target = replace(state, t=state.t + 0.01, expression=state.expression + 0.1)
        changes["gaussians"] = (*problem.gaussians, GaussianTerm(target, torch.full_like(problem.scale, 3.0)))
    return replace(problem, **changes), state  # type: ignore[arg-type]


TERMS = [(True, False, False), (False, True, False), (True, True, False), (True, True, True)]


@pytest.mark.parametrize(("with_landmarks", "with_samples", "with_pull"), TERMS)
def test_the_energy_at_once_is_that_of_its_terms(with_landmarks: bool, with_samples: bool, with_pull: bool) -> None:
    problem, state = _problem(with_landmarks, with_samples, with_pull)
    assert problem._arrays is not None
    ours, theirs = problem.linearise(state), problem.linearise_by_term(state)
    for name in ("H", "g", "lowest", "highest"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9), name
    assert torch.equal(ours.frozen, theirs.frozen)
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-12)
    assert problem.cost(state) == pytest.approx(problem.cost_by_term(state), rel=1e-12)
    # The room for the rows is used again, and nothing of the first time is left in it.
    moved = replace(state, t=state.t + 0.02)
    problem.linearise(moved)
    # Not to the last bit: products on two threads are summed in another order.
    assert torch.allclose(problem.linearise(state).H, ours.H, rtol=1e-12, atol=1e-12 * float(ours.H.abs().max()))


def test_a_solve_at_once_is_that_by_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, state = _problem(True, True, True)
    ours = minimise(problem, state, SolverSettings(max_steps=6))
    monkeypatch.setattr(FrameProblem, "_arrays", None)
    theirs = minimise(replace(problem), state, SolverSettings(max_steps=6))
    assert ours.outcome.steps == theirs.outcome.steps > 1
    for name, value in theirs.state.tensors.items():
        assert torch.allclose(getattr(ours.state, name), value, rtol=0, atol=1e-8), name


def test_what_does_not_fit_the_kernel_goes_by_terms() -> None:
    problem, state = _problem(True, True, False)
    for other in (
        replace(problem, landmarks=2 * problem.landmarks),
        replace(problem, gaussians=()),
        replace(problem, landmarks=(), photometric=None),
        replace(problem, photometric=_term(light=True)[0]),
        replace(problem, landmarks=(replace(problem.landmarks[0], points=problem.landmarks[0].points.single()),)),
    ):
        assert other._arrays is None
        assert other.linearise(state).cost == pytest.approx(other.cost(state), rel=1e-5)


def _equations(seed: int) -> NormalEquations:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(60, 20, generator=generator, dtype=DOUBLE)
    equations = NormalEquations.zero(0.1 + torch.rand(20, generator=generator, dtype=DOUBLE))
    equations.H += A.T @ A
    equations.g += 30 * torch.randn(20, generator=generator, dtype=DOUBLE)
    return equations


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_a_damped_step_solves_the_damped_system(damping: float) -> None:
    equations = _equations(1)
    equations.frozen[3] = True
    step = equations.step(damping)
    assert step is not None
    assert float(step[3]) == 0
    free = ~equations.frozen
    damped = equations.H + damping * torch.diag(equations.H.diagonal() + equations.scale**-2)
    assert torch.allclose((damped @ step + equations.g)[free], torch.zeros(19, dtype=DOUBLE), atol=1e-9)
    expected = -float(equations.g @ step + 0.5 * step @ (equations.H @ step))
    assert equations.predicted_decrease(step) == pytest.approx(expected, rel=1e-12)
    assert equations.relative_length(step) == pytest.approx(
        float((step / equations.scale).square().mean().sqrt()), rel=1e-12
    )
    assert steps.relative_length(np.zeros(0), np.zeros(0)) == 0


def test_a_singular_system_has_no_step() -> None:
    equations = _equations(1)
    equations.H[:] = -torch.eye(20, dtype=DOUBLE)
    assert equations.step(0.0) is None


def _seen_head() -> tuple:
    model = random_head()
    state = replace(
        random_state(model, 4), R=torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=DOUBLE)), t=torch.tensor([0, 0, 0.6])
    )
    state = replace(state, t=state.t.double())
    return model, state, surface_view(model, torch.zeros(model.shape_count, dtype=DOUBLE), state)


def test_seen_samples_are_those_of_the_plain_test() -> None:
    model, state, view = _seen_head()
    samples = face_samples(model, 400)
    lens, size = replace(CAMERA, cx_px=256.0, cy_px=256.0), (256, 256)
    lens = lens.scaled(0.5)
    seen, normals, points, cosine = sample_visibility(model, samples, view, (state, lens), size)
    expected_normals = torch.nn.functional.normalize(samples.at(model, view.normals_head), dim=1)
    expected_points = samples.at(model, view.vertices_cam_m(state))
    turned = expected_normals @ state.R.float().T
    assert torch.allclose(normals, expected_normals, atol=1e-5)
    assert torch.allclose(points, expected_points, atol=1e-6)
    expected_cosine = -(turned * torch.nn.functional.normalize(expected_points, dim=1)).sum(1)
    assert torch.allclose(cosine, expected_cosine, atol=1e-4)
    buffer = depth_buffer(model, view, state, lens, size, cull_back=True)
    expected = visible_points(buffer, expected_points.numpy(), turned.numpy(), lens, min_cosine=0.2)
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(seen.numpy(), expected)


@pytest.mark.parametrize("yaw", [0.0, 0.6, 1.2])
def test_of_a_closed_head_the_front_hides_as_much_as_all_of_it(yaw: float) -> None:
    model = load_generic().with_modes(0, 50)
    turn = exp_so3(torch.tensor([0.2, yaw, 0.1], dtype=DOUBLE))
    state = neutral_state(model)
    state = replace(state, R=turn @ state.R)
    view = surface_view(model, torch.zeros(0, dtype=DOUBLE), state)
    samples, lens, size = face_samples(model, 1500), Intrinsics(500.0, 128.0, 128.0), (256, 256)
    seen, normals, points, _ = sample_visibility(model, samples, view, (state, lens), size)
    whole = depth_buffer(model, view, state, lens, size)
    turned = (normals @ state.R.float().T).numpy()
    expected = visible_points(whole, points.numpy(), turned, lens, min_cosine=0.2)
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(seen.numpy(), expected)


def test_points_beyond_the_picture_or_behind_the_camera_are_not_seen() -> None:
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [0, 1, 0]], np.float32)
    triangles, normals = np.array([[0, 1, 2]]), np.tile(np.float32([0, 0, -1]), (3, 1))
    places = np.zeros(2, np.int64), np.array([[1, 0, 0], [0.3, 0.3, 0.4]], np.float32)
    depth, camera = np.full((8, 8), 2, np.float32), np.array([4.0, 4.0, 4.0])
    mesh = vertices, normals, triangles

    def seen(z: float, buffer: np.ndarray = depth) -> list[bool]:
        found = seen_points(mesh, places, np.eye(3), np.array([0, 0, z]), camera, buffer, 0.01, 0.1)[0]
        return [bool(one) for one in found]

    assert seen(2.0) == [True, True]
    assert seen(0.5) == [False, True]
    assert seen(-2.0) == [False, False]
    assert seen(2.1) == [False, False]
    assert seen(2.0, np.zeros_like(depth)) == [False, False]


def test_facing_is_that_of_the_formula() -> None:
    model, state, view = _seen_head()
    landmarks = landmark_set(model, with_sparse=False)
    facing = landmark_facing(landmarks, view.normals_head, model, state)
    template = landmarks.template
    corners = view.normals_head.double()[model.triangles[template.faces]]
    normals = torch.nn.functional.normalize((corners * template.bary.double()[..., None]).sum(1), dim=1)
    towards = torch.nn.functional.normalize(template.points.rest @ state.R.T + state.t, dim=1)
    cosine = -((normals @ state.R.T) * towards).sum(1)
    assert torch.allclose(facing, (cosine / 0.5).clamp(0.1, 1.0), atol=1e-6)
    assert float(facing.min()) < float(facing.max())


def _lit_samples() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    normals = torch.nn.functional.normalize(torch.randn(201, 3, generator=generator), dim=1)
    albedo = 0.3 + 0.5 * torch.rand(201, 3, generator=generator)
    light = torch.randn(9, 3, generator=generator, dtype=DOUBLE) * 0.2
    light[0] += 3
    colours = albedo * (sh_basis(normals) @ light.float()) + 0.02 * torch.randn(201, 3, generator=generator)
    colours[:20] += 0.5
    return colours, albedo, normals, torch.rand(201, generator=generator), light


def test_light_is_that_of_torch_with_the_same_weights() -> None:
    colours, albedo, normals, cosine, truth = _lit_samples()
    prior, inverse_std = truth + 0.1, torch.full((9,), 2.0, dtype=DOUBLE)
    samples = (part.numpy() for part in (colours, albedo, normals, cosine))
    light, error = fitted_light(*samples, prior.numpy(), inverse_std.numpy(), (0.012, MAD))
    residual = (colours - albedo * (sh_basis(normals) @ prior.float())).abs().mean(1)
    sigma = max(MAD * float(residual.median()), 0.012)
    weight = cosine / sigma**2 / (1 + (residual / (3 * sigma)) ** 2) ** 2
    expected = estimate_light(colours, albedo, normals, weight, prior, inverse_std)
    assert np.allclose(light, expected.numpy(), atol=1e-4)
    left = colours - albedo * (sh_basis(normals) @ expected.float())
    assert error == pytest.approx(float(left.abs().mean()), rel=1e-4)
    # Nearer to the truth than where it began, the outliers notwithstanding.
    assert np.abs(light - truth.numpy()).mean() < 0.5 * np.abs(prior - truth).mean()


def test_plain_colours_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    level = ImageLevel(torch.rand(40, 50, 3, generator=generator), 1.0)
    pixels = torch.rand(60, 2, generator=generator) * torch.tensor([56.0, 46.0]) - 3
    assert torch.allclose(plain_colours(level, pixels), sample(level.pixels, pixels)[0], atol=1e-5)


def _track(count: int) -> list[FrameState]:
    model = random_head()
    return [random_state(model, seed) for seed in range(count)]


def test_changes_of_a_track_are_the_differences_of_its_states() -> None:
    states = _track(4)
    change, later = changes(states)
    ones = torch.ones(change.shape[1], dtype=DOUBLE)
    for n in range(3):
        term = GaussianTerm(states[n], ones)
        jacobian = term.jacobian(states[n + 1]).numpy()
        np.testing.assert_allclose(change[n], term.residual(states[n + 1]).numpy(), atol=1e-12)
        for k, block in enumerate((Layout.rotation, Layout.jaw)):
            np.testing.assert_allclose(later[k, n], jacobian[block, block], atol=1e-12)


def test_turns_over_time_enter_the_band_as_they_would_a_dense_matrix() -> None:
    """Rows of first and second differences, written out for all frames' unknowns at once."""
    rng = np.random.default_rng(3)
    frames, size, start = 5, 8, 2
    later, every_change = rng.standard_normal((frames - 1, 3, 3)), rng.standard_normal((frames - 1, size))
    weights_of_all = rng.uniform(1, 2, size), rng.uniform(1, 2, size)
    own = slice(start, start + 3)
    change, (walk, weight) = every_change[:, own], (part[own] for part in weights_of_all)
    firsts, seconds = np.array([0, 1, 3]), np.array([0])
    rows, right, weights = [], [], []

    def add(parts: dict[int, np.ndarray], residual: np.ndarray, precision: np.ndarray) -> None:
        row = np.zeros((3, frames * size))
        for frame, jacobian in parts.items():
            row[:, frame * size + start : frame * size + start + 3] = jacobian
        rows.append(row)
        right.append(residual)
        weights.append(precision)

    for f in firsts:
        add({f: -later[f].T, f + 1: later[f]}, change[f], walk)
    for f in seconds:
        parts = {f: later[f].T, f + 1: -later[f] - later[f + 1].T, f + 2: later[f + 1]}
        add(parts, change[f + 1] - change[f], weight)
    A, r, w = np.concatenate(rows), np.concatenate(right), np.concatenate(weights)
    dense, gradient = A.T @ (w[:, None] * A), A.T @ (w * r)
    stored, b = np.zeros((2 * size + 3, frames * size), order="F"), np.zeros((frames, size))
    band.add_turns(stored, b, start, later, every_change, (firsts, seconds), weights_of_all)
    for offset in range(len(stored)):
        diagonal = np.diagonal(dense, -offset)
        np.testing.assert_allclose(stored[offset, : len(diagonal)], diagonal, atol=1e-12)
    np.testing.assert_allclose(b.reshape(-1), gradient, atol=1e-12)


def test_a_view_from_behind_sees_nothing_of_the_face() -> None:
    model, state, _ = _seen_head()
    turned = replace(state, R=torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=DOUBLE)))
    view = surface_view(model, torch.zeros(model.shape_count, dtype=DOUBLE), turned)
    camera = turned, CAMERA.scaled(0.5)
    seen, _, _, cosine = sample_visibility(model, face_samples(model, 100), view, camera, (256, 256))
    assert float(seen.float().mean()) < 0.2
    assert bool((cosine[seen] >= 0.2).all())
