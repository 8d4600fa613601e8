"""`python -m tracker.head.build.pictures` draws the pictures of docs/generic_head.md."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from tracker.head.build.paint import Viewpoint, paint_plain, picture
from tracker.head.generic import load_generic
from tracker.head.model import HeadModel, HeadParams
from tracker.rotations import exp_so3

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "images" / "generic_head"
_FACE = Viewpoint(-20, 0, (0.0, -0.02, 0.02), 0.20, 240)
_ROUND = ((0, 0), (35, 0), (90, 0), (145, 0), (180, 0), (-60, 20), (0, -45), (0, 60))
_SHAPE_MODES = 8


class _Artist:
    """Draws one head model with one texture."""

    def __init__(self, model: HeadModel) -> None:
        self.model = model
        self.texture = paint_plain(model)

    def shot(self, viewpoint: Viewpoint, label: str = "", params: HeadParams | None = None) -> np.ndarray:
        """A labelled picture."""
        image = picture(self.model, self.texture, self.model.neutral() if params is None else params, viewpoint)
        cv2.putText(image, label, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        return image


def main() -> None:
    """Draws everything."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    artist = _Artist(load_generic())
    sheets = {
        "views": _grid([artist.shot(Viewpoint(yaw, pitch)) for yaw, pitch in _ROUND], 4),
        "joints": _grid(_joint_shots(artist), 4),
        "shape_modes": _grid(_shape_shots(artist), 6),
        "random_heads": _grid(_random_shots(artist), 6),
        "expressions": _grid(_expression_shots(artist), 6),
        "atlas": _atlas(artist.model),
    }
    for name, image in sheets.items():
        cv2.imwrite(str(FOLDER / f"{name}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _grid(images: list[np.ndarray], columns: int) -> np.ndarray:
    blank = np.full_like(images[0], 255)
    images = images + [blank] * (-len(images) % columns)
    return np.concatenate([np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)])


def _joint_shots(artist: _Artist) -> list[np.ndarray]:
    rest = artist.model.neutral()
    shots = []
    for angle in (0.08, 0.25):
        opened = replace(rest, jaw=exp_so3(torch.tensor([angle, 0.0, 0.0])))
        shots += [artist.shot(replace(_FACE, yaw_deg=yaw), f"jaw {angle} rad", opened) for yaw in (0, 60)]
    for closure in (0.0, 0.5, 0.75, 1.0):
        closed = replace(rest, eyelids=torch.tensor([closure, closure]))
        shots.append(artist.shot(Viewpoint(25, 0, (0.031, 0.026, 0.03), 0.06, 240), f"left eyelid {closure}", closed))
    for pitch, yaw, name in ((0.0, 0.5, "left"), (0.0, -0.5, "right"), (-0.35, 0.0, "up"), (0.35, 0.0, "down")):
        turned = exp_so3(torch.tensor([pitch, yaw, 0.0]))
        eyes = Viewpoint(0, 0, (0.0, 0.026, 0.03), 0.12, 240)
        shots.append(artist.shot(eyes, f"gaze {name}", replace(rest, eyes=torch.stack([turned, turned]))))
    return shots


def _shape_shots(artist: _Artist) -> list[np.ndarray]:
    shots = []
    for mode in range(_SHAPE_MODES):
        for yaw in (0, 35, 90):
            for sigma in (-2.0, 2.0):
                shape = torch.zeros(artist.model.shape_count)
                shape[mode] = sigma
                params = replace(artist.model.neutral(), shape=shape)
                shots.append(artist.shot(Viewpoint(yaw, 0, size=240), f"mode {mode}: {sigma:+.0f} sigma", params))
    return shots


def _random_shots(artist: _Artist) -> list[np.ndarray]:
    draws = np.random.RandomState(1).standard_normal((6, artist.model.shape_count)).astype(np.float32)
    faces = [replace(artist.model.neutral(), shape=torch.from_numpy(draw)) for draw in draws]
    return [artist.shot(Viewpoint(yaw, 0, size=240), "", params) for yaw in (0, 50) for params in faces]


def _expression_shots(artist: _Artist) -> list[np.ndarray]:
    shots = []
    bounds = artist.model.expression_bounds
    for index, name in enumerate(artist.model.expression_names):
        for value in (1.0, -1.0) if bounds[index, 0] <= -1 else (1.0,):
            expression = torch.zeros(artist.model.expression_count)
            expression[index] = value
            params = replace(artist.model.neutral(), expression=expression)
            shots.append(artist.shot(_FACE, f"{name} {value:+.0f}", params))
    return shots


def _atlas(model: HeadModel, size: int = 900) -> np.ndarray:
    image = np.full((size, size, 3), 255, np.uint8)
    at = model.uv.numpy() * [1, -1] + [0, 1]
    outlines = np.round(at[model.uv_triangles.numpy()] * size * 8).astype(np.int32)
    cv2.polylines(image, list(outlines), True, (70, 80, 90), 1, cv2.LINE_AA, 3)
    return image


if __name__ == "__main__":
    main()
