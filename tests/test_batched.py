"""The parts of the batched solve against those of single frames: terms, steps, visibility."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from batched_case import Case, in_float64, problems
from heads import random_head, random_state
from numeric import numeric_jacobian, worst_relative
from scipy.spatial.transform import Rotation

from tracker.batched.depth import depth_buffers
from tracker.batched.equations import (
    bounded_step,
    gaussians,
    gaussians_cost,
    inverse_left_jacobian,
    short_log,
)
from tracker.batched.minimise import BatchProblem
from tracker.batched.pictures import pyramids
from tracker.batched.points import BatchPoints
from tracker.batched.state import BatchState, nearest_rotation
from tracker.batched.terms import masked_median
from tracker.camera import Intrinsics
from tracker.image import pyramid
from tracker.normal_equations import bounded_step as single_step
from tracker.points import point_template
from tracker.problem import FrameProblem
from tracker.rasterizer import rasterize
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.projection import linearise_projection_torch
from tracker.state import FrameState

LENS = Intrinsics(700.0, 260.0, 250.0)


def _cpu(values: torch.Tensor) -> torch.Tensor:
    return values.cpu().double()


# ---- terms


def _random_points(correctives: bool) -> tuple[BatchPoints, BatchState]:
    model = random_head()
    generator = torch.Generator().manual_seed(2)
    turned = 1e-3 * torch.randn(model.vertex_count, 3, 36, generator=generator) if correctives else None
    model = replace(model, pose_correctives=turned)
    ahead = torch.tensor([0.01, -0.02, 0.6], dtype=torch.float64)
    states = [replace(random_state(model, seed), t=ahead) for seed in (4, 5)]
    points = point_template(model, model.landmarks478.faces, model.landmarks478.bary).with_shape(torch.ones(5).double())
    return in_float64(BatchPoints.of(points, "cpu")), in_float64(BatchState.of(states, "cpu"))


@pytest.mark.parametrize("correctives", [True, False])
def test_projection_has_its_derivative(correctives: bool) -> None:
    points, state = _random_points(correctives)
    pixels, jacobian = points.linearise(state, LENS)
    assert torch.allclose(pixels, points.project(state, LENS))
    count = jacobian.shape[-1]
    wide = torch.tensor([[-torch.inf, torch.inf]], dtype=torch.float64).repeat(count, 1)
    numeric = numeric_jacobian(lambda d: points.project(state.retract(d.expand(2, -1), wide), LENS), count)
    # 1e-9 measured in float64.
    assert worst_relative(jacobian, numeric) < 1e-7
    assert all(bool(jacobian[..., column].any()) for column in range(count))


@pytest.mark.parametrize("correctives", [True, False])
def test_projection_is_that_of_single_frames(correctives: bool) -> None:
    model = replace(random_head(), pose_correctives=None) if not correctives else random_head()
    template = point_template(model, model.landmarks478.faces, model.landmarks478.bary)
    points = template.with_shape(torch.ones(5).double())
    states = [random_state(model, seed) for seed in (1, 2, 3)]
    pixels, jacobian = BatchPoints.of(points, "cpu").linearise(BatchState.of(states, "cpu"), LENS)
    for row, state in enumerate(states):
        expected = linearise_projection_torch(points, state, LENS)
        # 1e-6 of the largest element measured: float32.
        assert worst_relative(_cpu(pixels[row]), expected.pixels) < 2e-5
        assert worst_relative(_cpu(jacobian[row]), expected.jacobian) < 2e-5


def test_rotations_pull_with_their_derivative() -> None:
    w = torch.tensor([[0.0, 0, 0], [1e-4, 2e-4, 0], [0.02, -0.01, 0.03], [0.2, 0.21, 0.01], [1.0, -0.5, 2.0]])
    ours = inverse_left_jacobian(w)
    for row, vector in enumerate(w.double()):
        turned = Rotation.from_rotvec(vector.numpy())
        numeric = numeric_jacobian(
            lambda d, turned=turned: torch.from_numpy((Rotation.from_rotvec(d.numpy()) * turned).as_rotvec()), 3, 1e-5
        )
        assert float((ours[row].double() - numeric).abs().max()) < 1e-5


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("size", [(64, 96), (66, 70)])
def test_pyramids_are_those_of_opencv(device: str, levels: int, size: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    ours = pyramids(list(pictures), levels, device)
    for row, picture in enumerate(pictures):
        for level, expected in zip(ours, pyramid(picture, levels), strict=True):
            assert level.scale == expected.scale
            assert torch.allclose(level.pixels[row].cpu(), expected.pixels, atol=1e-6)


def _samples_of(batch: BatchProblem, case: Case, index: int, row: int, single: FrameProblem) -> PhotometricTerm:
    """The photometric term of one frame of a batch as that of a single frame: the same samples, discs and weights."""
    contrast = batch.contrast
    assert contrast is not None
    assert single.photometric is not None
    known = (case.single.clip.seen > 0).nonzero()[:, 0][case.batch.on_device.levels[index].ids.cpu()]
    confidence, axes = contrast.confidence[row].cpu(), contrast.axes[row].cpu()
    seen = confidence > 0
    return replace(
        single.photometric,
        points=case.single.clip.sample_points.subset(known[seen]),
        albedo=contrast.target.cpu()[seen],
        sigma=float(contrast.sigma[row]),
        confidence=confidence[seen],
        axes=axes[seen],
    )


@pytest.mark.parametrize("index", [0, 1])
def test_equations_are_those_of_single_frames(case: Case, index: int) -> None:
    """In float64, with the same samples: float32 decides on which side of a border of pixels a place lies."""
    singles, batch, states = problems(case, index)
    at = in_float64(BatchState.of(states, case.batch.device))
    problem = in_float64(batch)
    ours = problem.linearise(at)
    assert torch.allclose(problem.cost(at), ours.cost, rtol=1e-12)
    for row, single in enumerate(singles):
        state = FrameState(**{name: value[row].cpu() for name, value in vars(at).items()})
        term = _samples_of(batch, case, index, row, single)
        theirs = in_float64(replace(single, photometric=term)).linearise(state)
        size = theirs.H.diagonal().sqrt()
        # 7e-7, 3e-6 and 1e-5 measured: pictures and targets are float32 of either side's making.
        assert float(ours.cost[row]) == pytest.approx(theirs.cost, rel=1e-5)
        assert float(((_cpu(ours.H[row]) - theirs.H) / (size[:, None] * size)).abs().max()) < 5e-5
        assert float(((_cpu(ours.g[row]) - theirs.g) / size).abs().max()) < 2e-4


@pytest.mark.parametrize("index", [0, 1])
def test_photometric_terms_are_those_of_single_frames(case: Case, index: int) -> None:
    """What the batch itself took for samples, discs, weights and noise, but for single samples on a border."""
    singles, batch, _ = problems(case, index)
    assert batch.contrast is not None
    for row, single in enumerate(singles):
        ours, theirs = _samples_of(batch, case, index, row, single), single.photometric
        assert theirs is not None
        assert ours.sigma == pytest.approx(theirs.sigma, rel=0.02)
        assert abs(len(ours.points) - len(theirs.points)) <= 3
        apart, same = (ours.points.rest[:, None] - theirs.points.rest).norm(dim=2).min(1)
        both = apart == 0
        assert int(both.sum()) >= len(theirs.points) - 3
        assert torch.allclose(ours.axes[both], theirs.axes[same[both]], atol=1e-3)
        assert torch.allclose(ours.confidence[both], theirs.confidence[same[both]], atol=1e-3)
        assert torch.equal(ours.albedo[both], theirs.albedo[same[both]])


def test_gradient_is_that_of_the_cost(case: Case) -> None:
    """In float64: finite differences of the robust cost, with every kind of term at work."""
    _, batch, states = problems(case, 1)
    problem = in_float64(batch)
    limits = torch.tensor([[-torch.inf, torch.inf]], dtype=torch.float64, device=case.batch.device)
    at = in_float64(BatchState.of(states, case.batch.device))
    at = at.retract(1e-3 * torch.ones_like(problem.linearise(at).g), limits.expand(65, 2))
    equations = problem.linearise(at)
    assert bool((equations.g != 0).all())

    def cost(d: torch.Tensor) -> torch.Tensor:
        return problem.cost(at.retract(d.to(case.batch.device).expand(len(states), -1), limits.expand(65, 2))).cpu()

    numeric = numeric_jacobian(cost, equations.g.shape[1], 1e-8)
    size = torch.diagonal(equations.H, dim1=1, dim2=2).sqrt().cpu()
    errors = ((equations.g.cpu() - numeric) / size).abs().flatten()
    # 2e-6 measured; but a kink of the bilinear pictures may lie within a step or two of the 195 (3e-3 seen).
    assert float(errors.quantile(0.98)) < 1e-4
    assert float(errors.max()) < 0.02


def test_a_gaussian_has_its_least_cost_at_its_mean(device: str) -> None:
    model = random_head()
    states = [random_state(model, seed) for seed in (1, 2)]
    now, then = BatchState.of(states, device), BatchState.of(states[::-1], device)
    inverse = torch.linspace(0.5, 2, 22, device=device)
    assert gaussians(now, [(now, inverse)]).cost.tolist() == pytest.approx([0, 0], abs=1e-9)
    equations = gaussians(now, [(then, inverse)])
    step = -torch.linalg.solve(equations.H, equations.g[..., None])[..., 0]
    wide = torch.tensor([[-torch.inf, torch.inf]], device=device).expand(22, 2)
    after = gaussians_cost(now.retract(step, wide), [(then, inverse)])
    # Exact but for the curvature of large rotations.
    assert bool((after < 0.05 * equations.cost).all())


@pytest.mark.parametrize("angle", [0.0, 1e-5, 2e-4, 0.01, 0.3, 2.9])
def test_the_short_logarithm_is_the_logarithm(device: str, angle: float) -> None:
    w = angle * torch.nn.functional.normalize(torch.tensor([[1.0, 2, -1], [0, 1, 0], [-3, 1, 1]]), dim=1)
    R = torch.from_numpy(Rotation.from_rotvec(w.double().numpy()).as_matrix()).float()
    # 2e-6 measured at 2.9 rad, 1e-7 below one.
    assert torch.allclose(short_log(R.to(device)).cpu(), w, atol=1e-5)


def test_median_of_a_mask(device: str) -> None:
    values = torch.tensor([[5.0, 1, 4, 2], [3, 9, 8, 7], [1, 2, 3, 4]], device=device)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]], device=device).bool()
    assert masked_median(values, mask).tolist() == [2, 7, float("inf")]


# ---- steps


@pytest.mark.parametrize("seed", range(4))
def test_bounded_step_is_that_of_single_frames(device: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(5, 20, 12, generator=generator, dtype=torch.float64)
    H = A.mT @ A * torch.logspace(-2, 3, 12).double() * torch.logspace(-2, 3, 12).double()[:, None]
    g = torch.randn(5, 12, generator=generator, dtype=torch.float64) * torch.logspace(-2, 3, 12).double()
    free = torch.rand(5, 12, generator=generator) > 0.2
    low, high = (sign * torch.rand(5, 12, generator=generator, dtype=torch.float64) for sign in (-1, 1))
    low[:, ::3], high[:, ::3] = -torch.inf, torch.inf
    H[4] = -H[4]
    to = (x.to(device) for x in (H.float(), g.float(), free, low.float(), high.float()))
    steps, solved = bounded_step(*to)
    assert solved.tolist() == [True] * 4 + [False]
    assert not bool(steps[4].any())
    for row in range(4):
        expected = single_step(H[row], g[row], free[row], low[row], high[row])
        assert expected is not None
        scale = H[row].diagonal().sqrt()
        assert float(((_cpu(steps[row]) - expected) * scale).abs().max()) < 1e-3


def test_float32_is_enough_for_the_step(case: Case) -> None:
    """Least damping, real equations: the factor in float32 gives the step of float64 to a thousandth of a deviation."""
    _, problem, states = problems(case, 0)
    at = BatchState.of(states, case.batch.device)
    equations = problem.linearise(at)
    damping = torch.full_like(equations.cost, 1e-4)
    step, solved = problem.step(at, equations, damping)
    fine, _ = in_float64(problem).step(in_float64(at), in_float64(equations), damping.double())
    assert bool(solved.all())
    # 2e-6 measured, of steps of 0.8: scaled to a unit diagonal, the matrix has a condition of 200 to 700.
    assert float((step.double() / problem.fixed.scale - fine / problem.fixed.scale.double()).abs().max()) < 1e-3
    assert float((fine / problem.fixed.scale).abs().max()) > 0.05


def test_rotations_come_back_orthonormal() -> None:
    R = torch.from_numpy(Rotation.random(5, random_state=0).as_matrix())
    assert torch.allclose(nearest_rotation(R + 1e-4 * torch.rand(5, 3, 3)), R, atol=3e-4)
    fixed = nearest_rotation(R + 1e-4 * torch.rand(5, 3, 3))
    assert torch.allclose(fixed @ fixed.mT, torch.eye(3).double().expand(5, 3, 3), atol=1e-12)
    broken = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)
    assert bool(nearest_rotation(broken).isnan().all())


# ---- visibility


@pytest.mark.parametrize("scale", [0.003, 0.02, 0.2])
def test_depth_is_that_of_the_rasteriser(device: str, scale: float) -> None:
    """Triangles smaller than a pixel, of a few pixels, and as large as the picture."""
    generator = np.random.default_rng(3)
    middle = np.concatenate([generator.uniform(-0.15, 0.15, (2, 300, 2)), generator.uniform(0.4, 0.8, (2, 300, 1))], 2)
    corners = middle[:, :, None] + scale * generator.standard_normal((2, 300, 3, 3))
    vertices = corners.reshape(2, 900, 3).astype(np.float32)
    triangles = np.arange(900).reshape(300, 3)
    lens, size = Intrinsics(300.0, 64.0, 50.0), (100, 128)
    ours = depth_buffers(torch.from_numpy(vertices).to(device), torch.from_numpy(triangles).to(device), lens, size)
    for row in range(2):
        near = (vertices[row].reshape(300, 3, 3)[..., 2] > 0.01).all(1)
        expected = rasterize(vertices[row], triangles[near], lens, size, backend="numba").depth_m
        found = ours[row].cpu().numpy()
        covered = np.isfinite(found) & (expected > 0)
        assert covered.mean() > 0.001
        # On an edge rounding decides: 1 pixel of 2,400 measured at most.
        assert (np.isfinite(found) != (expected > 0)).sum() <= 0.003 * covered.sum() + 1
        assert np.percentile(np.abs(found - expected)[covered], 99) < 1e-4


def test_visible_samples_are_those_of_single_frames(case: Case) -> None:
    states = [case.clip.state(number) for number in (30, 52, 80)]
    batched = BatchState.of(states, case.batch.device)
    seen = case.batch.visible(batched, batched)
    known = (case.single.clip.seen > 0).nonzero()[:, 0]
    for row, state in enumerate(states):
        expected = case.single.visible(state)
        assert expected is not None
        mask = torch.zeros(len(case.single.clip.seen), dtype=torch.bool)
        mask[expected.ids] = True
        # None of 546 measured; a sample on a border may fall to either side.
        assert int((mask[known] != seen.mask[row].cpu()).sum()) <= 3
        assert int(seen.mask[row].sum()) > 200
        both = mask[known] & seen.mask[row].cpu()
        place = torch.isin(expected.ids, known[both])
        assert torch.allclose(seen.normals[row].cpu()[both], expected.normals[place], atol=1e-4)
        assert torch.allclose(seen.cosine[row].cpu()[both], expected.cosine[place], atol=1e-4)
