"""Every residual's analytic Jacobian against finite differences in float64, and what each term is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from numeric import numeric_jacobian, worst_relative

from tracker.camera import Intrinsics
from tracker.image import ImageLevel, sample
from tracker.kernels.rotations import inverse_left_jacobian
from tracker.points import PointSet, point_template
from tracker.problem import Bounds, FrameProblem
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import linearise_projection, pixels_by_camera, project_state
from tracker.robust import KERNELS
from tracker.rotations import exp_so3, log_so3
from tracker.solver import SolverSettings, minimise
from tracker.state import FrameState

MODEL = random_head()
INTRINSICS = Intrinsics(300.0, 270.0, 255.0)
P = 15 + MODEL.expression_count
TOLERANCE = 1e-6


def _points() -> PointSet:
    template = point_template(MODEL, MODEL.landmarks478.faces, MODEL.landmarks478.bary)
    return template.with_shape(torch.full((MODEL.shape_count,), 0.3, dtype=torch.float64))


def _smooth_picture() -> ImageLevel:
    y, x = np.mgrid[0:520, 0:560] / 20.0
    channels = [np.sin(x + k) * np.cos(0.7 * y - k) * 0.4 + 0.5 for k in range(3)]
    return ImageLevel(torch.from_numpy(np.stack(channels, -1)), 1.0)


def _state(seed: int) -> FrameState:
    state = random_state(MODEL, seed)
    return replace(state, t=torch.tensor([0.01, -0.02, 0.6], dtype=torch.float64))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_projection_jacobian(seed: int) -> None:
    points, state = _points(), _state(seed)
    analytic = linearise_projection(points, state, INTRINSICS).jacobian
    numeric = numeric_jacobian(lambda d: project_state(points, state.retract(d), INTRINSICS), P)
    assert worst_relative(analytic, numeric) < TOLERANCE


def test_camera_jacobian() -> None:
    points, state = _points(), _state(3)

    def moved(d: torch.Tensor) -> torch.Tensor:
        moved_camera = Intrinsics(
            INTRINSICS.focal_px * float(torch.exp(d[0])), INTRINSICS.cx_px + float(d[1]), INTRINSICS.cy_px + float(d[2])
        )
        return project_state(points, state, moved_camera)

    analytic = pixels_by_camera(project_state(points, state, INTRINSICS), INTRINSICS)
    assert worst_relative(analytic, numeric_jacobian(moved, 3)) < TOLERANCE


def test_sampling_derivative_is_that_of_the_interpolation() -> None:
    level = _smooth_picture()
    where = torch.tensor([[3.2, 9.9], [100.3, 80.8], [50.25, 60.75]], dtype=torch.float64)
    analytic = sample(level.pixels, where)[1]
    numeric = numeric_jacobian(lambda d: sample(level.pixels, where + d)[0], 2)
    assert worst_relative(analytic, numeric) < TOLERANCE


def test_sampling_counts_centres_at_half() -> None:
    picture = torch.arange(12.0).reshape(3, 4, 1)
    assert float(sample(picture, torch.tensor([[2.5, 1.5]]))[0]) == pytest.approx(6.0, abs=1e-5)


def _photometric(state: FrameState) -> PhotometricTerm:
    points = _points()
    generator = torch.Generator().manual_seed(1)
    normals = torch.nn.functional.normalize(
        torch.randn(len(points), 3, generator=generator, dtype=torch.float64), dim=1
    )
    albedo = torch.rand(len(points), 3, generator=generator, dtype=torch.float64)
    confidence = torch.ones(len(points), dtype=torch.float64)
    return PhotometricTerm(points, normals, albedo, _smooth_picture(), 0.1, confidence, state.light)


@pytest.mark.parametrize("shaded", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_photometric_jacobian(scale: float, shaded: bool) -> None:
    state = _state(4)
    term = _photometric(state)
    term = term if shaded else replace(term, light=None)
    term = replace(term, level=ImageLevel(term.level.pixels, scale))
    analytic = term.linearise(state, INTRINSICS).jacobian
    numeric = numeric_jacobian(lambda d: term.residual(state.retract(d), INTRINSICS), P, step=1e-7)
    # Points within the difference's width of a pixel border see another bilinear patch; none does with this seed.
    assert worst_relative(analytic, numeric) < 1e-5


@pytest.mark.parametrize("seed", [0, 5])
def test_gaussian_jacobian(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inverse_std = torch.rand(P, generator=generator, dtype=torch.float64) + 0.5
    term = GaussianTerm(_state(7), inverse_std)
    state = _state(seed)
    numeric = numeric_jacobian(lambda d: term.residual(state.retract(d)), P)
    assert worst_relative(term.jacobian(state), numeric) < TOLERANCE


def test_gaussian_jacobian_is_finite_at_its_target() -> None:
    term = GaussianTerm(_state(7), torch.ones(P, dtype=torch.float64))
    assert torch.allclose(term.jacobian(_state(7)), torch.eye(P, dtype=torch.float64), atol=1e-9)


def test_inverse_left_jacobian() -> None:
    w = torch.tensor([0.5, -0.9, 0.3], dtype=torch.float64)
    numeric = numeric_jacobian(lambda d: log_so3(exp_so3(d) @ exp_so3(w)), 3)
    assert worst_relative(torch.from_numpy(inverse_left_jacobian(w.numpy())), numeric) < 1e-7


def test_gaze_jacobian() -> None:
    term, state = GazeSymmetryTerm(), _state(1)
    numeric = numeric_jacobian(lambda d: term.residual(state.retract(d)), P)
    assert worst_relative(term._rows(), numeric[:, 9:13]) < TOLERANCE
    assert float(numeric[:, :9].abs().max()) == 0


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernel_weight_is_the_derivative_of_its_cost(name: str) -> None:
    squared = torch.tensor([0.01, 1.0, 3.9, 4.1, 30.0], dtype=torch.float64)
    rho_up, rho_down = KERNELS[name](squared + 1e-6)[0], KERNELS[name](squared - 1e-6)[0]
    assert torch.allclose(KERNELS[name](squared)[1], (rho_up - rho_down) / 2e-6, atol=1e-6)


def _landmark_problem(target: FrameState, confidence: torch.Tensor | None = None) -> FrameProblem:
    points = _points()
    count = len(points)
    pairs = torch.tensor([[0, 1], [2, 3]])
    confidence = torch.ones(count, dtype=torch.float64) if confidence is None else confidence
    term = LandmarkTerm(
        points,
        project_state(points, target, INTRINSICS),
        0.5,
        confidence,
        pairs,
        0.3,
        torch.ones(2, dtype=torch.float64),
    )
    infinite = torch.tensor([[-np.inf, np.inf]], dtype=torch.float64)
    bounds = Bounds(infinite.repeat(MODEL.expression_count, 1), infinite[0], infinite.repeat(2, 1))
    scale = torch.ones(P, dtype=torch.float64)
    held = torch.zeros(P, dtype=torch.bool)
    return FrameProblem(INTRINSICS, (term,), None, (), GazeSymmetryTerm(1e3, 1e3), bounds, scale, held)


def test_gradient_of_the_whole_problem_is_that_of_its_cost() -> None:
    problem = replace(_landmark_problem(_state(9)), photometric=_photometric(_state(8)))
    problem = replace(problem, gaussians=(GaussianTerm(_state(7), torch.full((P,), 2.0, dtype=torch.float64)),))
    state = _state(8)
    equations = problem.linearise(state)
    numeric = numeric_jacobian(lambda d: torch.tensor(problem.cost(state.retract(d)), dtype=torch.float64), P)
    assert worst_relative(equations.g, numeric) < 1e-5
    assert equations.cost == pytest.approx(problem.cost(state), rel=1e-12)


def test_landmarks_recover_the_pose() -> None:
    target = _state(9)
    start = target.retract(
        torch.cat([torch.full((6,), 0.05, dtype=torch.float64), torch.zeros(P - 6, dtype=torch.float64)])
    )
    prior = GaussianTerm(target, torch.cat([torch.zeros(6), torch.ones(P - 6)]).double())
    problem = replace(_landmark_problem(target), gaussians=(prior,))
    solution = minimise(problem, start, SolverSettings(max_steps=30, cost_tolerance=1e-12, step_tolerance=1e-9))
    assert (solution.state.t - target.t).norm() < 1e-5
    assert solution.outcome.costs[-1] < 1e-6 * solution.outcome.costs[0]


def test_bounds_hold_and_the_rest_still_converges() -> None:
    target = _state(9)
    problem = _landmark_problem(target)
    limits = torch.tensor([[-0.01, 0.01]], dtype=torch.float64).repeat(MODEL.expression_count, 1)
    problem = replace(problem, bounds=replace(problem.bounds, expression=limits))
    problem = replace(problem, gaussians=(GaussianTerm(target, torch.full((P,), 1e-2, dtype=torch.float64)),))
    start = problem.bounds.clamp(target)
    solution = minimise(problem, start, SolverSettings(max_steps=40, cost_tolerance=1e-10))
    assert float(solution.state.expression.abs().max()) <= 0.01
    assert solution.outcome.costs[-1] < solution.outcome.costs[0]


def test_far_landmark_loses_its_pull() -> None:
    target = _state(9)
    problem = _landmark_problem(target)
    term = problem.landmarks[0]
    wrong = term.targets_px.clone()
    wrong[5] += 200
    problem = replace(problem, landmarks=(replace(term, targets_px=wrong),))
    prior = GaussianTerm(target, torch.full((P,), 0.1, dtype=torch.float64))
    problem = replace(problem, gaussians=(prior,))
    solution = minimise(problem, target, SolverSettings(max_steps=30))
    error = project_state(_points(), solution.state, INTRINSICS) - term.targets_px
    assert float(error.norm(dim=1).median()) < 1.0


def test_non_finite_start_is_reported() -> None:
    target = _state(9)
    bad = replace(target, t=torch.tensor([0.0, 0.0, float("nan")], dtype=torch.float64))
    assert minimise(_landmark_problem(target), bad, SolverSettings()).outcome.status == "non-finite"
