"""Renderings of painted heads of several people, with what is seen at every pixel: material for a detector."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.head.face_paint import draw_complexion, openness, paint
from tracker.head.jaw import opened
from tracker.head.model import HeadModel, HeadParams
from tracker.rasterizer import Fragments, rasterize
from tracker.render import Surface, View, draw, render, rgba_texture
from tracker.sh_constants import SH_CONSTANTS
from tracker.texels import Texels

SIZE = 512
# The head covers about half of the picture; focal length as a multiple of the picture's side.
_DISTANCE_M, _FOCAL = (0.55, 0.80), (1.6, 2.4)
_YAW_DEGREES, _PITCH_DEGREES, _ROLL_DEGREES = 32.0, 12.0, 6.0
# Every other view has its mouth open, so that the inner points of both lips are told apart.
_OPEN_DEGREES = (9.0, 16.0)
_AMBIENT, _KEY = (0.45, 0.75), (0.25, 0.6)
_KEY_SIDE_DEGREES, _KEY_UP_DEGREES = 50.0, (5.0, 45.0)
# Spread of the rendered identities, in the model's standard deviations, and how many modes take part.
_IDENTITY_STD, _IDENTITY_MODES = 0.6, 40
_TEXTURE_SIZE = 1024
_NOISE = 0.008


@dataclass(frozen=True, eq=False)
class EmbedView:
    """One rendered picture.

    Attributes:
        image: (SIZE, SIZE, 3) uint8 RGB.
        vertices_head_m: (V, 3) of the head that is shown.
        fragments: what is seen at each pixel.
        cosine: (F,) of each triangle's normal to the line of sight, negative where it turns away.
        view: the camera.
        mouth_open: whether the mouth is open.
    """

    image: np.ndarray
    vertices_head_m: np.ndarray
    fragments: Fragments
    cosine: np.ndarray
    view: View
    mouth_open: bool


def views(model: HeadModel, seed: int, count: int) -> Iterator[EmbedView]:
    """Pictures of one person.

    Args:
        model: the head; textures need UVs, without them vertices are painted.
        seed: of the person's identity, colours, light and poses.
        count: number of pictures, yaw evenly spread.
    """
    rng = np.random.default_rng((seed, 71))
    person = _person(model, rng)
    surface, texture = _painted(model, rng)
    yaws = np.deg2rad(_YAW_DEGREES) * (np.linspace(-1, 1, count) if count > 1 else np.zeros(1))
    for place, yaw in enumerate(rng.permutation(yaws)):
        wide = place % 2 == 1
        angle = float(np.deg2rad(rng.uniform(*_OPEN_DEGREES))) if wide else 0.0
        expression, jaw = opened(model, angle)
        params = replace(person, expression=expression, jaw=jaw)
        vertices = model.vertices(params).numpy()
        view = _view(model, vertices, float(yaw), rng)
        image = _picture(surface, texture, vertices, view, rng)
        cam = (vertices @ view.R.T + view.t).astype(np.float32)
        fragments = rasterize(cam, surface.triangles, view.intrinsics, view.size, cull_back=True)
        yield EmbedView(image, vertices, fragments, _cosines(cam, surface.triangles), view, wide)


def _person(model: HeadModel, rng: np.random.Generator) -> HeadParams:
    neutral = model.neutral()
    shape = torch.zeros(model.shape_count)
    count = min(_IDENTITY_MODES, model.shape_count)
    shape[:count] = torch.from_numpy(_IDENTITY_STD * rng.standard_normal(count).clip(-2, 2)).float()
    return replace(neutral, shape=shape)


def _painted(model: HeadModel, rng: np.random.Generator) -> tuple[Surface, np.ndarray]:
    """The surface and its texture; a model without UVs gets one texel a vertex, which colours whole triangles."""
    colours, open_share = draw_complexion(rng), openness(model)
    triangles = model.triangles.numpy()
    if len(model.uv):
        texels = Texels.of(model, _TEXTURE_SIZE)
        covered = texels.fragments.covered
        ids, bary = triangles[texels.fragments.triangle_index[covered]], texels.fragments.bary[covered]
        points = texels.interpolate_vertices(model.template.numpy())
        light = texels.interpolate_vertices(open_share[:, None])
        albedo = paint(model, points.astype(np.float64), ids, bary, colours) * light
        return Surface.of(model), rgba_texture(texels.picture(albedo.astype(np.float32)))
    everyone = np.repeat(np.arange(model.vertex_count)[:, None], 3, 1)
    bary = np.tile([1.0, 0.0, 0.0], (model.vertex_count, 1))
    albedo = paint(model, model.template.numpy().astype(np.float64), everyone, bary, colours) * open_share[:, None]
    return _vertex_coloured(triangles, albedo)


def _vertex_coloured(triangles: np.ndarray, colours: np.ndarray) -> tuple[Surface, np.ndarray]:
    """A surface whose texture holds one patch a triangle, its corners' colours at the patch's corners."""
    side = int(np.ceil(np.sqrt(len(triangles))))
    column, row = np.arange(len(triangles)) % side, np.arange(len(triangles)) // side
    patch = np.zeros((side, 3, side, 3, 3), np.float32)
    corner = colours[triangles]
    middle = corner.mean(1)
    for (i, j), value in {
        (0, 0): corner[:, 0], (0, 2): corner[:, 1], (2, 0): corner[:, 2],
        (0, 1): (corner[:, 0] + corner[:, 1]) / 2, (1, 0): (corner[:, 0] + corner[:, 2]) / 2,
        (1, 1): (corner[:, 1] + corner[:, 2]) / 2, (1, 2): middle, (2, 1): middle, (2, 2): middle,
    }.items():  # fmt: skip
        patch[row, i, column, j] = value
    pixels = 3 * side
    at = np.array([(0.5, 0.5), (2.5, 0.5), (0.5, 2.5)])
    place = np.stack([3 * column, 3 * row], 1)[:, None] + at
    uv = np.stack([place[..., 0] / pixels, 1 - place[..., 1] / pixels], -1).reshape(-1, 2)
    uv_triangles = np.arange(3 * len(triangles)).reshape(-1, 3)
    return Surface(triangles, uv.astype(np.float32), uv_triangles), rgba_texture(patch.reshape(pixels, pixels, 3))


def _view(model: HeadModel, vertices: np.ndarray, yaw: float, rng: np.random.Generator) -> View:
    """A camera before the face, which lies in the middle of the picture."""
    pitch = np.deg2rad(rng.uniform(-_PITCH_DEGREES, _PITCH_DEGREES))
    roll = np.deg2rad(rng.uniform(-_ROLL_DEGREES, _ROLL_DEGREES))
    R = np.diag([1.0, -1.0, -1.0]) @ _turn(2, roll) @ _turn(0, pitch) @ _turn(1, yaw)
    ids = model.regions["face"].numpy() if "face" in model.regions else np.arange(len(vertices))
    centre = (vertices[ids].min(0) + vertices[ids].max(0)) / 2
    distance, focal = rng.uniform(*_DISTANCE_M), SIZE * rng.uniform(*_FOCAL)
    # The same size whatever the focal length: only the perspective differs.
    distance = distance * focal / (SIZE * _FOCAL[0])
    t = np.array([0, 0, distance]) - R @ centre
    return View(R, t, Intrinsics(focal, SIZE / 2, SIZE / 2), (SIZE, SIZE))


def _turn(axis: int, angle: float) -> np.ndarray:
    """Rotation (3, 3) about a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    R = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    R[i, i], R[j, j], R[i, j], R[j, i] = c, c, -s, s
    return R


def _picture(
    surface: Surface, texture: np.ndarray, vertices: np.ndarray, view: View, rng: np.random.Generator
) -> np.ndarray:
    """The lit head before a plain background, with sensor noise."""
    side = np.deg2rad(rng.uniform(-_KEY_SIDE_DEGREES, _KEY_SIDE_DEGREES))
    up = np.deg2rad(rng.uniform(*_KEY_UP_DEGREES))
    towards = view.R.T @ np.array([np.sin(side) * np.cos(up), -np.sin(up), -np.cos(side) * np.cos(up)])
    constants = np.asarray(SH_CONSTANTS)
    sh = np.zeros((9, 3))
    sh[0] = rng.uniform(*_AMBIENT) / constants[0]
    sh[1:4] = (rng.uniform(*_KEY) * towards / constants[1:4])[:, None]
    ground = np.tile(rng.uniform(0.25, 0.7, 3).astype(np.float32), (*view.size, 1))
    shown = render(draw(surface, vertices, view), texture, sh).over(ground)
    shown = shown + _NOISE * rng.standard_normal(shown.shape)
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def _cosines(cam: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    corners = cam[triangles].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(1)
    size = np.linalg.norm(normal, axis=1) * np.linalg.norm(middle, axis=1)
    return -(normal * middle).sum(1) / np.maximum(size, 1e-15)
