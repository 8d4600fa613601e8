"""Light and albedo from colours with known geometry."""

import pytest
import torch

from tracker.appearance import DARKEST_SHADING, estimate_light, mean_albedo, unwrap
from tracker.shading import SH_CONSTANTS, sh_basis

GENERATOR = torch.Generator().manual_seed(0)
N = 3000


def _normals(count: int = N) -> torch.Tensor:
    """Directions that turn to the camera, as a face's do."""
    n = torch.randn(count, 3, generator=GENERATOR, dtype=torch.float64)
    n[:, 2] = -n[:, 2].abs() - 0.3
    return torch.nn.functional.normalize(n, dim=1)


def _light(strength: float = 0.25) -> torch.Tensor:
    light = strength * torch.randn(9, 3, generator=GENERATOR, dtype=torch.float64)
    light[0] = torch.tensor([1.0, 0.9, 0.8]) / SH_CONSTANTS[0]
    return light


AMBIENT = torch.zeros(9, 3, dtype=torch.float64)
AMBIENT[0] = 1 / SH_CONSTANTS[0]
FREE = torch.full((9,), 1e-3, dtype=torch.float64)


def test_a_known_light_is_found() -> None:
    normals, light = _normals(), _light()
    albedo = 0.2 + 0.6 * torch.rand(N, 3, generator=GENERATOR, dtype=torch.float64)
    colours = albedo * (sh_basis(normals) @ light)
    found = estimate_light(colours, albedo, normals, torch.full((N,), 1e4), AMBIENT, FREE)
    assert torch.allclose(found, light, atol=1e-3)
    noisy = colours + 0.02 * torch.randn(N, 3, generator=GENERATOR, dtype=torch.float64)
    found = estimate_light(noisy, albedo, normals, torch.full((N,), 1 / 0.02**2), AMBIENT, FREE)
    # Noise of 5 of 255: shading within 0.3 % measured.
    assert (sh_basis(normals) @ (found - light)).abs().max() < 0.02


def test_samples_without_weight_do_not_count() -> None:
    normals, light = _normals(), _light()
    albedo = torch.full((N, 3), 0.5, dtype=torch.float64)
    colours = albedo * (sh_basis(normals) @ light)
    colours[: N // 3] = 1.0
    weight = torch.full((N,), 1e4, dtype=torch.float64)
    weight[: N // 3] = 0
    assert torch.allclose(estimate_light(colours, albedo, normals, weight, AMBIENT, FREE), light, atol=1e-3)


def test_a_tight_prior_holds_and_no_data_give_the_prior() -> None:
    normals, light, prior = _normals(), _light(), _light()
    albedo = torch.full((N, 3), 0.5, dtype=torch.float64)
    colours = albedo * (sh_basis(normals) @ light)
    held = estimate_light(colours, albedo, normals, torch.ones(N), prior, torch.full((9,), 1e6, dtype=torch.float64))
    assert torch.allclose(held, prior, atol=1e-6)
    blind = estimate_light(colours, albedo, normals, torch.zeros(N), prior, FREE)
    assert torch.allclose(blind, prior, atol=1e-9)


def test_prior_and_data_are_weighed_by_their_variances() -> None:
    """One ambient coefficient, one sample a time: the posterior mean in closed form."""
    normals = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    inverse_std = torch.full((9,), 1e9, dtype=torch.float64)
    inverse_std[0] = 2.0
    colours, albedo = torch.full((1, 3), 0.9, dtype=torch.float64), torch.full((1, 3), 0.5, dtype=torch.float64)
    found = estimate_light(colours, albedo, normals, torch.tensor([100.0]), AMBIENT, inverse_std)
    row = 0.5 * SH_CONSTANTS[0]
    expected = (row * 100 * 0.9 + 4 / SH_CONSTANTS[0]) / (row * 100 * row + 4)
    assert torch.allclose(found[0], torch.full((3,), expected, dtype=torch.float64), rtol=1e-6)


def test_a_known_albedo_is_unwrapped() -> None:
    albedo = 0.1 + 0.8 * torch.rand(50, 3, generator=GENERATOR)
    shading = 0.4 + 1.0 * torch.rand(4, 50, 3, generator=GENERATOR)
    weight = torch.rand(4, 50, generator=GENERATOR)
    weight[:, 0] = 0
    found, total = unwrap(albedo * shading, shading, weight)
    assert torch.allclose(found[1:], albedo[1:], atol=1e-5)
    assert torch.allclose(total, weight.sum(0))
    assert float(total[0]) == 0
    assert torch.isfinite(found).all()


def test_views_are_weighed_least_squares() -> None:
    colours = torch.tensor([[[0.6] * 3], [[0.3] * 3]])
    shading = torch.tensor([[[1.0] * 3], [[0.5] * 3]])
    weight = torch.tensor([[1.0], [3.0]])
    # (1 * 1 * .6 + 3 * .5 * .3) / (1 + 3 * .25)
    assert float(unwrap(colours, shading, weight)[0][0, 0]) == pytest.approx(1.05 / 1.75)


def test_deep_shade_is_not_divided_out() -> None:
    found, _ = unwrap(torch.full((1, 1, 3), 0.05), torch.full((1, 1, 3), 1e-4), torch.ones(1, 1))
    assert float(found[0, 0]) == pytest.approx(0.05 / DARKEST_SHADING)
    bright, _ = unwrap(torch.full((1, 1, 3), 2.0), torch.ones(1, 1, 3), torch.ones(1, 1))
    assert float(bright[0, 0]) == 1.0


def test_mean_albedo_is_weighted() -> None:
    colours = torch.tensor([[[0.2] * 3, [0.8] * 3]])
    assert torch.allclose(mean_albedo(colours, torch.tensor([[3.0, 1.0]])), torch.full((3,), 0.35))
    assert torch.isfinite(mean_albedo(colours, torch.zeros(1, 2))).all()
