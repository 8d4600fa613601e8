"""Pictures of the demo clip: head and shoulders before a blurred background, through a lens and a sensor."""

from dataclasses import dataclass

import cv2
import numpy as np

from tracker.camera import Intrinsics
from tracker.demo.bust import Bust, make_bust
from tracker.demo.motion import Motion
from tracker.demo.spec import DemoSpec
from tracker.head.model import LEFT_EYE, RIGHT_EYE, HeadModel
from tracker.render import Drawing, Surface, View, draw, render, rgba_texture

# Optics of the eye (Gullstrand's schematic eye): the cornea's radius, and its centre ahead of the eyeball's.
_CORNEA_RADIUS_M, _CORNEA_AHEAD_M = 0.0078, 0.0053
# The reflected lamp is a soft dot about 0.8 mm wide.
_GLINT_SIGMA_M = 0.00045
_LAMP_WIDTH = 1.0
_NECK_IN_COLLAR_M = 0.014
_VIGNETTE = 0.12


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything of a clip that does not change with time.

    Attributes:
        spec: what to show.
        model: the head.
        motion: its parameters in every frame.
        surface: head and bust as one mesh; the head's triangles come first.
        bust: the shoulders.
        atlas: (T, 1.25 T, 4) texture of both, head on the left.
        background: (H, W, 3) float32.
    """

    spec: DemoSpec
    model: HeadModel
    motion: Motion
    surface: Surface
    bust: Bust
    atlas: np.ndarray
    background: np.ndarray

    @property
    def intrinsics(self) -> Intrinsics:
        """The camera: principal point in the middle."""
        height, width = self.spec.size
        return Intrinsics(self.spec.focal_px, width / 2, height / 2)

    def head_vertices(self, frame: int) -> np.ndarray:
        """(V, 3) head-space vertices of a frame."""
        return self.model.vertices(self.motion.head_params(frame)).numpy()

    def picture(self, frame: int) -> np.ndarray:
        """One frame, (H, W, 3) uint8 RGB."""
        motion = self.motion
        R, t = motion.R[frame].numpy(), motion.t[frame].numpy()
        shoulders_cam = self.bust.vertices @ motion.body_R[frame].numpy().T + motion.body_t[frame].numpy()
        vertices = np.concatenate([self.head_vertices(frame), (shoulders_cam - t) @ R]).astype(np.float32)
        view = View(R, t, self.intrinsics, self.spec.size)
        drawing = draw(self.surface, vertices, view)
        picture = render(drawing, self.atlas, motion.light_head(frame).numpy()).over(self.background)
        self._glints(picture, drawing, frame)
        return _expose(picture, self.spec, frame)

    def _glints(self, picture: np.ndarray, drawing: Drawing, frame: int) -> None:
        """Adds the lamp's reflection on both corneas where the eyeball itself is seen, in place."""
        params = self.motion.head_params(frame)
        joints = self.model.joints(params.shape).numpy()
        view, key = drawing.view, self.motion.key_direction[frame].numpy()
        eyeballs = self.model.skin_weights[:, [LEFT_EYE, RIGHT_EYE]].numpy().argmax(1)
        for side, joint in enumerate((LEFT_EYE, RIGHT_EYE)):
            gaze = params.eyes[side].numpy()[:, 2]
            cornea = view.R @ (joints[joint] + _CORNEA_AHEAD_M * gaze) + view.t
            towards = -cornea / np.linalg.norm(cornea)
            # The lamp is wide; of what it mirrors, the part nearest to the camera is the brightest.
            half = key + (1 + _LAMP_WIDTH) * towards
            point = cornea + _CORNEA_RADIUS_M * half / np.linalg.norm(half)
            u = view.intrinsics.focal_px * point[0] / point[2] + view.intrinsics.cx_px
            v = view.intrinsics.focal_px * point[1] / point[2] + view.intrinsics.cy_px
            if self._shows_eyeball(drawing, u, v, joint, eyeballs):
                _add_dot(picture, u, v, _GLINT_SIGMA_M * view.intrinsics.focal_px / point[2])

    def _shows_eyeball(self, drawing: Drawing, u: float, v: float, joint: int, eyeballs: np.ndarray) -> bool:
        row, column = int(v * drawing.supersample), int(u * drawing.supersample)
        height, width = drawing.fragments.triangle_index.shape
        if not (0 <= row < height and 0 <= column < width):
            return False
        triangle = drawing.fragments.triangle_index[row, column]
        vertex = int(self.surface.triangles[triangle, 0]) if triangle >= 0 else self.model.vertex_count
        if vertex >= self.model.vertex_count:  # background or bust
            return False
        return bool(self.model.skin_weights[vertex, joint] > 0.5 and eyeballs[vertex] == joint - LEFT_EYE)


def make_scene(spec: DemoSpec, model: HeadModel, motion: Motion, texture: np.ndarray, photograph: np.ndarray) -> Scene:
    """Puts a scene together.

    Args:
        spec: what to show.
        model: the head.
        motion: from `make_motion`.
        texture: (T, T, 3) float32 of the head.
        photograph: (H, W, 3) float32 in [0, 1]; blurred, it makes the background.
    """
    neutral = model.neutral()
    resting = type(neutral)(motion.shape.float(), neutral.expression, neutral.jaw, neutral.eyes, neutral.eyelids)
    resting_m = model.vertices(resting).numpy()
    bust = make_bust(model, resting_m, spec.seed)
    size = texture.shape[0]
    cloth = cv2.resize(bust.texture, (size // 4, size), interpolation=cv2.INTER_CUBIC)
    share = size / (size + size // 4)
    head = Surface.of(model)
    # What is deep inside the collar is left out, so that no turn of the head pushes it through the pullover.
    shown = resting_m[head.triangles, 1].max(1) > bust.collar_top_m - _NECK_IN_COLLAR_M
    surface = Surface(
        np.concatenate([head.triangles[shown], bust.triangles + model.vertex_count]),
        np.concatenate([head.uv * [share, 1], bust.uv * [1 - share, 1] + [share, 0]]).astype(np.float32),
        np.concatenate([head.uv_triangles[shown], bust.triangles + len(head.uv)]),
    )
    background = _background(photograph, spec.size)
    atlas = rgba_texture(np.concatenate([texture, cloth], 1))
    return Scene(spec, model, motion, surface, bust, atlas, background)


def _background(photograph: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A photograph far out of focus, filling the picture."""
    height, width = size
    scale = max(height / photograph.shape[0], width / photograph.shape[1])
    grown = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    y, x = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    # Two passes of a disc look like an open lens; a Gaussian looks like fog.
    blurred = grown[y : y + height, x : x + width]
    for share in (0.05, 0.03):
        blurred = cv2.filter2D(blurred, -1, _disc(max(2, round(share * max(size)))), borderType=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(blurred, np.float32)


def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x * x + y * y <= radius * radius).astype(np.float32)
    return disc / disc.sum()


def _add_dot(picture: np.ndarray, u: float, v: float, sigma_px: float) -> None:
    """Screens a white Gaussian dot onto a picture, in place."""
    reach = int(4 * sigma_px) + 1
    row0, row1 = max(int(v) - reach, 0), min(int(v) + reach + 1, picture.shape[0])
    col0, col1 = max(int(u) - reach, 0), min(int(u) + reach + 1, picture.shape[1])
    y, x = np.mgrid[row0:row1, col0:col1] + 0.5
    dot = 0.9 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma_px**2))
    patch = picture[row0:row1, col0:col1]
    patch += dot[..., None].astype(np.float32) * (1 - patch)


def _expose(picture: np.ndarray, spec: DemoSpec, frame: int) -> np.ndarray:
    """Lens blur, vignette, sensor noise, rounding: (H, W, 3) uint8."""
    height, width = spec.size
    if spec.blur_px > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), spec.blur_px)
    y, x = np.ogrid[:height, :width]
    radius = ((x + 0.5 - width / 2) ** 2 + (y + 0.5 - height / 2) ** 2) / (width**2 + height**2) * 4
    picture = picture * (1 - _VIGNETTE * radius[..., None]).astype(np.float32)
    # A seed a frame: pictures can be made in any order.
    noise = np.random.default_rng((spec.seed, frame)).standard_normal(picture.shape, dtype=np.float32)
    return np.clip(np.rint((picture + spec.noise * noise) * 255), 0, 255).astype(np.uint8)
