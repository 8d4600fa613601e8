"""Surface points: against the whole mesh, and their Jacobians against finite differences."""

import pytest
import torch
from heads import random_head, random_state
from numeric import numeric_jacobian, worst_relative

from tracker.head.model import HeadModel, embed
from tracker.points import PointTemplate, point_template
from tracker.state import eye_angles, eye_rotations


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return random_head()


@pytest.fixture(scope="module")
def template(model: HeadModel) -> PointTemplate:
    return point_template(model, model.landmarks478.faces, model.landmarks478.bary)


def test_points_at_vertices_equal_the_mesh(model: HeadModel) -> None:
    faces = torch.arange(len(model.triangles))
    bary = torch.zeros(len(faces), 3)
    bary[:, 0] = 1
    state, shape = random_state(model), torch.linspace(-1, 1, model.shape_count, dtype=torch.float64)
    points = point_template(model, faces, bary).with_shape(shape).positions(state)
    vertices = model.vertices(state.head_params(shape))
    # Measured 3.5e-9 m: the float32 skinning weights sum to one only to 1e-7.
    assert (points - vertices[model.triangles[:, 0]]).abs().max() < 1e-8


def test_interpolated_weights_stay_close_to_the_mesh(shared_dir) -> None:  # type: ignore[no-untyped-def]
    from tracker.head.flame import load_flame

    flame = load_flame(shared_dir / "flame_like")
    state = random_state(flame, spread=0.05)
    shape = torch.zeros(flame.shape_count, dtype=torch.float64)
    embedding = flame.landmarks478
    points = point_template(flame, embedding.faces, embedding.bary).with_shape(shape).positions(state)
    exact = embed(embedding.faces, embedding.bary, flame.triangles, flame.vertices(state.head_params(shape)))
    # Measured 0.004 mm; a hundredth of a millimetre is far below any landmark's noise.
    assert (points - exact).norm(dim=1).max() < 1e-5


@pytest.mark.parametrize("seed", [0, 1])
def test_inner_jacobian(model: HeadModel, template: PointTemplate, seed: int) -> None:
    points = template.with_shape(torch.full((model.shape_count,), 0.5, dtype=torch.float64))
    state = random_state(model, seed)
    analytic = points.linearise(state)[1]

    def moved(step: torch.Tensor) -> torch.Tensor:
        return points.positions(state.retract(torch.cat([torch.zeros(6, dtype=torch.float64), step])))

    assert worst_relative(analytic, numeric_jacobian(moved, analytic.shape[2])) < 1e-7


def test_shape_jacobian(model: HeadModel, template: PointTemplate) -> None:
    state = random_state(model, 2)
    analytic = template.points.shape_jacobian(state, template.shape_basis, template.pivot_basis)
    numeric = numeric_jacobian(lambda s: template.with_shape(s).positions(state), model.shape_count)
    assert worst_relative(analytic, numeric) < 1e-7


def test_eye_angles_round_trip() -> None:
    angles = torch.tensor([[0.3, -0.2], [-0.4, 0.25]], dtype=torch.float64)
    assert torch.allclose(eye_angles(eye_rotations(angles)), angles, atol=1e-12)
