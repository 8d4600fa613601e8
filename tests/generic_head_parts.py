"""Helpers for the tests of the generic head."""

from dataclasses import replace

import numpy as np
import torch

from tracker.head.model import HeadModel
from tracker.rotations import exp_so3

UPPER_INNER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_INNER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
UPPER_LIDS = {
    "left": [263, 466, 388, 387, 386, 385, 384, 398, 362],
    "right": [33, 246, 161, 160, 159, 158, 157, 173, 133],
}
LOWER_LIDS = {
    "left": [263, 249, 390, 373, 374, 380, 381, 382, 362],
    "right": [33, 7, 163, 144, 145, 153, 154, 155, 133],
}


def posed_mm(model: HeadModel, **changes: torch.Tensor) -> np.ndarray:
    """(V, 3) millimetres of the head with some of its neutral parameters replaced."""
    return 1000 * model.vertices(replace(model.neutral(), **changes)).numpy()


def shape_code(model: HeadModel, mode: int, sigma: float) -> torch.Tensor:
    code = torch.zeros(model.shape_count)
    code[mode] = sigma
    return code


def expression_code(model: HeadModel, values: dict[str, float]) -> torch.Tensor:
    code = torch.zeros(model.expression_count)
    for name, value in values.items():
        code[model.expression_names.index(name)] = value
    return code


def jaw_opened(angle_rad: float) -> torch.Tensor:
    return exp_so3(torch.tensor([angle_rad, 0.0, 0.0]))


def random_shapes(model: HeadModel, count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((count, model.shape_count)).astype(np.float32))


def eyeball(model: HeadModel, vertices: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and the distances of the ball's vertices from it."""
    ids = model.regions[f"{side}_eyeball"].numpy()
    centre = (vertices[ids[0]] + vertices[ids[-1]]) / 2
    return centre, np.linalg.norm(vertices[ids] - centre, axis=1)


def eyeball_clearance_mm(model: HeadModel, vertices: np.ndarray) -> float:
    """Least distance of any skin vertex from the surface of an eyeball; negative inside."""
    skin = vertices[model.regions["skin"].numpy()]
    least = np.inf
    for side in ("left", "right"):
        centre, radii = eyeball(model, vertices, side)
        least = min(least, float((np.linalg.norm(skin - centre, axis=1) - radii.max()).min()))
    return least


def distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance of each point from a polyline (M, 3)."""
    start, edge = line[:-1], np.diff(line, axis=0)
    t = np.clip(((points[:, None] - start) * edge).sum(2) / (edge**2).sum(1), 0, 1)
    return np.linalg.norm(points[:, None] - start - t[..., None] * edge, axis=2).min(1)
