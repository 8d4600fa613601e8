"""Regions of a FLAME head: those of FLAME_masks.pkl, or face and eyeballs made from its landmarks."""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial import Delaunay

from tracker.errors import InputError
from tracker.head.flame_arrays import FlameArrays
from tracker.head.model import Embedding
from tracker.head.plain import LEFT_EYE, RIGHT_EYE
from tracker.safe_pickle import load_pickle

# The face ends this much above the brows, as a share of the height from chin to brows.
_FOREHEAD_SHARE = 0.3
# Skin that lies farther back than the frontal contour by this, metres, is ear, neck or skull.
_BEHIND_M = 0.01
_JAW, _BROWS = slice(0, 17), slice(17, 27)


def read_masks(path: Path, vertex_count: int, notes: list[str]) -> dict[str, torch.Tensor]:
    """Reads FLAME_masks.pkl.

    Args:
        path: the file.
        vertex_count: V of the model.
        notes: gets a sentence where the file had to be repaired.

    Returns:
        Name to vertex ids, int64.

    Raises:
        InputError: the file is damaged, or of another model.
    """
    content = load_pickle(path, notes)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a dict of regions; get it anew")
    regions = {}
    for name, values in content.items():
        ids = np.asarray(values)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise InputError(f"{path}: the region {name} is no list of vertex numbers; get the file anew")
        if len(ids) and (ids.min() < 0 or ids.max() >= vertex_count):
            raise InputError(
                f"{path}: the region {name} names vertex {ids.max()}, the model has {vertex_count}; "
                f"they do not belong together"
            )
        regions[str(name)] = torch.as_tensor(ids.astype(np.int64))
    return regions


def made_regions(arrays: FlameArrays, ibug: Embedding) -> dict[str, torch.Tensor]:
    """Face and eyeballs of a model without masks.

    Args:
        arrays: the model.
        ibug: its 68 points, the contour as a frontal picture shows it.

    Returns:
        `face`: what a frontal picture shows between the contour and a line above the brows, without eyeballs, as in
        FLAME's own region; `left_eyeball`, `right_eyeball`.
    """
    corners = arrays.template[arrays.triangles[ibug.faces.numpy()]]
    points = (corners * ibug.bary.numpy()[..., None]).sum(1)
    jaw, brows = points[_JAW], points[_BROWS]
    height = brows[:, 1].mean() - jaw[:, 1].min()
    top = np.concatenate([brows, jaw[[0, -1]]])[:, :2] + [0, _FOREHEAD_SHARE * height]
    outline = Delaunay(np.concatenate([jaw[:, :2], top]))
    inside = outline.find_simplex(arrays.template[:, :2]) >= 0
    # How far back the contour lies at each height, from one ear over the chin to the other.
    order = np.argsort(jaw[:, 1])
    back = np.interp(arrays.template[:, 1], jaw[order, 1], jaw[order, 2]) - _BEHIND_M
    balls = arrays.skin_weights[:, [LEFT_EYE, RIGHT_EYE]].sum(1) > 0.5
    regions = {"face": inside & (arrays.template[:, 2] > back) & ~balls}
    for name, joint in (("left_eyeball", LEFT_EYE), ("right_eyeball", RIGHT_EYE)):
        regions[name] = arrays.skin_weights[:, joint] > 0.5
    return {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in regions.items()}
