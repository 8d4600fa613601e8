"""A detector's bias: solved from views with known geometry, summarised, and kept in its file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker.camera import projection_jacobian
from tracker.errors import InputError
from tracker.head.generic import GENERIC_HEAD_PATH, bias_path, load_bias, load_generic, template_digest
from tracker.head.landmark_bias import LandmarkBias, solve_offsets, summarise_bias
from tracker.head.store import save_head
from tracker.rotations import exp_so3

N, VIEWS, FOCAL = 30, 12, 900.0
RNG = np.random.default_rng(0)
OFFSETS = 0.003 * RNG.standard_normal((N, 3))


def _jacobians(yaw_degrees: float) -> np.ndarray:
    """(F, N, 2, 3) of views that turn to both sides by up to `yaw_degrees`."""
    points = torch.from_numpy(0.05 * RNG.standard_normal((N, 3)))
    found = []
    for share in np.linspace(-1, 1, VIEWS):
        turn = exp_so3(torch.tensor([0.3 * share**2, np.deg2rad(yaw_degrees) * share, 0.0], dtype=torch.float64))
        R = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)) @ turn
        cam = points @ R.T + torch.tensor([0.0, 0.0, 0.6], dtype=torch.float64)
        found.append((projection_jacobian(cam, FOCAL) @ R).numpy())
    return np.array(found)


def test_known_offsets_are_found() -> None:
    J = _jacobians(30)
    seen = np.einsum("fndi,ni->fnd", J, OFFSETS)
    found = solve_offsets(J, seen, np.ones((VIEWS, N)))
    # The weak pull to zero shortens mostly depth. 0.30 mm measured on offsets of 5 mm.
    assert np.linalg.norm(found - OFFSETS, axis=1).max() < 0.0008
    noisy = solve_offsets(J, seen + 0.5 * RNG.standard_normal(seen.shape), np.ones((VIEWS, N)))
    assert np.median(np.linalg.norm(noisy - OFFSETS, axis=1)) < 0.0006


def test_views_without_weight_do_not_count() -> None:
    J = _jacobians(30)
    seen = np.einsum("fndi,ni->fnd", J, OFFSETS)
    weights = np.ones((VIEWS, N))
    seen[3], weights[3] = 500.0, 0.0
    assert np.linalg.norm(solve_offsets(J, seen, weights) - OFFSETS, axis=1).max() < 0.001


def test_depth_stays_finite_where_all_views_are_the_same() -> None:
    J = np.repeat(_jacobians(20)[:1], VIEWS, 0)
    seen = np.einsum("fndi,ni->fnd", J, OFFSETS)
    found = solve_offsets(J, seen, np.ones((VIEWS, N)))
    # What the view shows is explained (offsets are 4 px; 0.3 px measured) and what it does not show is left at zero.
    assert np.abs(np.einsum("fndi,ni->fnd", J, found) - seen).max() < 0.05 * np.abs(seen).max()
    sight = np.cross(J[0, :, 0], J[0, :, 1])
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    assert np.abs((found * sight).sum(1)).max() < 1e-6
    assert np.isfinite(solve_offsets(J, np.zeros((VIEWS, N, 2)), np.zeros((VIEWS, N)))).all()


def test_summary_is_mean_and_spread_over_identities() -> None:
    people = 400
    mean = 0.004 * RNG.standard_normal((N, 3))
    spread = np.linspace(0.0005, 0.002, N)
    offsets = mean + spread[:, None] * RNG.standard_normal((people, N, 3))
    residuals = 0.0007 * RNG.standard_normal((people, VIEWS, N, 2))
    residuals[:, 0] = 1.0
    weights = np.ones((people, VIEWS, N))
    weights[:, 0] = 0
    bias = summarise_bias(offsets, residuals, weights, "digest")
    np.testing.assert_allclose(bias.offset_m, mean, atol=0.0005)
    np.testing.assert_allclose(bias.spread_m, spread, rtol=0.15)
    np.testing.assert_allclose(bias.noise_m, 0.0007, rtol=0.05)


def _bias(digest: str) -> LandmarkBias:
    return LandmarkBias(RNG.standard_normal((478, 3)), RNG.random(478), RNG.random(478), digest)


def test_file_round_trip(tmp_path: Path) -> None:
    bias, path = _bias("abc"), tmp_path / "bias.npz"
    bias.save(path)
    again = LandmarkBias.load(path)
    assert again.template_digest == "abc"
    for name in ("offset_m", "spread_m", "noise_m"):
        np.testing.assert_allclose(getattr(again, name), getattr(bias, name), rtol=1e-6)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"bias\.npz.*stages\.landmark_bias"):
        LandmarkBias.load(path)


def test_a_bias_of_another_geometry_does_not_apply(tmp_path: Path) -> None:
    model = load_generic()
    head = tmp_path / "head.npz"
    save_head(model, head)
    assert load_generic(head).landmark_offsets is None
    bias = _bias(template_digest(model))
    bias.save(bias_path(head))
    loaded = load_generic(head)
    assert loaded.landmark_offsets is not None
    np.testing.assert_allclose(loaded.landmark_offsets, bias.offset_m[model.landmarks478.indices], rtol=1e-5)
    np.testing.assert_allclose(loaded.landmark_offset_std, bias.spread_m[model.landmarks478.indices], rtol=1e-5)
    other = replace(model, template=model.template * 1.01)
    save_head(other, head)
    assert load_generic(head).landmark_offsets is None


def test_the_committed_bias_belongs_to_the_committed_head() -> None:
    if not bias_path().is_file():
        pytest.skip(f"{bias_path()} is not there: no bias is measured for the generic head")
    bias = load_bias(load_generic(), GENERIC_HEAD_PATH)
    assert bias is not None, "assets/generic_head.npz changed: make its bias again with python -m stages.landmark_bias"
    # A detector's points lie some millimetres from the model's, not centimetres.
    assert 0.0005 < np.median(np.linalg.norm(bias.offset_m, axis=1)) < 0.008
    assert 0 < np.median(bias.spread_m) < 0.005
