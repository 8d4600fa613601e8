"""A mica.tar of pseudo-random weights by the rule of shared/parity/README.md, section 0."""

import zlib
from pathlib import Path

import numpy as np
import torch

from tracker.mica.networks import on_meta


def weight(full: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of a full key, e.g. 'arcface.layer1.0.bn1.weight'."""
    last = full.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    noise = np.random.RandomState(zlib.crc32(full.encode()) & 0x7FFFFFFF).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        return noise * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    if full.endswith("prelu.weight"):
        return np.float32(0.25) + np.float32(0.05) * noise
    if full.endswith("bn3.weight"):
        return np.float32(0.25) * (1 + np.float32(0.1) * noise)
    if last == "weight":
        return 1 + np.float32(0.1) * noise
    if last == "running_var":
        return 1 + np.float32(0.1) * np.abs(noise)
    return np.float32(0.1) * noise


def state_dicts() -> dict[str, dict[str, torch.Tensor]]:
    """`arcface` and `flameModel` as mica.tar holds them, without the head's buffers."""
    parts: dict[str, dict[str, torch.Tensor]] = {"arcface": {}, "flameModel": {}}
    for key, value in on_meta().state_dict().items():
        inside = key.startswith("arcface.")
        part, name = ("arcface", key.removeprefix("arcface.")) if inside else ("flameModel", key)
        parts[part][name] = torch.from_numpy(np.asarray(weight(f"{part}.{name}", tuple(value.shape))))
    return parts


def head_buffers(vertices: int = 30, seed: int = 3) -> dict[str, torch.Tensor]:
    """The buffers of a small made-up head, under mica.tar's keys."""
    random = np.random.RandomState(seed)
    triangles = np.stack([np.arange(vertices - 2), np.arange(1, vertices - 1), np.arange(2, vertices)], 1)
    bary = random.dirichlet(np.ones(3), (1, 68)).astype(np.float32)
    return {
        "generator.v_template": torch.from_numpy(0.1 * random.standard_normal((vertices, 3)).astype(np.float32)),
        "generator.shapedirs": torch.from_numpy(1e-3 * random.standard_normal((vertices, 3, 400)).astype(np.float32)),
        "generator.faces_tensor": torch.from_numpy(triangles),
        "generator.full_lmk_faces_idx": torch.from_numpy(random.randint(0, len(triangles), (1, 68))),
        "generator.full_lmk_bary_coords": torch.from_numpy(bary),
    }


def write(path: Path, parts: dict[str, dict[str, torch.Tensor]]) -> Path:
    """Writes parts as a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(parts, path)
    return path
