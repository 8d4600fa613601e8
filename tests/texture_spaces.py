"""Texture spaces for tests: smooth random modes over a square."""

from pathlib import Path

import numpy as np

SIDE, MODES = 128, 12


def smooth(rng: np.random.RandomState, side: int, waves: int = 6) -> np.ndarray:
    """(side, side) a sum of waves of a few periods, RMS 1."""
    v, u = np.mgrid[:side, :side] / side
    out = np.zeros((side, side))
    for _ in range(waves):
        k, phase = rng.uniform(-14, 14, 2), rng.uniform(0, 6.3)
        out += np.sin(2 * np.pi * (k[0] * u + k[1] * v) + phase)
    return out / out.std()


def rgb_space(seed: int = 0, side: int = SIDE, modes: int = MODES) -> tuple[np.ndarray, np.ndarray]:
    """Mean (side, side, 3) and modes (side, side, 3, K), RGB in [0, 1]: skin colours, falling spectrum."""
    rng = np.random.RandomState(seed)
    mean = np.array([0.62, 0.46, 0.38]) * (1 + 0.1 * smooth(rng, side)[..., None])
    basis = np.stack(
        [0.06 / (1 + 0.3 * k) * smooth(rng, side)[..., None] * rng.uniform(0.5, 1.0, 3) for k in range(modes)],
        -1,
    )
    # The first mode is brightness, as in every face model.
    basis[..., 0] = 0.15 * mean
    return mean, basis


def write_flame_space(path: Path, mean: np.ndarray, basis: np.ndarray, **more: np.ndarray) -> None:
    """FLAME_texture.npz's layout."""
    np.savez(path, mean=mean[..., ::-1] * 255, tex_dir=basis[..., ::-1, :] * 255, **more)


def write_bfm_space(path: Path, mean: np.ndarray, basis: np.ndarray) -> None:
    """FLAME_albedo_from_BFM.npz's layout."""
    np.savez(path, MU=mean[..., ::-1].ravel(), PC=basis[..., ::-1, :].reshape(-1, basis.shape[-1]))
