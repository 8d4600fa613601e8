"""Places of detected points on a head's surface: lifted from a rendering, averaged, and put back onto the surface."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from tracker.landmark_lines import INNER_LIPS
from tracker.landmark_set import COUNT, IRISES

if TYPE_CHECKING:
    from tracker.head.embed_views import EmbedView
    from tracker.head.model import HeadModel

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


@lru_cache(maxsize=1)
def mirrored_numbers() -> np.ndarray:
    """(478,) the number of each point's mirror image, from the generic head, which is symmetric."""
    points = generic_points()[0]
    distance = np.linalg.norm(points[:, None] * [-1, 1, 1] - points[None], axis=2)
    return np.asarray(distance.argmin(1))


@lru_cache(maxsize=1)
def generic_points() -> tuple[np.ndarray, np.ndarray]:
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
    normals = generic_points()[1].copy()
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


def mean_direction(normals: np.ndarray, weights: np.ndarray) -> np.ndarray:
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
