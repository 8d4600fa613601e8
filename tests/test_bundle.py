"""The joint solve: its gradient, its elimination against a dense solve, and recovery of a known clip."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from numeric import numeric_jacobian, worst_relative

from tracker.bundle import BundleProblem, BundleState, Observation, OffsetModel, SharedPrior
from tracker.bundle_equations import CoupledEquations
from tracker.camera import Intrinsics
from tracker.image import ImageLevel
from tracker.local_contrast import local_contrast_torch, surface_tangents
from tracker.points import point_template
from tracker.problem import Bounds
from tracker.residuals.contour import ContourTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import linearise_projection_torch, project_state
from tracker.residuals.shared_colours import ColourView, SharedColours
from tracker.solver import SolverSettings, minimise

MODEL = random_head()
P = 15 + MODEL.expression_count
TEMPLATE = point_template(MODEL, MODEL.landmarks478.faces, MODEL.landmarks478.bary)
COUNT = len(MODEL.landmarks478)
TRUE_CAMERA = Intrinsics(420.0, 270.0, 250.0)


def _truth(frames: int) -> BundleState:
    states = []
    for i in range(frames):
        state = random_state(MODEL, 10 + i)
        t = torch.tensor([0.01 * i, -0.02, 0.5 + 0.05 * i], dtype=torch.float64)
        states.append(replace(state, t=t))
    shape = torch.linspace(-1, 1, MODEL.shape_count, dtype=torch.float64)
    return BundleState(shape, TRUE_CAMERA, torch.zeros(COUNT, 3, dtype=torch.float64), tuple(states))


# Offsets that differ together, by a fixed mixture that adds a tenth to their variance.
_ROOT = torch.eye(3 * COUNT, dtype=torch.float64)
_ROOT += 0.3 / (3 * COUNT) ** 0.5 * torch.randn(_ROOT.shape, generator=torch.Generator().manual_seed(8)).double()


def _problem(truth: BundleState, offset_std: float = 1e-3, bias: torch.Tensor | None = None) -> BundleProblem:
    points = TEMPLATE.with_shape(truth.shape)
    if bias is not None:
        points = points.moved(bias)
    ones = torch.ones(COUNT, dtype=torch.float64)
    seen = tuple(
        Observation(
            project_state(points, frame, truth.intrinsics), 1.0, ones, torch.tensor([[0, 1], [4, 7]]), 0.5, ones[:2]
        )
        for frame in truth.frames
    )
    shared = SharedPrior(
        shape=torch.zeros(MODEL.shape_count, dtype=torch.float64),
        shape_std=torch.full((MODEL.shape_count,), 3.0, dtype=torch.float64),
        log_focal=float(np.log(400.0)),
        log_focal_std=0.5,
        centre_px=(256.0, 256.0),
        centre_std_px=30.0,
        offsets=OffsetModel(
            torch.zeros(COUNT, 3, dtype=torch.float64),
            offset_std * _ROOT if offset_std else None,
        ),
        directions=torch.tensor([[0.1], [0.03]], dtype=torch.float64).expand(2, MODEL.shape_count),
        direction_std=torch.tensor([1.0, 0.2], dtype=torch.float64),
    )
    infinite = torch.tensor([[-np.inf, np.inf]], dtype=torch.float64)
    bounds = Bounds(infinite.repeat(MODEL.expression_count, 1), infinite[0], infinite.repeat(2, 1))
    inverse_std = torch.cat([torch.zeros(6), torch.full((P - 6,), 0.5)]).double()
    prior = GaussianTerm(truth.frames[0], inverse_std)
    held = torch.zeros(P, dtype=torch.bool)
    return BundleProblem(
        TEMPLATE, seen, shared, prior, GazeSymmetryTerm(10, 10), bounds, held, torch.ones(P, dtype=torch.float64)
    )


def _perturbed(truth: BundleState, size: float) -> BundleState:
    generator = torch.Generator().manual_seed(3)

    def noise(count: int) -> torch.Tensor:
        return size * torch.randn(count, generator=generator, dtype=torch.float64)

    frames = tuple(
        frame.retract(noise(P) * torch.cat([torch.full((6,), 0.1), torch.ones(P - 6)])) for frame in truth.frames
    )
    camera = Intrinsics(truth.intrinsics.focal_px * 0.95, 262.0, 255.0)
    return replace(truth, shape=truth.shape + noise(MODEL.shape_count), intrinsics=camera, frames=frames)


def test_gradient_is_that_of_the_cost() -> None:
    truth = _truth(2)
    problem, state = _problem(truth), _perturbed(truth, 0.05)
    equations = problem.linearise(state)
    analytic = torch.cat([equations.shared.g, *(own.g for own, _ in equations.frames)])
    numeric = numeric_jacobian(
        lambda d: torch.tensor(problem.cost(problem.retract(state, d)), dtype=torch.float64), len(analytic), 1e-7
    )
    assert worst_relative(analytic, numeric) < 1e-5
    assert equations.cost == pytest.approx(problem.cost(state), rel=1e-12)


def test_elimination_equals_the_dense_solve() -> None:
    truth = _truth(3)
    problem, state = _problem(truth), _perturbed(truth, 0.05)
    equations = problem.linearise(state)
    C = len(equations.shared.g)
    total = C + 3 * P
    H, g = torch.zeros(total, total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
    H[:C, :C], g[:C] = equations.shared.H, equations.shared.g
    for i, (own, coupling) in enumerate(equations.frames):
        block = slice(C + i * P, C + (i + 1) * P)
        H[block, block], g[block] = own.H, own.g
        H[block, :C], H[:C, block] = coupling, coupling.T
    step = equations.step(0.0)
    assert step is not None
    assert torch.allclose(step, -torch.linalg.solve(H, g), rtol=1e-6, atol=1e-9)
    covariance = equations.shared_covariance()
    assert covariance is not None
    assert torch.allclose(covariance, torch.linalg.inv(H)[:C, :C], rtol=1e-5, atol=1e-12)


def test_recovers_shape_and_focal_length() -> None:
    truth = _truth(6)
    problem, start = _problem(truth, offset_std=1e-5), _perturbed(truth, 0.1)
    solution = minimise(problem, start, SolverSettings(max_steps=60, cost_tolerance=1e-9, step_tolerance=1e-6))
    assert solution.state.intrinsics.focal_px == pytest.approx(420.0, rel=0.02)
    points = TEMPLATE.with_shape(solution.state.shape).rest - TEMPLATE.with_shape(truth.shape).rest
    assert float(points.norm(dim=1).median()) < 1e-3
    assert solution.outcome.costs[-1] < 1e-2 * solution.outcome.costs[0]


def test_a_lens_far_from_the_prior_is_found() -> None:
    truth = _truth(3)
    problem = _problem(truth)
    far = math.log(TRUE_CAMERA.focal_px) - 0.6
    start = _perturbed(truth, 0.01)
    errors = []
    for std in (0.08, 0.02):
        prior = replace(problem.shared, log_focal=far, log_focal_std=std)
        solved = minimise(
            replace(problem, shared=prior), start, SolverSettings(max_steps=60, cost_tolerance=1e-9)
        ).state
        errors.append(abs(math.log(solved.intrinsics.focal_px / TRUE_CAMERA.focal_px)))
    # A normal distribution of the wider spread would pull with 0.6 / 0.08² = 94, of the narrower with 1500; these pull
    # with a tenth and a hundredth of that.
    assert max(errors) < 0.01


def test_held_focal_length_stays() -> None:
    truth = _truth(3)
    problem = _problem(truth)
    problem = replace(problem, shared=replace(problem.shared, log_focal_std=0.0, centre_std_px=0.0))
    start = _perturbed(truth, 0.05)
    solution = minimise(problem, start, SolverSettings(max_steps=5))
    assert solution.state.intrinsics == start.intrinsics


def test_offsets_take_up_a_detectors_bias() -> None:
    """Biased landmarks: a prior that knows the bias gives back the identity, one that does not know pays for it."""
    truth = _truth(8)
    bias = 0.006 * torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors, costs = [], []
    for mean, offset_std in ((torch.zeros_like(bias), 1e-5), (torch.zeros_like(bias), 4e-3), (bias, 1e-3)):
        problem = _problem(truth, offset_std, bias)
        problem = replace(problem, shared=replace(problem.shared, offsets=replace(problem.shared.offsets, mean_m=mean)))
        start = _perturbed(truth, 0.02)
        solution = minimise(problem, start, SolverSettings(max_steps=30))
        errors.append(float((solution.state.shape - truth.shape).norm()))
        costs.append(solution.outcome.costs[-1])
    assert costs[1] < 0.2 * costs[0]
    assert errors[2] < 0.5 * errors[0]


def _coloured(truth: BundleState, frames: int, lit: bool = False) -> BundleProblem:
    """Every frame shows one smooth picture at half resolution, `lit` by its own light; the landmarks are loosened."""
    y, x = np.mgrid[0:400, 0:400] / 20.0
    picture = np.stack([0.5 + 0.4 * np.sin(x + k) * np.cos(0.7 * y - k) for k in range(3)], -1)
    level = ImageLevel(torch.from_numpy(picture), 0.5)
    generator = torch.Generator().manual_seed(5)
    views = []
    for k in range(frames):
        ids = torch.arange(k, COUNT, 2 + k)
        axes = 2 * torch.rand(len(ids), 2, 2, generator=generator, dtype=torch.float64)
        weight = torch.rand(len(ids), generator=generator, dtype=torch.float64)
        gain = 0.6 + torch.rand(len(ids), 3, generator=generator, dtype=torch.float64) if lit else None
        views.append(ColourView(ids, level, axes, weight, gain))
    problem = _problem(truth)
    loose = [replace(o, sigma_px=1e4, pair_sigma_px=1e4) for o in problem.observations]
    tangents = surface_tangents(torch.nn.functional.normalize(TEMPLATE.points.rest, dim=1))
    return replace(problem, observations=tuple(loose), colours=SharedColours(TEMPLATE, tangents, tuple(views)))


def _linear_contrasts(problem: BundleProblem, state: BundleState) -> Callable[[torch.Tensor], torch.Tensor]:
    """All contrasts (K, 3) after a step, each picture replaced by a plane: the slope that all frames share.

    The slope along the surface is the weighted mean of the frames'; where a frame sees the surface at a grazing angle,
    the lesser singular value of the pixel's motion is raised to 0.3 of the greater.
    """
    colours = problem.colours
    assert colours is not None
    surface = TEMPLATE.with_shape(state.shape)
    planes, total = [], torch.zeros(COUNT, dtype=torch.float64)
    slopes = torch.zeros(COUNT, 3, 2, dtype=torch.float64)
    for view, frame in zip(colours.views, state.frames, strict=True):
        lens = state.intrinsics.scaled(view.level.scale)
        projected = linearise_projection_torch(surface.subset(view.ids), frame, lens)
        value, slope = local_contrast_torch(view.level, projected.pixels, view.axes)
        if view.gain is not None:
            value, slope = value / view.gain, slope / view.gain[..., None]
        by_tangent = projected.by_rest @ colours.tangents[view.ids].double()
        slopes.index_add_(0, view.ids, view.weight[:, None, None] * (slope @ by_tangent))
        total.index_add_(0, view.ids, view.weight)
        U, size, Vt = torch.linalg.svd(by_tangent)
        size = torch.maximum(size, 0.3 * size[:, :1])
        planes.append((value, projected.pixels, (U / size[:, None]) @ Vt))
    slopes /= total.clamp_min(1e-12)[:, None, None]

    def contrasts(step: torch.Tensor) -> torch.Tensor:
        moved = problem.retract(state, step)
        surface = TEMPLATE.with_shape(moved.shape)
        found = []
        for view, frame, (value, start, inverse) in zip(colours.views, moved.frames, planes, strict=True):
            pixels = project_state(surface.subset(view.ids), frame, moved.intrinsics.scaled(view.level.scale))
            found.append(value + torch.einsum("nct,npt,np->nc", slopes[view.ids], inverse, pixels - start))
        return torch.cat(found)

    return contrasts


def test_gradient_with_contours_is_that_of_the_cost() -> None:
    truth = _truth(2)
    state, problem = _perturbed(truth, 0.05), _problem(truth)
    generator = torch.Generator().manual_seed(8)
    contours = []
    for frame in truth.frames:
        pixels = project_state(TEMPLATE.with_shape(truth.shape), frame, truth.intrinsics)
        angles = 6.28 * torch.rand(len(pixels), generator=generator, dtype=torch.float64)
        normals = torch.stack([angles.cos(), angles.sin()], 1)
        # Near and far: within the kernel's quadratic part and well beyond it.
        shift = 4 * torch.randn(len(pixels), 1, generator=generator, dtype=torch.float64)
        contours.append(ContourTerm(TEMPLATE, pixels + shift * normals, normals, 2.0, 0.3))
    loose = [replace(o, sigma_px=1e4, pair_sigma_px=1e4) for o in problem.observations]
    problem = replace(problem, observations=tuple(loose), contours=tuple(contours))
    equations = problem.linearise(state)
    analytic = torch.cat([equations.shared.g, *(own.g for own, _ in equations.frames)])
    numeric = numeric_jacobian(
        lambda d: torch.tensor(problem.cost(problem.retract(state, d)), dtype=torch.float64), len(analytic), 1e-7
    )
    assert worst_relative(analytic, numeric) < 1e-5
    assert equations.cost == pytest.approx(problem.cost(state), rel=1e-12)
    assert sum(float(c.cost(state.shape, f, state.intrinsics)) for c, f in zip(contours, state.frames, strict=True)) > 1


@pytest.mark.parametrize("lit", [False, True], ids=["steady light", "moving light"])
def test_gradient_with_colours_is_that_of_one_slope_for_all_frames(lit: bool) -> None:
    """Identity, focal length, principal point and poses through the pictures, the appearance eliminated."""
    truth = _truth(3)
    state, problem = _perturbed(truth, 0.05), _coloured(truth, 3, lit)
    assert problem.colours is not None
    equations, colours = problem.linearise(state), problem.colours
    analytic = torch.cat([equations.shared.g, *(own.g for own, _ in equations.frames)])
    contrasts, rest = _linear_contrasts(problem, state), replace(problem, colours=None)
    weight = torch.cat([view.weight for view in colours.views])[:, None]
    ids = torch.cat([view.ids for view in colours.views])
    total = torch.zeros(COUNT, 1, dtype=torch.float64).index_add_(0, ids, weight).clamp_min(1e-12)

    def cost(step: torch.Tensor) -> torch.Tensor:
        values = contrasts(step)
        means = torch.zeros(COUNT, 3, dtype=torch.float64).index_add_(0, ids, weight * values) / total
        return 0.5 * (weight * (values - means[ids]).square()).sum() + rest.cost(problem.retract(state, step))

    numeric = numeric_jacobian(cost, len(analytic), 1e-7)
    common = MODEL.shape_count + 3
    # The kernels keep slopes in float32.
    for part in (slice(0, MODEL.shape_count), slice(common - 3, common - 2), slice(common - 2, common)):
        assert worst_relative(analytic[part], numeric[part]) < 1e-4
    frames = slice(len(equations.shared.g), None)
    assert worst_relative(analytic[frames], numeric[frames]) < 1e-4
    assert equations.cost == pytest.approx(problem.cost(state), rel=1e-6)


def test_noise_does_not_hold_what_all_frames_see_alike() -> None:
    """Four frames with one pose and noisy pictures: no identity contradicts them, whatever their own slopes say."""
    truth, rng = _truth(1), np.random.default_rng(3)
    y, x = np.mgrid[0:400, 0:400] / 20.0
    clean = np.stack([0.5 + 0.3 * np.sin(x + k) * np.cos(0.7 * y - k) for k in range(3)], -1)
    ids, views = torch.arange(COUNT), []
    for _ in range(4):
        picture = torch.from_numpy(clean + 0.05 * rng.standard_normal(clean.shape))
        axes = 2 * torch.eye(2, dtype=torch.float64).expand(COUNT, 2, 2).contiguous()
        views.append(ColourView(ids, ImageLevel(picture, 0.5), axes, torch.ones(COUNT, dtype=torch.float64)))
    tangents = surface_tangents(torch.nn.functional.normalize(TEMPLATE.points.rest, dim=1))
    state = replace(truth, frames=truth.frames * 4)
    problem = replace(_problem(state), colours=SharedColours(TEMPLATE, tangents, tuple(views)))
    coupled = problem.linearise(state)
    assert isinstance(coupled, CoupledEquations)
    shape = slice(0, MODEL.shape_count)
    alone = replace(problem, colours=None).linearise(state).shared.H[shape, shape]
    by_colours = coupled.shared.H[shape, shape] - alone
    left = coupled.dense[0][shape, shape] - alone
    assert float(left.abs().max()) < 1e-5 * float(by_colours.abs().max())


def test_eliminated_appearance_equals_solving_for_it() -> None:
    """The matrix is the Schur complement of one with the samples' contrast among the unknowns."""
    truth = _truth(3)
    problem, state = _coloured(truth, 3), _perturbed(truth, 0.05)
    equations = problem.linearise(state)
    assert isinstance(equations, CoupledEquations)
    assert problem.colours is not None
    H = equations.dense[0]
    plain = replace(problem, colours=None).linearise(state)
    C, common = len(plain.shared.g), MODEL.shape_count + 3
    expected = torch.zeros_like(H)
    expected[:C, :C] = plain.shared.H
    for k, (own, coupling) in enumerate(plain.frames):
        block = slice(C + k * P, C + (k + 1) * P)
        expected[block, block], expected[block, :C], expected[:C, block] = own.H, coupling, coupling.T
    # Numeric derivatives of every contrast by every unknown, then the projection that takes the weighted means away.
    colours, contrasts = problem.colours, _linear_contrasts(problem, state)
    J = numeric_jacobian(lambda step: contrasts(step).reshape(-1), len(H), 1e-6)
    weight = torch.cat([view.weight for view in colours.views]).repeat_interleave(3)
    sample_of = torch.cat([view.ids for view in colours.views])
    group = (3 * sample_of[:, None] + torch.arange(3)).reshape(-1)
    membership = torch.nn.functional.one_hot(group, 3 * COUNT).double()
    mean = membership.T @ (weight[:, None] * J) / (membership.T @ weight).clamp_min(1e-12)[:, None]
    centred = J - membership @ mean
    expected += centred.T @ (weight[:, None] * centred)
    assert float((H - expected).abs().max() / expected.abs().max()) < 1e-4
    assert common < C


def test_covariance_of_coupled_equations_is_that_of_the_dense_inverse() -> None:
    truth = _truth(3)
    equations = _coloured(truth, 3).linearise(_perturbed(truth, 0.05))
    assert isinstance(equations, CoupledEquations)
    covariance = equations.shared_covariance()
    assert covariance is not None
    C = len(equations.shared.g)
    assert torch.allclose(covariance, torch.linalg.inv(equations.dense[0])[:C, :C], rtol=1e-4, atol=1e-10)


def test_focal_length_moves_although_damped() -> None:
    """Along a dolly zoom only perspective changes; were focal length and distance separate, damping would hold both."""
    truth = _truth(6)
    problem = _problem(truth, offset_std=1e-5)
    wrong = 0.8
    away = torch.tensor([1.0, 1.0, wrong], dtype=torch.float64)
    start = replace(
        truth,
        intrinsics=replace(truth.intrinsics, focal_px=wrong * truth.intrinsics.focal_px),
        frames=tuple(replace(frame, t=frame.t * away) for frame in truth.frames),
    )
    step = problem.linearise(start).step(1e-2)
    assert step is not None
    assert problem.retract(start, step).intrinsics.focal_px == pytest.approx(truth.intrinsics.focal_px, rel=0.1)
