"""A rendered clip with known truth and landmarks that err by a known amount: no video file, no detector."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from demo_subject import true_state
from scipy.spatial.transform import Rotation

from tracker.camera import Intrinsics
from tracker.clip import FrameInput, held_unknowns
from tracker.demo.motion import make_motion
from tracker.demo.score import face_vertices, rigidly_aligned
from tracker.demo.spec import DemoSpec
from tracker.demo.truth import Truth, truth_of
from tracker.head.generic import load_generic
from tracker.head.model import HeadModel
from tracker.joint_problem import CalibrationTask, CameraPrior
from tracker.landmark_set import landmark_set
from tracker.render import Surface, View, draw, render, rgba_texture
from tracker.rotations import rotation_angle
from tracker.settings import CalibrationSettings, EnergySettings, TrackingSettings
from tracker.shading import rotate_sh
from tracker.state import FrameState
from tracker.texels import Texels

SPEC = DemoSpec(frame_count=100, size=(256, 256), focal_factor=1.6, distance_m=0.5, yaw_degrees=25)
LANDMARK_NOISE_PX = 0.3
_TEXTURE = 512


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """A clip.

    Attributes:
        model: the head, without any measured landmark bias.
        truth: its parameters.
        texture: (T, T, 3) albedo.
        texels: of the texture.
    """

    model: HeadModel
    truth: Truth
    texture: np.ndarray
    texels: Texels

    @property
    def camera(self) -> Intrinsics:
        """The true camera."""
        return self.truth.intrinsics

    def state(self, frame: int) -> FrameState:
        """The true state of a frame."""
        return true_state(self.truth, frame, self.model)

    def landmarks_px(self, frame: int) -> np.ndarray:
        """(478, 2) true landmarks with noise that repeats."""
        noise = np.random.default_rng(frame).standard_normal((478, 2))
        return self.truth.landmarks478_px(self.model, frame) + LANDMARK_NOISE_PX * noise

    def picture(self, frame: int, state: FrameState | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the head in its light before a grey wall, with sensor noise."""
        state = self.state(frame) if state is None else state
        shape = torch.from_numpy(self.truth.shape).double()
        vertices = self.model.vertices(state.head_params(shape)).float().numpy()
        view = View(state.R.numpy(), state.t.numpy(), self.camera, SPEC.size)
        drawing = draw(Surface.of(self.model), vertices, view)
        light_head = rotate_sh(state.light, state.R.T)
        layer = render(drawing, rgba_texture(self.texture), light_head.numpy())
        wall = np.full((*SPEC.size, 3), 0.35, np.float32)
        noise = 0.006 * np.random.default_rng(1000 + frame).standard_normal(wall.shape)
        return ((layer.over(wall) + noise).clip(0, 1) * 255).round().astype(np.uint8)

    def frame(self, frame: int) -> FrameInput:
        """Picture and landmarks."""
        return FrameInput(self.picture(frame), self.landmarks_px(frame), None)

    def misled(self, frame: int, degrees: float) -> FrameInput:
        """The picture, with landmarks of a head that is turned further to the side."""
        R = self.truth.R.copy()
        R[frame] = Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ R[frame]
        return replace(self.frame(frame), dense_px=replace(self.truth, R=R).landmarks478_px(self.model, frame))

    def shape_error_mm(self, shape: torch.Tensor) -> float:
        """Median distance of the face's vertices to the true ones after the best rotation, shift and scale."""
        face = face_vertices(self.model)
        found = self.model.rest_vertices(shape.float())[face].double().numpy()
        true = self.model.rest_vertices(torch.from_numpy(self.truth.shape).float())[face].double().numpy()
        size = [np.linalg.norm(points - points.mean(0)) for points in (found, true)]
        aligned = rigidly_aligned(found * size[1] / size[0], true)
        return 1000 * float(np.median(np.linalg.norm(aligned - true, axis=1)))


def rendered_clip() -> RenderedClip:
    """The clip of this module's numbers."""
    model = load_generic().without_landmark_bias()
    texels = Texels.of(model, _TEXTURE)
    truth = truth_of(SPEC, make_motion(SPEC, model), model.name, "")
    return RenderedClip(model, truth, texels.picture(skin_pattern(model, texels)), texels)


def skin_pattern(model: HeadModel, texels: Texels) -> np.ndarray:
    """(P, 3) albedo of each texel: skin-coloured blotches of 2 cm down to 5 mm, smooth enough to be sampled."""
    points = texels.interpolate_vertices(model.template.numpy())
    generator = np.random.default_rng(5)
    value = np.zeros(len(points))
    for wavelength_m, strength in ((0.02, 0.08), (0.011, 0.06), (0.006, 0.04)):
        for _ in range(5):
            direction = generator.standard_normal(3)
            direction *= 2 * np.pi / wavelength_m / np.linalg.norm(direction)
            value += strength / 2 * np.sin(points @ direction + generator.uniform(0, 6.3))
    return (np.array([0.62, 0.46, 0.38]) * (1 + value[:, None])).clip(0.05, 0.95).astype(np.float32)


def calibration_task(clip: RenderedClip, frames: list[int], **changes: object) -> CalibrationTask:
    """A task over some frames; landmarks and pictures as a detector and a camera would give them."""
    true = clip.camera
    task = CalibrationTask(
        model=clip.model,
        landmarks=landmark_set(clip.model, with_sparse=False),
        frames=tuple(clip.frame(frame) for frame in frames),
        camera=CameraPrior(1.1 * true.focal_px, 0.25, (true.cx_px, true.cy_px), 1.0),
        shape=None,
        optimize_shape=True,
        held=held_unknowns(clip.model, optimize_jaw=True),
        energy=EnergySettings(),
        settings=CalibrationSettings(offset_std_mm=0.5, rounds=2, joint_steps=3),
        tracking=TrackingSettings(samples=600, levels=2),
    )
    return replace(task, **changes)


def rotation_degrees(found: torch.Tensor, true: torch.Tensor) -> float:
    """Angle between two rotations."""
    return float(torch.rad2deg(rotation_angle(found @ true.T)))
