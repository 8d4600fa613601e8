"""Landmark embeddings of FLAME: iBUG's 68 with the sliding contour, FaceMesh's points with irises.

Layouts as DECA, metrical-tracker (landmark_embedding.npy, mediapipe_landmark_embedding.npz) and FLAME_PyTorch
(flame_static_embedding.pkl, flame_dynamic_embedding.npy) read them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracker.detectors.landmark_maps import IBUG68_FROM_478
from tracker.errors import InputError
from tracker.head.flame_arrays import FlameArrays
from tracker.head.flame_places import FlamePlaces
from tracker.head.irises import iris_embedding
from tracker.head.model import ContourEmbedding, Embedding
from tracker.head.sliding_contour import JAW_POINTS
from tracker.npz import read_npz
from tracker.safe_pickle import load_object_npy, load_pickle

# One row of the contour table a degree of yaw: 0 to 39, then -1 to -39 (see `tracker.head.sliding_contour`).
CONTOUR_ROWS = 79
_INNER = 68 - JAW_POINTS
# Barycentric coordinates of a published file add up to one to this.
_SUM_TOLERANCE = 1e-3


def landmarks68(
    places: FlamePlaces, triangle_count: int, notes: list[str]
) -> tuple[Embedding, ContourEmbedding, Embedding | None]:
    """The points of iBUG.

    Args:
        places: where the files are.
        triangle_count: F of the model.
        notes: gets a sentence where a file had to be repaired.

    Returns:
        The 68 points (the contour's frontal row first), the sliding contour, and the 68 points at fixed places of the
        surface (DECA's and MICA's "full" embedding) where the file has them.

    Raises:
        InputError: there is no such file, or it is damaged or of another model.
    """
    if places.landmarks is not None:
        path = places.landmarks
        data = _dict(path, load_object_npy(path, notes))
        inner = _points(path, data, ("static_lmk_faces_idx", "static_lmk_bary_coords"), (_INNER,), triangle_count)
        rows = _points(
            path, data, ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"), (CONTOUR_ROWS, JAW_POINTS), triangle_count
        )
        full = None
        if "full_lmk_faces_idx" in data:
            full = _points(path, data, ("full_lmk_faces_idx", "full_lmk_bary_coords"), (68,), triangle_count)
    elif places.static_landmarks is not None and places.dynamic_landmarks is not None:
        keys, full = ("lmk_face_idx", "lmk_b_coords"), None
        path = places.static_landmarks
        inner = _points(path, _dict(path, load_pickle(path, notes)), keys, (_INNER,), triangle_count)
        path = places.dynamic_landmarks
        data = _dict(path, load_object_npy(path, notes))
        rows = _points(path, data, keys, (CONTOUR_ROWS, JAW_POINTS), triangle_count)
    else:
        raise InputError(
            f"{places.model.parent}: no landmark_embedding.npy (nor flame_static_embedding.pkl with "
            f"flame_dynamic_embedding.npy); copy it there from the data folder of DECA or metrical-tracker"
        )
    contour = ContourEmbedding(*rows)
    faces, bary = torch.cat([contour.faces[0], inner[0]]), torch.cat([contour.bary[0], inner[1]])
    fixed = None if full is None else Embedding(*full, torch.arange(68))
    return Embedding(faces, bary, torch.arange(68)), contour, fixed


def landmarks478(places: FlamePlaces, arrays: FlameArrays, ibug: Embedding, notes: list[str]) -> Embedding:
    """FaceMesh's points that the model has: those of the file, else iBUG's, and irises on the eyeballs.

    Args:
        places: where the files are.
        arrays: the model.
        ibug: its 68 points.
        notes: gets a sentence where the file is missing.

    Returns:
        The points in the order of their numbers in the file, irises last.

    Raises:
        InputError: the file is damaged or of another model.
    """
    if places.facemesh is not None:
        path = places.facemesh
        data = read_npz(path)
        if "landmark_indices" not in data:
            raise InputError(f"{path}: lacks landmark_indices; get it from metrical-tracker's flame/mediapipe")
        numbers = np.asarray(data["landmark_indices"]).astype(np.int64)
        if numbers.ndim != 1 or len(set(numbers.tolist())) != len(numbers) or (numbers < 0).any():
            raise InputError(f"{path}: landmark_indices are not distinct FaceMesh numbers; get it anew")
        if (numbers > 477).any():
            raise InputError(f"{path}: landmark_indices go beyond FaceMesh's 477; get it anew")
        points = _points(path, data, ("lmk_face_idx", "lmk_b_coords"), (len(numbers),), len(arrays.triangles))
        found = Embedding(*points, torch.from_numpy(numbers))
    else:
        found = _from_ibug(ibug)
        notes.append(
            f"{places.model.parent}: no mediapipe_landmark_embedding.npz; {len(found)} of iBUG's points stand for "
            f"FaceMesh's, which fits eyes and lips less well; metrical-tracker's flame/mediapipe has the file"
        )
    irises = iris_embedding(arrays.template, arrays.triangles, arrays.skin_weights)
    if irises is None or bool((found.indices >= 468).any()):
        return found
    return Embedding(*(torch.cat([getattr(found, x), getattr(irises, x)]) for x in ("faces", "bary", "indices")))


def _from_ibug(ibug: Embedding) -> Embedding:
    """The FaceMesh points that one of iBUG's inner points stands for alone."""
    pairs = [(place, numbers[0]) for place, numbers in enumerate(IBUG68_FROM_478) if len(numbers) == 1]
    inner = [(place, number) for place, number in pairs if place >= JAW_POINTS]
    rows = torch.tensor([place for place, _ in inner])
    return Embedding(ibug.faces[rows], ibug.bary[rows], torch.tensor([number for _, number in inner]))


def _dict(path: Path, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a dict of arrays; get it anew")
    return content


def _points(
    path: Path, data: Mapping[str, Any], keys: tuple[str, str], shape: tuple[int, ...], triangle_count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles (*shape) and barycentric coordinates (*shape, 3) out of a file, checked."""
    missing = [key for key in keys if key not in data]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; get it from its publisher again")
    faces, bary = (np.asarray(data[key]) for key in keys)
    try:
        faces, bary = faces.astype(np.int64).reshape(shape), bary.astype(np.float32).reshape(*shape, 3)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {keys[0]} has shape {faces.shape}, expected {shape}; get it anew") from error
    if faces.min() < 0 or faces.max() >= triangle_count:
        raise InputError(
            f"{path}: names triangle {faces.max()}, the model has {triangle_count}; they do not belong together"
        )
    if not np.allclose(bary.sum(-1), 1, atol=_SUM_TOLERANCE):
        raise InputError(f"{path}: {keys[1]} does not add up to one; get it from its publisher again")
    return torch.from_numpy(faces), torch.from_numpy(bary)
