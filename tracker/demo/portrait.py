"""Unwraps a photograph of a face onto a head model's texture.

The head is posed by its landmarks (PnP), then the remaining distance between projected and detected landmarks is spread
over the surface as the smoothest vector field that takes each landmark to its place. The field lives on the mesh, so
the upper and the lower lip, or two eyelids, can part although they touch in space.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve

from tracker.camera import Intrinsics, to_cv2_pixels
from tracker.errors import InputError
from tracker.head.model import HeadModel, embed
from tracker.landmark_lines import FACE_OVAL
from tracker.rasterizer import rasterize, visible_points
from tracker.render_kernels import mesh_normals
from tracker.shading import sh_basis
from tracker.texels import Texels

# A studio portrait is taken from afar; only the depth of the head against its distance depends on this guess.
PORTRAIT_FOCAL = 4.0
# Weight of the field's bending against landmark misfit: landmarks are met to 0.1 px, single outliers do not crease it.
_BENDING = 1e-3
_STRETCHING = 1e-4
# Cosines between surface normal and view over which a texel fades in.
_FACING = (0.25, 0.55)
# Shading may change a colour by at most these factors when it is divided out; beyond, the fit is extrapolating.
_SHADING_RANGE = (0.6, 1.45)
# Brightness that varies over this share of the face's width counts as light in folds, and is evened by this power.
_EVEN_SCALE, _EVEN_STRENGTH = 0.05, 0.5
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photograph with the landmarks of its face.

    Attributes:
        image: (H, W, 3) float32 sRGB in [0, 1].
        landmarks478_px: (478, 2) continuous pixels.
    """

    image: np.ndarray
    landmarks478_px: np.ndarray


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """Colours of the texels that the photograph shows.

    Attributes:
        albedo: (P, 3) float32, one row a texel of `Texels`, shading divided out.
        weight: (P,) float32 in [0, 1], how well the photograph shows the texel.
        skin: (3,) typical skin colour.
        hair: (256, 3) hair colours of the photograph from dark to light.
    """

    albedo: np.ndarray
    weight: np.ndarray
    skin: np.ndarray
    hair: np.ndarray


def unwrap(model: HeadModel, texels: Texels, portrait: Portrait) -> Unwrapped:
    """Carries a portrait to texture space.

    Args:
        model: needs landmarks478.
        texels: the texels of its texture.
        portrait: the photograph.

    Returns:
        Colours and weights of the texels.
    """
    vertices = model.template.numpy()
    triangles = model.triangles.numpy()
    camera = _camera(portrait)
    R, t = _pose(model, portrait, camera)
    vertices_cam = (vertices @ R.T + t).astype(np.float32)
    pixels = _warped_pixels(model, vertices_cam, portrait, camera)
    normals = mesh_normals(vertices, triangles)
    size = portrait.image.shape[:2]
    fragments = rasterize(vertices_cam, triangles, camera, (size[0], size[1]), cull_back=True)
    # The photograph's pixels are coarse against the model (0.15 m over 100 pixels), hence the wide tolerance.
    seen = visible_points(fragments, vertices_cam, normals @ R.T, camera, tolerance_m=0.01, min_cosine=0.0)
    towards = -(vertices_cam / np.linalg.norm(vertices_cam, axis=1, keepdims=True) * (normals @ R.T)).sum(1)
    facing = _smoothstep((towards - _FACING[0]) / (_FACING[1] - _FACING[0])) * seen * _in_face(model)
    portrait = replace(portrait, image=_evened(portrait))
    mirror = _mirror(vertices)
    own = _sample(texels, portrait, pixels, facing)
    other = _sample(texels, portrait, pixels[mirror], facing[mirror])
    normals_texel = texels.interpolate_vertices(normals)
    colour_own = own[0] / _shading(own[0], own[1], normals_texel)[:, None]
    flipped = normals_texel * np.array([-1, 1, 1], np.float32)
    colour_other = other[0] / _shading(other[0], other[1], flipped)[:, None]
    # The side that faces the camera wins; the mirror image only fills what it does not show.
    share = own[1] / np.maximum(own[1] + 0.15 * other[1] * (1 - own[1]), 1e-6)
    albedo = share[:, None] * colour_own + (1 - share[:, None]) * colour_other
    weight = np.maximum(own[1], other[1])
    return Unwrapped(albedo.astype(np.float32), weight, _skin_colour(portrait), _hair_colours(portrait))


def _in_face(model: HeadModel) -> np.ndarray:
    """(V,) 1 on the face, which is what the landmarks tie to the photograph; 1 everywhere if the model names none."""
    if "face" not in model.regions:
        return np.ones(model.vertex_count, np.float32)
    inside = np.zeros(model.vertex_count, np.float32)
    inside[model.regions["face"].numpy()] = 1
    return inside


def _evened(portrait: Portrait) -> np.ndarray:
    """The photograph with broad highlights and the shadows of folds softened; they would stick to the moving face."""
    inside = _inside_face(portrait)
    sigma = _EVEN_SCALE * float(np.ptp(portrait.landmarks478_px[:468, 0]))
    luminance = portrait.image @ _LUMINANCE
    broad = cv2.GaussianBlur(luminance * inside, (0, 0), sigma) / (cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-3)
    level = np.median(luminance[inside > 0.9])
    gain = np.clip(level / np.maximum(broad, 1e-3), 0.7, 1.5) ** _EVEN_STRENGTH
    softened = 1 + inside * (gain - 1)
    return np.clip(portrait.image * softened[..., None], 0, 1).astype(np.float32)


def _camera(portrait: Portrait) -> Intrinsics:
    height, width = portrait.image.shape[:2]
    return Intrinsics(PORTRAIT_FOCAL * max(height, width), width / 2, height / 2)


def _pose(model: HeadModel, portrait: Portrait, camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Head pose from the landmarks: R (3, 3), t (3,)."""
    points = _landmarks(model, model.template).numpy().astype(np.float64)
    pixels = portrait.landmarks478_px[model.landmarks478.indices.numpy()]
    matrix = camera.matrix()
    matrix[:2, 2] = to_cv2_pixels(matrix[:2, 2])
    found, rotation, t = cv2.solvePnP(points, to_cv2_pixels(pixels), matrix, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
    if not found:
        raise InputError(f"{model.name}: the portrait's landmarks do not fit the head; are its points in place?")
    return cv2.Rodrigues(rotation)[0], t[:, 0]


def _landmarks(model: HeadModel, values: torch.Tensor) -> torch.Tensor:
    return embed(model.landmarks478.faces, model.landmarks478.bary, model.triangles, values)


def _warped_pixels(model: HeadModel, vertices_cam: np.ndarray, portrait: Portrait, camera: Intrinsics) -> np.ndarray:
    """(V, 2) pixels of the vertices such that the landmarks fall on the detected ones."""
    projected = camera.focal_px * vertices_cam[:, :2] / vertices_cam[:, 2:] + [camera.cx_px, camera.cy_px]
    at = model.landmarks478
    triangles = model.triangles.numpy()
    count = len(at)
    rows = np.repeat(np.arange(count), 3)
    pick = sparse.csr_matrix(
        (at.bary.numpy().ravel(), (rows, triangles[at.faces.numpy()].ravel())), (count, len(projected))
    )
    misfit = portrait.landmarks478_px[at.indices.numpy()] - pick @ projected
    laplacian = _graph_laplacian(triangles, len(projected))
    # A little stretching keeps the field from growing beyond the last landmarks; the tiny diagonal settles parts of
    # the mesh without any (they stay where the pose puts them).
    bent = _BENDING * laplacian.T @ laplacian + _STRETCHING * laplacian
    normal = bent + pick.T @ pick + 1e-9 * sparse.identity(len(projected))
    field = spsolve(normal.tocsc(), pick.T @ misfit)
    return projected + field


def _graph_laplacian(triangles: np.ndarray, count: int) -> sparse.csr_matrix:
    """Symmetric graph Laplacian over the mean degree, (V, V)."""
    a = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    adjacent = sparse.coo_matrix((np.ones(len(a)), (a[:, 0], a[:, 1])), (count, count)).tocsr()
    adjacent = ((adjacent + adjacent.T) > 0).astype(np.float64)
    degree = np.asarray(adjacent.sum(1)).ravel()
    return ((sparse.diags(degree) - adjacent) / max(float(degree.mean()), 1)).tocsr()


def _mirror(vertices: np.ndarray) -> np.ndarray:
    """For each vertex the one nearest to its mirror image."""
    from scipy.spatial import cKDTree

    return cKDTree(vertices).query(vertices * [-1, 1, 1])[1]


def _sample(
    texels: Texels, portrait: Portrait, pixels: np.ndarray, facing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (P, 3) and weights (P,) of the texels for vertices at given pixels of the photograph."""
    at = texels.interpolate_vertices(pixels.astype(np.float32))
    cv2_at = to_cv2_pixels(at).astype(np.float32)
    colour = _remap(portrait.image, cv2_at)
    # Bicubic samples overshoot; a weight outside [0, 1] would blow up the mix of both sides.
    inside = np.clip(_remap(_inside_face(portrait), cv2_at), 0, 1)
    weight = inside * texels.interpolate_vertices(facing[:, None].astype(np.float32))[:, 0]
    return np.clip(colour, 0, 1), weight


def _remap(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bicubic samples at (P, 2) cv2 pixels; cv2.remap wants pictures below 32768 a side, so the list is folded."""
    width = 1024
    padded = np.concatenate([at, np.zeros((-len(at) % width, 2), np.float32)]).reshape(-1, width, 2)
    out = cv2.remap(image, padded, np.zeros((0, 2), np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(-1, *image.shape[2:])[: len(at)]


def _inside_face(portrait: Portrait) -> np.ndarray:
    """(H, W) float32: 1 inside the face's oval, fading to 0 at the oval over a tenth of its width."""
    height, width = portrait.image.shape[:2]
    oval = to_cv2_pixels(portrait.landmarks478_px[list(FACE_OVAL.points)])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(oval * 16).astype(np.int32)], (1,), shift=4)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    return _smoothstep((depth - 0.5) / (0.1 * np.ptp(oval[:, 0]))).astype(np.float32)


def _shading(colour: np.ndarray, weight: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(P,) smooth brightness of the texels by their normals, mean one over what is seen."""
    luminance = colour @ _LUMINANCE
    sure = weight > 0.6
    basis = sh_basis(torch.from_numpy(normals)).numpy().astype(np.float64)
    middle = np.median(luminance[sure])
    # Brows, lips and nostrils are albedo: only skin near the median brightness says anything about the light.
    skin = sure & (np.abs(luminance / middle - 1) < 0.3)
    rows, target = basis[skin], luminance[skin] / middle
    ridge = 0.02 * len(rows) * np.diag([0, 1, 1, 1, 2, 2, 2, 2, 2])
    coefficients = np.linalg.solve(rows.T @ rows + ridge, rows.T @ target)
    return np.clip(basis @ coefficients, *_SHADING_RANGE).astype(np.float32)


def _skin_colour(portrait: Portrait) -> np.ndarray:
    """Median colour of both cheeks."""
    cheeks = portrait.landmarks478_px[[50, 280, 101, 330, 205, 425]]
    radius = max(1, round(0.03 * float(np.ptp(portrait.landmarks478_px[:468, 0]))))
    patches = [
        portrait.image[int(y) - radius : int(y) + radius + 1, int(x) - radius : int(x) + radius + 1].reshape(-1, 3)
        for x, y in cheeks
    ]
    return np.median(np.concatenate(patches), axis=0).astype(np.float32)


def _hair_colours(portrait: Portrait) -> np.ndarray:
    """Colours above the face from dark to light, smoothed: (256, 3)."""
    points = portrait.landmarks478_px
    height = float(points[152, 1] - points[10, 1])
    x0, x1 = (int(points[10, 0] + side * 0.3 * height) for side in (-1, 1))
    y1 = int(points[10, 1] - 0.05 * height)
    patch = portrait.image[max(y1 - int(0.28 * height), 0) : y1, x0:x1].reshape(-1, 3)
    order = np.argsort(patch @ _LUMINANCE)
    runs = np.array_split(patch[order][len(order) // 20 : -max(len(order) // 20, 1)], 256)
    return np.stack([run.mean(0) for run in runs]).astype(np.float32)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    clipped = np.clip(x, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
