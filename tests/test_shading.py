"""Spherical-harmonics shading: golden parity, derivative, rotation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker.rotations import exp_so3
from tracker.shading import SH_CONSTANTS, rotate_sh, sh_basis, sh_basis_gradient, shade


def unit_normals(count: int, seed: int = 0) -> torch.Tensor:
    """Random unit vectors, float64."""
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(points, dim=-1)


def test_constants_are_the_peers(shared_dir: Path) -> None:
    contract = json.loads((shared_dir / "parity/contracts/sh_constants.json").read_text())
    np.testing.assert_array_equal(np.float32(SH_CONSTANTS), np.float32(contract["constant_float32"]))


@pytest.mark.parametrize("seed", [7101, 7102])
def test_golden_shading(shared_dir: Path, seed: int) -> None:
    golden = np.load(shared_dir / f"parity/golden/shading/sh_{seed}.npz")
    normals, albedo = (torch.from_numpy(golden[key][0]).permute(1, 2, 0) for key in ("normals", "albedo"))
    sh = torch.from_numpy(golden["sh_coeff"][0])
    # Float32 sums of nine terms: 1.5e-6 measured.
    np.testing.assert_allclose((sh_basis(normals) @ sh).permute(2, 0, 1).numpy(), golden["shading"][0], atol=1e-5)
    np.testing.assert_allclose(shade(albedo, sh, normals).permute(2, 0, 1).numpy(), golden["shaded"][0], atol=1e-5)


def test_gradient_against_finite_differences() -> None:
    normals = unit_normals(50)
    step = 1e-6
    analytic = sh_basis_gradient(normals)
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        numeric = (sh_basis(normals + shift) - sh_basis(normals - shift)) / (2 * step)
        # Second-order polynomials: central differences are exact but for rounding.
        torch.testing.assert_close(analytic[..., axis], numeric, atol=1e-8, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_rotated_light_shades_the_rotated_head_alike(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sh = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    R = exp_so3(2 * torch.randn(3, generator=generator, dtype=torch.float64))
    normals = unit_normals(100, seed)
    albedo = torch.rand(100, 3, generator=generator, dtype=torch.float64)
    turned = rotate_sh(sh, R)
    torch.testing.assert_close(shade(albedo, turned, normals @ R.T), shade(albedo, sh, normals), atol=1e-12, rtol=0)
    assert (turned - sh).abs().max() > 0.1
    torch.testing.assert_close(rotate_sh(turned, R.T), sh, atol=1e-12, rtol=0)


def test_dtype_and_batch_are_kept() -> None:
    normals = unit_normals(6).float().reshape(2, 3, 3)
    assert sh_basis(normals).dtype == torch.float32
    assert sh_basis(normals).shape == (2, 3, 9)
    assert sh_basis_gradient(normals).shape == (2, 3, 9, 3)
