"""Fixed surface samples of the photometric term: even over the face, away from what opens and closes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.head.model import HeadModel, embed, region_triangles
from tracker.landmark_lines import INNER_LIPS, LEFT_EYE, RIGHT_EYE

# Regions whose colours do not follow Lambertian skin: eyeballs glint, the mouth opens.
_EXCLUDED = ("left_eyeball", "right_eyeball", "inner_mouth", "boundary")
# Borders of openings. What lies beside them looks otherwise when they close: lid skin unfolds, and the local mean of a
# sample there holds eye or teeth in one frame and skin in the next. Such samples held lids and lips open
# (docs/results.md).
_OPENINGS = (*LEFT_EYE.points, *RIGHT_EYE.points, *INNER_LIPS.points)
# Samples keep this distance from them, on the mean head: the movable part of the upper lid, the red of the lips.
OPENING_M = 0.008


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Barycentric samples.

    Attributes:
        faces: (N,) triangle ids.
        bary: (N, 3) corner weights.
    """

    faces: Tensor
    bary: Tensor

    def __len__(self) -> int:
        return len(self.faces)

    def at(self, model: HeadModel, values: Tensor) -> Tensor:
        """Per-vertex values (V, ...) at the samples."""
        return embed(self.faces, self.bary, model.triangles, values)


def face_triangles(model: HeadModel) -> np.ndarray:
    """Triangles of the face region without eyeballs and mouth interior; the whole head where no region is named."""
    count = model.vertex_count
    if "face" not in model.regions:
        return np.arange(len(model.triangles))
    keep = np.zeros(count, bool)
    keep[model.regions["face"].numpy()] = True
    for name in _EXCLUDED:
        if name in model.regions:
            keep[model.regions[name].numpy()] = False
    return region_triangles(model.triangles, np.flatnonzero(keep), count)


def steady_triangles(model: HeadModel) -> np.ndarray:
    """Triangles of `face_triangles` whose look does not depend on how far eyes and mouth are open.

    A model that has none of FaceMesh's points on the lids' and lips' borders keeps them all.
    """
    triangles = face_triangles(model)
    centres = model.template[model.triangles[torch.from_numpy(triangles)]].mean(1)
    return triangles[(opening_distance_m(model, centres) >= OPENING_M).numpy()]


def opening_distance_m(model: HeadModel, points: Tensor) -> Tensor:
    """Distance (N,) of points (N, 3) of the mean head to the borders of lids and lips; infinite without them."""
    at = model.landmarks478
    on_border = torch.from_numpy(np.isin(at.indices.numpy(), _OPENINGS))
    if not bool(on_border.any()):
        return torch.full((len(points),), torch.inf)
    border = embed(at.faces[on_border], at.bary[on_border], model.triangles, model.template)
    return torch.cdist(points, border).min(1).values


def face_samples(model: HeadModel, count: int, seed: int = 0) -> SurfaceSamples:
    """Draws samples evenly by area over the face region, away from lids and lips.

    Args:
        model: the head model.
        count: number of samples.
        seed: of the draw; the same seed gives the same samples.

    Returns:
        Stratified samples: the cumulative area is cut into `count` equal parts, one sample in each.
    """
    triangles = steady_triangles(model)
    corners = model.template.numpy()[model.triangles.numpy()[triangles]]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.RandomState(seed)
    where = (np.arange(count) + rng.rand(count)) / count * area.sum()
    chosen = triangles[np.searchsorted(np.cumsum(area), where).clip(max=len(triangles) - 1)]
    root, second = np.sqrt(rng.rand(count)), rng.rand(count)
    bary = np.stack([1 - root, root * (1 - second), root * second], 1).astype(np.float32)
    return SurfaceSamples(torch.from_numpy(chosen), torch.from_numpy(bary))
