"""Pictures of the demo clip: head and shoulders before a blurred background, through a lens and a sensor."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from tracker.camera import Intrinsics
from tracker.demo.bust import Bust, make_bust
from tracker.demo.fringe import make_fringe
from tracker.demo.glasses import Glasses, make_glasses
from tracker.demo.motion import Motion
from tracker.demo.occluder import make_occluder, occluder_pose
from tracker.demo.parts import Part
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
# Instants that an exposure is averaged over: at the fastest turns of the clips they are 1.5 pixels apart.
_INSTANTS = 7
# What is away waits here, far behind the camera's right; camera axes, metres.
_AWAY_M = np.array([50.0, 0.0, 20.0])


@dataclass(frozen=True, eq=False)
class Paint:
    """Colours of a scene.

    Attributes:
        head: (T, T, 3) float32 texture of the head.
        skin: (3,) of a hand.
        hair: (256, 3) from dark to light.
        cloth: (3,) of the pullover.
    """

    head: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything of a clip that does not change with time.

    Attributes:
        spec: what to show.
        model: the head.
        motion: its parameters in every frame.
        surface: head, bust and parts as one mesh, in this order.
        bust: the shoulders.
        atlas: (T, (1 + n / 4) T, 4) texture of head, bust and parts, head on the left.
        background: (H, W, 3) float32.
        parts: glasses, hair, what passes before the face.
        glasses: their lenses are laid over the picture; or None.
    """

    spec: DemoSpec
    model: HeadModel
    motion: Motion
    surface: Surface
    bust: Bust
    atlas: np.ndarray
    background: np.ndarray
    parts: tuple[Part, ...] = ()
    glasses: Glasses | None = None

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
        total = None
        for count, (motion, number, seconds) in enumerate(self._instants(frame), 1):
            instant = self._instant(motion, number, seconds)
            total = instant if total is None else total + (instant - total) / np.float32(count)
        assert total is not None  # there is one instant at least
        return _expose(total, self.spec, frame)

    def covered(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the face would be seen and where a part or the pullover hides it, in the middle of a frame's exposure.

        Returns:
            Twice (H, W) float32, shares of each pixel: the face, hidden or not, and what of it is hidden.
        """
        motion, seconds = self.motion, frame / self.spec.fps
        drawing = self._drawing(motion, frame, seconds)
        alone = draw(Surface.of(self.model), self.head_vertices(frame), drawing.view)
        face = np.zeros(self.model.vertex_count, bool)
        face[self.model.regions["face"].numpy() if "face" in self.model.regions else slice(None)] = True
        before = alone.fragments.triangle_index
        on_face = np.zeros(before.shape, bool)
        seen = before >= 0
        on_face[seen] = face[alone.surface.triangles[before[seen]]].all(1)
        nearest = drawing.fragments.triangle_index
        other = (nearest >= 0) & (self.surface.triangles[nearest, 0] >= self.model.vertex_count)
        height, width = self.spec.size
        cells = (height, drawing.supersample, width, drawing.supersample)
        face_px, hidden_px = (x.reshape(cells).mean((1, 3), dtype=np.float32) for x in (on_face, on_face & other))
        return face_px, hidden_px

    def _instants(self, frame: int) -> Iterator[tuple[Motion, int, float]]:
        """Motion, its number and the time of the instants of a frame's exposure."""
        fps, open_share = self.spec.fps, self.spec.exposure
        if open_share <= 0:
            yield self.motion, frame, frame / fps
            return
        instants = frame + open_share * ((np.arange(_INSTANTS) + 0.5) / _INSTANTS - 0.5)
        motion = self.motion.at(instants)
        for number, instant in enumerate(instants):
            yield motion, number, instant / fps

    def _drawing(self, motion: Motion, number: int, seconds: float) -> Drawing:
        R, t = motion.R[number].numpy(), motion.t[number].numpy()
        shoulders_cam = self.bust.vertices @ motion.body_R[number].numpy().T + motion.body_t[number].numpy()
        meshes = [self.model.vertices(motion.head_params(number)).numpy(), (shoulders_cam - t) @ R]
        passing = occluder_pose(self.spec, seconds)
        for part in self.parts:
            placed = part.vertices
            if part.moves == "alone":
                turn, shift = passing if passing is not None else (np.eye(3), _AWAY_M)
                placed = (part.vertices @ turn.T + shift - t) @ R
            meshes.append(placed)
        vertices = np.concatenate(meshes).astype(np.float32)
        return draw(self.surface, vertices, View(R, t, self.intrinsics, self.spec.size))

    def _instant(self, motion: Motion, number: int, seconds: float) -> np.ndarray:
        """The picture that falls on the sensor at one instant, (H, W, 3) float32."""
        drawing = self._drawing(motion, number, seconds)
        picture = render(drawing, self.atlas, motion.light_head(number).numpy()).over(self.background)
        self._glints(picture, drawing, motion, number)
        if self.glasses is not None:
            self.glasses.mirror(picture, drawing, motion.key_direction[number].numpy())
        return picture

    def _glints(self, picture: np.ndarray, drawing: Drawing, motion: Motion, number: int) -> None:
        """Adds the lamp's reflection on both corneas where the eyeball itself is seen, in place."""
        params = motion.head_params(number)
        joints = self.model.joints(params.shape).numpy()
        view, key = drawing.view, motion.key_direction[number].numpy()
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


def make_scene(spec: DemoSpec, model: HeadModel, motion: Motion, paint: Paint, photograph: np.ndarray) -> Scene:
    """Puts a scene together.

    Args:
        spec: what to show.
        model: the head.
        motion: from `make_motion`.
        paint: its colours.
        photograph: (H, W, 3) float32 in [0, 1]; blurred, it makes the background.
    """
    neutral = model.neutral()
    resting = type(neutral)(motion.shape.float(), neutral.expression, neutral.jaw, neutral.eyes, neutral.eyelids)
    resting_m = model.vertices(resting).numpy()
    bust = make_bust(model, resting_m, spec.seed, paint.cloth)
    glasses = make_glasses(model, resting) if spec.glasses else None
    parts = [glasses.frame] if glasses is not None else []
    if spec.fringe:
        parts.append(make_fringe(model, resting_m, paint.hair, spec.seed))
    if spec.occluder is not None:
        parts.append(make_occluder(spec.occluder, paint.skin, spec.seed))
    head = Surface.of(model)
    # What is deep inside the collar is left out, so that no turn of the head pushes it through the pullover.
    shown = resting_m[head.triangles, 1].max(1) > bust.collar_top_m - _NECK_IN_COLLAR_M
    head = Surface(head.triangles[shown], head.uv, head.uv_triangles[shown])
    background = _background(photograph, spec.size)
    surface = _joined_surface(model.vertex_count, head, [bust, *parts])
    strips = [bust.texture, *(part.texture for part in parts)]
    return Scene(spec, model, motion, surface, bust, _atlas(paint.head, strips), background, tuple(parts), glasses)


def _joined_surface(head_vertices: int, head: Surface, others: list[Bust | Part]) -> Surface:
    """One mesh over the atlas, in which each of the others has a strip of a quarter of the head's width."""
    share = 4 / (4 + len(others))
    strip = (1 - share) / len(others)
    triangles, uv, uv_triangles = [head.triangles], [head.uv * [share, 1]], [head.uv_triangles]
    vertices, corners = head_vertices, len(head.uv)
    for place, mesh in enumerate(others):
        triangles.append(mesh.triangles + vertices)
        uv.append(mesh.uv * [strip, 1] + [share + place * strip, 0])
        uv_triangles.append(mesh.triangles + corners)
        vertices, corners = vertices + len(mesh.vertices), corners + len(mesh.uv)
    return Surface(np.concatenate(triangles), np.concatenate(uv).astype(np.float32), np.concatenate(uv_triangles))


def _atlas(head: np.ndarray, strips: list[np.ndarray]) -> np.ndarray:
    size = head.shape[0]
    narrowed = [cv2.resize(strip, (size // 4, size), interpolation=cv2.INTER_CUBIC) for strip in strips]
    return rgba_texture(np.concatenate([head, *narrowed], 1))


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
    picture = picture * (spec.brightness * (1 - _VIGNETTE * radius[..., None])).astype(np.float32)
    # A seed a frame: pictures can be made in any order.
    noise = np.random.default_rng((spec.seed, frame)).standard_normal(picture.shape, dtype=np.float32)
    return np.clip(np.rint((picture + spec.noise * noise) * 255), 0, 255).astype(np.uint8)
