"""The builder of the generic head: its tools against closed forms, and the committed file against a rebuild."""

import numpy as np
import pytest
import torch

from tracker.head.build.fair import SoftTargets, fair, fair_values
from tracker.head.build.identity import _principal, _without_rigid_motion
from tracker.head.build.landmarks import closest_barycentric
from tracker.head.build.mesh import boundary_loops, cotangent_laplacian, in_polygon, subdivide
from tracker.head.build.model import build_model
from tracker.head.build.relax import RelaxProblem, _energy, relax, rest_shapes
from tracker.head.generic import load_generic
from tracker.head.store import load_head, save_head


def sheet(side: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """A flat triangulated square of unit spacing."""
    x, y = np.meshgrid(np.arange(side, dtype=float), np.arange(side, dtype=float), indexing="ij")
    index = np.arange(side * side).reshape(side, side)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    triangles = np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])])
    return np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], 1), triangles


def test_rebuild_equals_the_committed_file(tmp_path) -> None:
    save_head(build_model(), tmp_path / "again.npz")
    again, committed = load_head(tmp_path / "again.npz"), load_generic()
    # Another machine's linear algebra rounds differently: a hundredth of a millimetre, a tenth of a texel of 1024.
    for name in ("template", "shape_basis", "expression_basis", "eyelid_basis"):
        torch.testing.assert_close(getattr(again, name), getattr(committed, name), atol=1e-5, rtol=0)
    torch.testing.assert_close(again.uv, committed.uv, atol=1e-4, rtol=0)
    torch.testing.assert_close(again.skin_weights, committed.skin_weights, atol=1e-4, rtol=0)
    torch.testing.assert_close(again.joint_regressor, committed.joint_regressor, atol=1e-4, rtol=0)
    assert torch.equal(again.triangles, committed.triangles)
    assert torch.equal(again.uv_triangles, committed.uv_triangles)
    assert torch.equal(again.landmarks478.faces, committed.landmarks478.faces)
    assert again.expression_names == committed.expression_names
    assert again.regions.keys() == committed.regions.keys()
    assert all(torch.equal(again.regions[name], committed.regions[name]) for name in again.regions)


def test_subdivision_keeps_vertices_and_reproduces_a_quadratic_on_a_regular_sheet() -> None:
    vertices, triangles = sheet(9)
    vertices[:, 2] = 0.1 * vertices[:, 0] ** 2
    fine, fine_triangles, midpoints = subdivide(vertices, triangles)
    np.testing.assert_array_equal(fine[: len(vertices)], vertices)
    assert len(fine_triangles) == 4 * len(triangles)
    assert len(fine) == len(vertices) + len(midpoints)
    inner = (np.abs(fine[:, :2] - 4) < 2).all(1)
    np.testing.assert_allclose(fine[inner, 2], 0.1 * fine[inner, 0] ** 2, atol=1e-9)


def test_boundary_of_a_sheet_is_one_loop_round_it() -> None:
    _, triangles = sheet(4)
    loops = boundary_loops(triangles)
    assert len(loops) == 1
    assert len(loops[0]) == 12


def test_in_polygon_agrees_with_a_circle() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = np.random.RandomState(0).uniform(-1.5, 1.5, (500, 2))
    inside = in_polygon(points, np.column_stack([np.cos(angle), np.sin(angle)]))
    np.testing.assert_array_equal(inside, np.linalg.norm(points, axis=1) < 1)


def test_fairing_flattens_a_bump_between_fixed_rims() -> None:
    vertices, triangles = sheet(9)
    bumped = vertices.copy()
    rim = (vertices[:, :2].min(1) < 1.5) | (vertices[:, :2].max(1) > 6.5)
    bumped[~rim, 2] = 0.4
    out = fair(bumped, triangles, rim, SoftTargets(bumped, np.zeros(len(bumped))), iterations=3)
    assert np.abs(out[:, 2]).max() < 1e-3
    held = fair(bumped, triangles, rim, SoftTargets(bumped, np.full(len(bumped), 1e6)), iterations=1)
    np.testing.assert_allclose(held[:, 2], bumped[:, 2], atol=1e-2)


def test_fair_values_extend_a_linear_field() -> None:
    vertices, triangles = sheet(9)
    rim = (vertices[:, :2].min(1) < 1.5) | (vertices[:, :2].max(1) > 6.5)
    values = np.where(rim, 2 * vertices[:, 0] - vertices[:, 1], 0.0)[:, None]
    np.testing.assert_allclose(
        fair_values(vertices, triangles, rim, values)[:, 0], 2 * vertices[:, 0] - vertices[:, 1], atol=1e-6
    )


def test_laplacian_of_a_linear_function_vanishes_inside() -> None:
    vertices, triangles = sheet()
    inner = (np.abs(vertices[:, :2] - 3) < 2.5).all(1)
    # Sheared to nearly equilateral triangles and jittered: all cotangents stay above the floor.
    vertices = vertices @ np.array([[1, 0, 0], [-0.5, 0.87, 0], [0, 0, 1]])
    vertices += np.random.RandomState(1).uniform(-0.05, 0.05, vertices.shape) * [1, 1, 0]
    laplacian, areas = cotangent_laplacian(vertices, triangles)
    assert np.abs((laplacian @ vertices[:, :2])[inner]).max() < 1e-9
    assert areas.sum() == pytest.approx(36 * 0.87, rel=0.05)


def test_relaxing_undoes_a_distortion_and_its_gradient_is_right() -> None:
    vertices, triangles = sheet()
    rest = rest_shapes(vertices, triangles, np.ones(len(triangles)))
    fixed = np.zeros(len(vertices), bool)
    fixed[0] = True
    problem = RelaxProblem(triangles, rest, np.ones(len(triangles)), fixed)
    start = vertices[:, :2] * [1.7, 0.6] + 0.05 * np.random.RandomState(2).standard_normal((len(vertices), 2))
    inverse = np.linalg.inv(rest)
    _, gradient = _energy(start, problem, inverse)
    step = 1e-6 * np.random.RandomState(3).standard_normal(start.shape)
    numeric = (_energy(start + step, problem, inverse)[0] - _energy(start - step, problem, inverse)[0]) / 2
    assert numeric == pytest.approx((gradient * step).sum(), rel=1e-5)
    energy, _ = _energy(relax(start, problem, 400), problem, inverse)
    assert energy == pytest.approx(4 * len(triangles) / 2, rel=0.01)  # 4 a unit of area when isometric


def test_rigid_motion_is_taken_out_of_modes_and_nothing_else() -> None:
    rng = np.random.RandomState(4)
    points, weights = rng.standard_normal((50, 3)), rng.dirichlet(np.ones(50))
    turn = np.cross([0.3, -0.2, 0.5], points) + np.array([1.0, 2.0, 3.0])
    assert np.abs(_without_rigid_motion(points, turn[..., None], weights)).max() < 1e-12
    modes = _without_rigid_motion(points, rng.standard_normal((50, 3, 4)), weights)
    np.testing.assert_allclose(_without_rigid_motion(points, modes, weights), modes, atol=1e-12)


def test_principal_modes_keep_the_covariance_and_are_uncorrelated() -> None:
    rng = np.random.RandomState(5)
    modes, weights = rng.standard_normal((40, 3, 5)), np.full(40, 1 / 40)
    turned = _principal(modes, weights)
    flat, flat_turned = modes.reshape(-1, 5), turned.reshape(-1, 5)
    np.testing.assert_allclose(flat @ flat.T, flat_turned @ flat_turned.T, atol=1e-9)
    gram = flat_turned.T @ flat_turned
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-9
    assert (np.diff(np.diag(gram)) <= 0).all()


def test_closest_point_of_a_triangle_against_a_dense_search() -> None:
    rng = np.random.RandomState(6)
    corners = rng.standard_normal((30, 3, 3))
    dense = rng.dirichlet(np.ones(3), 20000)
    for point in rng.standard_normal((5, 3)) * 2:
        weights = closest_barycentric(corners, point)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-9)
        found = np.linalg.norm((corners * weights[..., None]).sum(1) - point, axis=1)
        searched = np.array([np.linalg.norm(dense @ c - point, axis=1).min() for c in corners])
        assert (found <= searched + 1e-9).all()
        assert (found >= searched - 0.1).all()
