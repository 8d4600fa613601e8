"""Pyramid and bilinear sampling in continuous pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import worst_relative

from tracker.image import inside, pyramid, sample


def _ramp(height: int, width: int) -> torch.Tensor:
    """A picture whose channels are x, y and x + 2 y at the pixel centres: bilinear sampling is exact on it."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, x + 2 * y], -1).double()


@settings(deadline=None, max_examples=100)
@given(st.floats(0.5, 19.4), st.floats(0.5, 13.4))
def test_a_ramp_is_sampled_at_its_coordinates(x: float, y: float) -> None:
    values, gradient = sample(_ramp(14, 20), torch.tensor([[x, y]], dtype=torch.float64))
    assert torch.allclose(values[0], torch.tensor([x, y, x + 2 * y], dtype=torch.float64), atol=1e-9)
    assert torch.allclose(gradient[0], torch.tensor([[1, 0], [0, 1], [1, 2]], dtype=torch.float64), atol=1e-9)


def test_pixel_centres_give_back_the_pixels() -> None:
    picture = torch.from_numpy(np.random.default_rng(0).random((6, 8, 3)))
    values, _ = sample(picture, torch.tensor([[3.5, 2.5], [0.5, 0.5], [6.5, 4.5]], dtype=torch.float64))
    assert torch.allclose(values, torch.stack([picture[2, 3], picture[0, 0], picture[4, 6]]))


def test_gradient_is_that_of_the_sampled_value() -> None:
    generator = np.random.default_rng(1)
    picture = torch.from_numpy(generator.random((9, 11, 3)))
    points = torch.from_numpy(1.2 + 6 * generator.random((40, 2)))
    points = points[((points - 0.5) % 1 - 0.5).abs().amax(1) < 0.49]
    analytic = sample(picture, points)[1]
    numeric = torch.zeros_like(analytic)
    for axis in range(2):
        move = torch.zeros(2, dtype=torch.float64)
        move[axis] = 1e-6
        numeric[:, :, axis] = (sample(picture, points + move)[0] - sample(picture, points - move)[0]) / 2e-6
    assert worst_relative(analytic, numeric) < 1e-7


def test_points_outside_take_the_edge() -> None:
    picture = _ramp(6, 8)
    values, _ = sample(picture, torch.tensor([[-50.0, 3.0], [4.0, 90.0]], dtype=torch.float64))
    assert values[0, 0] == pytest.approx(0.5)
    assert values[1, 1] == pytest.approx(5.5, abs=0.01)
    assert torch.isfinite(values).all()


def test_pyramid_keeps_edges_and_brightness() -> None:
    y, x = np.mgrid[:64, :96]
    image = np.stack([x, y, x + y], -1).astype(np.uint8)
    levels = pyramid(image, 3)
    assert [tuple(level.pixels.shape) for level in levels] == [(64, 96, 3), (32, 48, 3), (16, 24, 3)]
    assert [level.scale for level in levels] == [1, 0.5, 0.25]
    point = torch.tensor([[41.3, 28.7]])
    full = sample(levels[0].pixels, point)[0][0]
    assert torch.allclose(full * 255, torch.tensor([40.8, 28.2, 69.0]), atol=0.02)
    for level in levels[1:]:
        # The same place in a smaller picture: continuous pixels scale without a half-pixel shift. 1e-4 measured.
        assert torch.allclose(sample(level.pixels, point * level.scale)[0][0], full, atol=1e-3)


def test_coarse_levels_do_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    coarse = pyramid(stripes, 2)[1].pixels[4:-4, 4:-4]
    assert float(coarse.std()) < 0.01
    assert float(coarse.mean()) == pytest.approx(0.5, abs=0.01)


def test_inside_leaves_a_margin_on_each_side() -> None:
    points = torch.tensor([[1.5, 1.5], [0.5, 5.0], [5.0, 0.5], [18.5, 5.0], [19.5, 5.0], [5.0, 9.5], [5.0, 8.5]])
    assert inside(points, (10, 20)).tolist() == [True, False, False, True, False, False, True]
    assert inside(points, (10, 20), margin_px=0.0).all()
