"""A plain painted face for pictures of the generic head, and views of it."""

from dataclasses import dataclass

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel, HeadParams
from tracker.render import Surface, View, draw, render, rgba_texture
from tracker.shading import SH_CONSTANTS
from tracker.texels import Texels

_SKIN = (0.80, 0.62, 0.53)
_COLOURS = {"lips": (0.70, 0.42, 0.40), "inner_mouth": (0.33, 0.13, 0.12), "teeth": (0.90, 0.88, 0.82)}
_SCLERA, _IRIS, _PUPIL, _BROW = (0.88, 0.87, 0.86), (0.30, 0.40, 0.44), (0.03, 0.03, 0.03), (0.33, 0.24, 0.19)
# FaceMesh points along the upper and lower edge of the right brow; the left one mirrors it.
_BROW_EDGES = ((70, 63, 105, 66, 107), (46, 53, 52, 65, 55))
_TEXTURE_SIZE = 1024
_FOCAL_FACTOR = 4.0  # focal length over picture side: a portrait lens
_BACKGROUND = (0.30, 0.33, 0.37)


def paint_plain(model: HeadModel) -> np.ndarray:
    """A skin-coloured texture with lips, brows and eyes, (1024, 1024, 4) float32 for `tracker.render.render`."""
    vertices = model.template.numpy()
    texels = Texels.of(model, _TEXTURE_SIZE)
    colours = np.tile(np.array(_SKIN, np.float32), (model.vertex_count, 1))
    for name, colour in _COLOURS.items():
        colours[model.regions[name].numpy()] = colour
    for side in ("left", "right"):
        colours[model.regions[f"{side}_eyeball"].numpy()] = _SCLERA
        iris = model.regions[f"iris_{side}"].numpy()
        colours[iris] = _IRIS
        off_axis = np.linalg.norm(vertices[iris, :2] - vertices[iris[0], :2], axis=1)
        colours[iris[off_axis < 0.002]] = _PUPIL
    painted = texels.interpolate_vertices(colours)
    points = texels.interpolate_vertices(model.template.numpy())
    brow = _brow_share(points, vertices)[:, None]
    painted = painted * (1 - brow) + np.array(_BROW, np.float32) * brow
    return rgba_texture(texels.picture(painted))


def _brow_share(points: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """How much each surface point (P, 3) belongs to an eyebrow: a band between the brow's edges."""
    upper, lower = (vertices[list(ids)] for ids in _BROW_EDGES)
    x = -np.abs(points[:, 0])
    top = np.interp(x, upper[:, 0], upper[:, 1])
    bottom = np.interp(x, lower[:, 0], lower[:, 1])
    share = np.clip((top - points[:, 1]) / 0.0015, 0, 1) * np.clip((points[:, 1] - bottom) / 0.0015, 0, 1)
    within = (x > upper[0, 0]) & (x < upper[-1, 0]) & (points[:, 2] > 0.01)
    return 0.75 * share * within


@dataclass(frozen=True)
class Viewpoint:
    """Where a picture is taken from.

    Attributes:
        yaw_deg: turn of the camera around the head; positive shows the subject's left side.
        pitch_deg: positive looks down on the head.
        centre_m: the head-space point in the picture's middle.
        width_m: what the picture's width covers at that point.
        size: side of the square picture, pixels.
    """

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    centre_m: tuple[float, float, float] = (0.0, -0.02, -0.04)
    width_m: float = 0.34
    size: int = 400

    def view(self) -> View:
        """The camera."""
        yaw, pitch = np.deg2rad(-self.yaw_deg), np.deg2rad(self.pitch_deg)
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        R = np.diag([1.0, -1.0, -1.0]) @ nod @ turn
        distance = _FOCAL_FACTOR * self.width_m
        t = np.array([0, 0, distance]) - R @ np.array(self.centre_m)
        camera = Intrinsics(_FOCAL_FACTOR * self.size, self.size / 2, self.size / 2)
        return View(R, t, camera, (self.size, self.size))


def picture(model: HeadModel, texture: np.ndarray, params: HeadParams, viewpoint: Viewpoint) -> np.ndarray:
    """(size, size, 3) uint8 RGB of the painted head, lit from the camera's upper left."""
    view = viewpoint.view()
    with torch.no_grad():
        vertices = model.vertices(params).numpy()
    to_light_cam = np.array([-0.45, -0.55, -0.70])
    layer = render(draw(Surface.of(model), vertices, view), texture, _light(view.R.T @ to_light_cam))
    shown = layer.over(np.tile(np.array(_BACKGROUND, np.float32), (*view.size, 1)))
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def _light(towards: np.ndarray) -> np.ndarray:
    """Ambient light and one broad lamp: (9, 3)."""
    sh = np.zeros((9, 3))
    constants = np.asarray(SH_CONSTANTS)
    sh[0] = 0.78 / constants[0]
    sh[1:4] = (0.42 * towards / np.linalg.norm(towards) / constants[1:4])[:, None]
    return sh
