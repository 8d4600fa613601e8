"""Finds a detector's 478 points on any head model by rendering it: `python -m tracker.head.embed MODEL`.

A painted head is rendered in several views, lights and identities; FaceMesh finds its points in the pictures; each is
lifted to the triangle and the barycentric coordinates that are seen there, and the places are averaged on the surface.
MODEL is generic, flame, ict, a file, or a folder. The result is an npz in the layout of
mediapipe_landmark_embedding.npz: lmk_face_idx (478,), lmk_b_coords (478, 3), landmark_indices (478,).
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tracker.errors import InputError, TrackerError
from tracker.landmark_lines import INNER_LIPS
from tracker.landmark_set import COUNT, IRISES

if TYPE_CHECKING:
    from tracker.detectors.facemesh import FaceMesh
    from tracker.head.embed_views import EmbedView
    from tracker.head.model import HeadModel

Progress = Callable[[str], None]

PEOPLE, VIEWS = 12, 10
# A point that falls beside its part of the surface (a lid's border on the eyeball) takes the nearest place on it within
# this share of the inter-ocular distance; a silhouette's points lie further away and are left to other views.
_SNAP_SHARE = 0.06
# Views that see a place at a slant say little of it, and those that a point turns away from nothing.
_LEAST_COSINE, _LEAST_TURNED = 0.15, 0.3
# Half-way weight of the robust mean, metres.
_KNEE_M = 0.002
_ROUNDS = 20
# The place on the surface is looked for among triangles within this of the mean, and turned like those that were hit.
_NEAR_M = 0.008
_LEAST_AGREEMENT = 0.3
# FLAME_masks' names of what bears points besides the irises.
_FACE_REGIONS = ("face", "eye_region", "left_eye_region", "right_eye_region", "lips", "nose", "forehead")
_INNER_LIPS = np.isin(np.arange(COUNT), INNER_LIPS.points)
_ON_EYEBALL = np.isin(np.arange(COUNT), IRISES)


@dataclass(frozen=True, eq=False)
class Lifted:
    """Where one person's views put the points, on the mean head.

    Attributes:
        points_m: (V, 478, 3) metres, head space; NaN where a view says nothing.
        normals: (V, 478, 3) of the triangles.
        weights: (V, 478).
    """

    points_m: np.ndarray
    normals: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class FoundEmbedding:
    """The points on the surface, and how well they repeat.

    Attributes:
        faces: (N,) int64 triangles.
        bary: (N, 3) float64.
        indices: (N,) FaceMesh numbers.
        view_spread_m: (N,) how far a single view lies from the mean, root mean square along each direction.
        repeat_m: (N,) distance between the places that two halves of the people give, each alone.
    """

    faces: np.ndarray
    bary: np.ndarray
    indices: np.ndarray
    view_spread_m: np.ndarray
    repeat_m: np.ndarray

    def save(self, path: Path) -> None:
        """Writes the npz."""
        with path.open("wb") as file:
            np.savez(
                file,
                lmk_face_idx=self.faces.astype(np.uint32),
                lmk_b_coords=self.bary.astype(np.float64),
                landmark_indices=self.indices.astype(np.int64),
            )


def find_embedding(
    model: "HeadModel", people: int = PEOPLE, view_count: int = VIEWS, progress: Progress | None = None
) -> FoundEmbedding:
    """Renders, detects, lifts and averages.

    Args:
        model: any head model with iBUG points.
        people: rendered identities, at least 2.
        view_count: views of each.
        progress: told in words how far it is.

    Raises:
        InputError: the detector finds no face in most pictures.
    """
    from tracker.detectors.facemesh import FaceMesh
    from tracker.head.embed_views import views

    lifted = []
    kind = kinds(model)
    with FaceMesh(max_faces=1, tracking=False) as detector:
        for person in range(people):
            if progress is not None:
                progress(f"FaceMesh points of {model.name}: person {person + 1} of {people}")
            seen = []
            for view in views(model, person, view_count):
                seen += [lift(model, view, points_px, kind) for points_px in _detected(detector, view)]
            if seen:
                lifted.append(Lifted(*(np.stack(part) for part in zip(*seen, strict=True))))
    found, asked = sum(len(one.points_m) for one in lifted), 2 * people * view_count
    if len(lifted) < 2 or found < asked / 2:
        raise InputError(
            f"{model.name}: FaceMesh found a face in {found} of {asked} renderings and mirror images; "
            "are the model's units metres, its axes x left, y up, z out of the face, and its iBUG points in order?"
        )
    return average(model, lifted, kind)


def _detected(detector: "FaceMesh", view: "EmbedView") -> list[np.ndarray]:
    """The points (478, 2) of a picture, and those of its mirror image, which err to the other side."""
    width = view.image.shape[1]
    plain, mirror = detector.faces(view.image), detector.faces(np.ascontiguousarray(view.image[:, ::-1]))
    points: list[np.ndarray] = [face.points_px for face in plain[:1]]
    if mirror:
        back = np.array([width, 0.0]) + np.array([-1.0, 1.0]) * mirror[0].points_px
        points.append(back[mirrored_numbers()])
    return points


@lru_cache(maxsize=1)
def mirrored_numbers() -> np.ndarray:
    """(478,) the number of each point's mirror image, from the generic head, which is symmetric."""
    points = _generic_points()[0]
    distance = np.linalg.norm(points[:, None] * [-1, 1, 1] - points[None], axis=2)
    return np.asarray(distance.argmin(1))


@lru_cache(maxsize=1)
def _generic_points() -> tuple[np.ndarray, np.ndarray]:
    """The generic head's points (478, 3), metres, and their unit normals, in the order of their numbers."""
    from tracker.head.generic import load_generic
    from tracker.head.model import embed, vertex_normals

    head = load_generic()
    at = head.landmarks478
    order = np.argsort(at.indices.numpy())
    normals, points = (
        embed(at.faces, at.bary, head.triangles, values).double().numpy()[order]
        for values in (vertex_normals(head.template, head.triangles), head.template)
    )
    return points, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def kinds(model: "HeadModel") -> np.ndarray:
    """(F,) what lies on each triangle: 1 irises, which turn with an eye; 0 the other points; 2 none.

    A model that names its face has no points elsewhere, though a point's pixel may show neck, ear or teeth.
    """
    from tracker.head.model import LEFT_EYE, RIGHT_EYE
    from tracker.head.plain import region_triangles

    count, triangles = model.vertex_count, model.triangles.numpy()
    ball = model.skin_weights[:, [LEFT_EYE, RIGHT_EYE]].sum(1).numpy() > 0.5
    skin = np.ones(count, bool)
    if "face" in model.regions:
        skin[:] = False
        for name in _FACE_REGIONS:
            skin[model.regions[name].numpy() if name in model.regions else []] = True
    for name in ("inner_mouth", "teeth"):
        skin[model.regions[name].numpy() if name in model.regions else []] = False
    kind = np.full(len(triangles), 2)
    kind[region_triangles(triangles, np.flatnonzero(skin & ~ball), count)] = 0
    kind[region_triangles(triangles, np.flatnonzero(ball), count)] = 1
    return kind


@lru_cache(maxsize=1)
def usual_normals() -> np.ndarray:
    """(478, 3) the generic head's normals at the points, x to the subject's left: which views show a point at all.

    The points of a side that is turned away are detected on the silhouette, wherever on the surface that may lie.
    """
    normals = _generic_points()[1].copy()
    # Inner lips and the like turn inwards; they are seen from the front all the same.
    normals += np.where(normals[:, 2:] < _LEAST_TURNED, [0.0, 0.0, 1.0], 0.0)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9))


def lift(
    model: "HeadModel", view: "EmbedView", points_px: np.ndarray, kind: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detected points of one view as places on the mean head.

    Args:
        model: the head.
        view: a rendering.
        points_px: (478, 2) what was detected in it.
        kind: (F,) see `kinds`.

    Returns:
        Points (478, 3) metres, normals (478, 3), weights (478,).
    """
    triangles, template = model.triangles.numpy(), model.template.double().numpy()
    seen = view.fragments.triangle_index
    of_pixel = np.where(seen >= 0, kind[seen], -1)
    reach = _SNAP_SHARE * float(np.linalg.norm(points_px[33] - points_px[263]))
    turned = -(usual_normals() @ view.view.R.T)[:, 2]
    points, normals = np.full((COUNT, 3), np.nan), np.full((COUNT, 3), np.nan)
    weights = np.zeros(COUNT)
    for wanted, numbers in ((0, np.flatnonzero(~_ON_EYEBALL)), (1, np.flatnonzero(_ON_EYEBALL))):
        distance, nearest = ndimage.distance_transform_edt(of_pixel != wanted, return_indices=True)
        column, row = np.floor(points_px[numbers]).astype(int).T
        inside = (row >= 0) & (row < seen.shape[0]) & (column >= 0) & (column < seen.shape[1])
        row, column = row.clip(0, seen.shape[0] - 1), column.clip(0, seen.shape[1] - 1)
        used = inside & (distance[row, column] <= reach)
        at = nearest[:, row, column]
        face, bary = seen[at[0], at[1]], view.fragments.bary[at[0], at[1]]
        cosine = view.cosine[face]
        used &= (cosine >= _LEAST_COSINE) & (turned[numbers] >= _LEAST_TURNED)
        if not view.mouth_open:
            used &= ~_INNER_LIPS[numbers]
        corners = template[triangles[face]]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-15)
        points[numbers[used]] = (corners * bary[..., None]).sum(1)[used]
        normals[numbers[used]] = normal[used]
        weights[numbers[used]] = (turned[numbers] ** 2)[used]
    return points, normals, weights


def average(model: "HeadModel", lifted: Sequence[Lifted], kind: np.ndarray) -> FoundEmbedding:
    """The points' robust means on the surface over all people, and what two halves of them say alone."""
    points, normals, weights = (
        np.concatenate([getattr(one, name) for one in lifted]) for name in ("points_m", "normals", "weights")
    )
    known = weights.sum(0) > 0
    mean, spread = robust_mean(points, weights)
    faces, bary = on_surface(model, mean, _mean_direction(normals, weights), kind, np.flatnonzero(known))
    halves = []
    for part in (lifted[::2], lifted[1::2]):
        own, own_weights = (np.concatenate([getattr(one, name) for one in part]) for name in ("points_m", "weights"))
        halves.append(robust_mean(own, own_weights)[0])
    repeat = np.linalg.norm(halves[0] - halves[1], axis=1)
    return FoundEmbedding(faces, bary, np.flatnonzero(known), spread[known], repeat[known])


def robust_mean(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean places under a heavy-tailed loss, and the spread around them.

    Args:
        points: (V, N, 3), NaN where the weight is 0.
        weights: (V, N).

    Returns:
        (N, 3) iteratively reweighted means (Cauchy's weights), NaN where nothing is known, and (N,) root mean square
        distance a direction.
    """
    filled = np.nan_to_num(points)
    total = weights.sum(0)
    # From the middle of the sorted places: a start between two heaps would stay there.
    order = np.argsort(np.where(weights[..., None] > 0, filled, np.inf), axis=0)
    share = np.cumsum(np.take_along_axis(np.broadcast_to(weights[..., None], filled.shape), order, 0), 0)
    middle = (share < 0.5 * total[:, None]).sum(0)[None].clip(max=len(points) - 1)
    mean = np.take_along_axis(np.take_along_axis(filled, order, 0), middle, 0)[0]
    mean[total <= 0] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(_ROUNDS):
            squared = ((filled - np.nan_to_num(mean)) ** 2).sum(2)
            robust = weights / (1 + squared / _KNEE_M**2)
            mean = (robust[..., None] * filled).sum(0) / robust.sum(0)[:, None]
        spread = np.sqrt((weights * ((filled - np.nan_to_num(mean)) ** 2).sum(2)).sum(0) / total / 3)
    return mean, spread


def _mean_direction(normals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, 3) unit mean of the hit triangles' normals."""
    mean = (weights[..., None] * np.nan_to_num(normals)).sum(0)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True).clip(1e-15))


def on_surface(
    model: "HeadModel", places_m: np.ndarray, directions: np.ndarray, kind: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points of the right part of the surface, which faces as given.

    Args:
        model: the head.
        places_m: (478, 3) metres.
        directions: (478, 3) unit.
        kind: (F,) see `kinds`.
        numbers: (N,) points that are asked for.

    Returns:
        Triangles (N,) and barycentric weights (N, 3).
    """
    from tracker.head.build.landmarks import closest_barycentric

    corners = 1000 * model.template.double().numpy()[model.triangles.numpy()]
    centre = corners.mean(1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
    faces, bary = np.empty(len(numbers), np.int64), np.empty((len(numbers), 3))
    for k, number in enumerate(numbers):
        place = 1000 * places_m[number]
        right = kind == int(_ON_EYEBALL[number])
        distance = np.linalg.norm(centre - place, axis=1)
        turned = right & (normal @ directions[number] > _LEAST_AGREEMENT)
        near = np.flatnonzero(turned & (distance < 1000 * _NEAR_M))
        if not len(near):
            # A coarse mesh: the nearest triangles whatever their size.
            near = np.flatnonzero(right)[np.argsort(distance[right])[:32]]
        weights = closest_barycentric(corners[near], place)
        best = int(np.linalg.norm((corners[near] * weights[..., None]).sum(1) - place, axis=1).argmin())
        faces[k], bary[k] = near[best], weights[best] / weights[best].sum()
    return faces, bary


def embedded(model: "HeadModel", found: FoundEmbedding | None = None, progress: Progress | None = None) -> "HeadModel":
    """The model with FaceMesh points that were found by rendering it."""
    import torch

    from tracker.head.model import Embedding

    found = find_embedding(model, progress=progress) if found is None else found
    parts = (found.faces, found.bary.astype(np.float32), found.indices)
    return replace(model, landmarks478=Embedding(*(torch.from_numpy(part) for part in parts)))


def load_any(text: str) -> tuple["HeadModel", Path]:
    """A head model by its name or path, and where its embedding goes by default.

    Raises:
        InputError: no such model.
    """
    from tracker.head.flame import load_flame
    from tracker.head.flame_places import is_flame, model_file
    from tracker.head.generic import load_generic
    from tracker.head.ict import build_ict, find_ict
    from tracker.head.ict_files import read_folder

    name = "mediapipe_landmark_embedding.npz"
    if text == "generic":
        return load_generic(), Path(f"generic_{name}")
    path = Path(text)
    ict = find_ict(None if text == "ict" else path)
    if ict is not None:
        return build_ict(read_folder(ict)), Path(f"ict_{name}")
    if text == "flame":
        path = Path("assets/FLAME2020")
    if path.is_dir() or is_flame(path) or (path.parent / "landmark_embedding.npy").is_file():
        return load_flame(path), (model_file(path) or path).parent / name
    return load_generic(path), path.with_name(f"{path.stem}_{name}")


def report(found: FoundEmbedding, each: bool) -> str:
    """Words and figures for people."""
    repeat, spread = 1000 * found.repeat_m, 1000 * found.view_spread_m
    lines = [
        f"{len(found.indices)} of {COUNT} points",
        f"repeatability (two halves of the people): median {np.nanmedian(repeat):.2f} mm, "
        f"95 % {np.nanpercentile(repeat, 95):.2f} mm, worst {np.nanmax(repeat):.2f} mm "
        f"(point {found.indices[int(np.nanargmax(repeat))]})",
        f"a single view: median {np.nanmedian(spread):.2f} mm, 95 % {np.nanpercentile(spread, 95):.2f} mm",
    ]
    if each:
        lines += [
            f"{number:4d} {a:6.2f} mm {b:6.2f} mm" for number, a, b in zip(found.indices, repeat, spread, strict=True)
        ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tracker.head.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="generic, flame, ict, a model's file, or its folder")
    parser.add_argument("--out", type=Path, help="the npz file; default mediapipe_landmark_embedding.npz by the model")
    parser.add_argument("--people", type=int, default=PEOPLE, help="rendered identities")
    parser.add_argument("--views", type=int, default=VIEWS, help="views of each")
    parser.add_argument("--each", action="store_true", help="print each point's repeatability and view spread")
    given = parser.parse_args(arguments)
    if given.people < 2 or given.views < 2:
        parser.error("at least 2 people and 2 views are needed")
    try:
        model, usual = load_any(given.model)
        found = find_embedding(model, given.people, given.views, lambda words: _say(words, sys.stderr))
    except TrackerError as error:
        _say(str(error), sys.stderr)
        return 1
    target = usual if given.out is None else given.out
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    found.save(temporary)
    os.replace(temporary, target)
    sys.stdout.write(report(found, given.each))
    _say(f"written to {target}", sys.stderr)
    return 0


def _say(words: str, stream: "object") -> None:
    stream.write(words + "\n")  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
