"""How the demo head moves: smooth pose, speech-like mouth, brows, blinks, gaze shifts with lids that follow, light."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline
from torch import Tensor

from tracker.demo.spec import DemoSpec
from tracker.head.arkit import arkit_name
from tracker.head.jaw import opening_radians, turns_jaw
from tracker.head.model import ROOT, HeadModel, HeadParams
from tracker.rotations import exp_so3
from tracker.shading import SH_CONSTANTS, rotate_sh, sh_basis
from tracker.state import eye_rotations

# Head axes (y up, z out of the face) seen by a camera straight ahead (y down, z forward).
FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
# The clip starts almost frontal and at rest, as people do when a recording starts.
_START_SECONDS = 0.5
_BLINK = (0.3, 0.85, 1.0, 0.9, 0.55, 0.2)
_JAW_OPEN_RADIANS = math.radians(8.5)
# Newton's method on the size: it is nearly linear in the coefficients, the second step is exact to micrometres.
_SIZE_STEPS = 4
# How far the upper lid comes down when the eye looks down by a radian, in closures.
_LID_FOLLOWS = 1.1
# Lambertian transfer of the bands inside SH_CONSTANTS (band 0 is kept without it).
_TRANSFER = np.array([1.0] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5)

# Frames to either side that a spline between two frames is laid through.
_SPLINE_REACH = 3
# Who leaves the picture is gone when this much of the shoulders' half breadth is beyond the edge.
_GONE_M = 0.24

# Named expression units and how strongly each takes part: (speech, slow mood).
_SPEECH_UNITS = {
    "mouthFunnel": 0.5,
    "mouthPucker": 0.5,
    "mouthStretchLeft": 0.35,
    "mouthStretchRight": 0.35,
    "mouthLowerDownLeft": 0.45,
    "mouthLowerDownRight": 0.45,
    "mouthUpperUpLeft": 0.35,
    "mouthUpperUpRight": 0.35,
}
_MOOD_UNITS = {
    "mouthSmileLeft": 0.8,
    "mouthSmileRight": 0.8,
    "browInnerUp": 0.8,
    "browOuterUpLeft": 0.7,
    "browOuterUpRight": 0.7,
    "browDownLeft": 0.5,
    "browDownRight": 0.5,
    "cheekSquintLeft": 0.5,
    "cheekSquintRight": 0.5,
}
# Modes moved where the model's units have no such names (a PCA space), in standard deviations.
_PCA_MODES, _PCA_STRENGTH = 10, 0.9


@dataclass(frozen=True, eq=False)
class Motion:
    """Parameters of every frame, float64.

    Attributes:
        R: (N, 3, 3) head to camera.
        t: (N, 3) metres.
        body_R: (N, 3, 3) shoulders to camera; shoulders live in the head space of the resting head.
        body_t: (N, 3).
        shape: (S,).
        expression: (N, E).
        jaw: (N, 3, 3).
        eyes: (N, 2, 2) yaw and pitch, radians.
        eyelids: (N, 2).
        light: (N, 9, 3) in camera axes.
        key_direction: (N, 3) unit vector towards the main light, camera axes.
    """

    R: Tensor
    t: Tensor
    body_R: Tensor
    body_t: Tensor
    shape: Tensor
    expression: Tensor
    jaw: Tensor
    eyes: Tensor
    eyelids: Tensor
    light: Tensor
    key_direction: Tensor

    def head_params(self, frame: int) -> HeadParams:
        """Head parameters of a frame, float32."""
        return HeadParams(
            self.shape.float(),
            self.expression[frame].float(),
            self.jaw[frame].float(),
            eye_rotations(self.eyes[frame]).float(),
            self.eyelids[frame].float(),
        )

    def light_head(self, frame: int) -> Tensor:
        """(9, 3) light in head space, as a `.frame` file holds it."""
        return rotate_sh(self.light[frame], self.R[frame].T)

    def at(self, frames: np.ndarray) -> "Motion":
        """The parameters at (M,) instants between frames, counted in frames and held to the clip.

        Poses run along splines, all else changes evenly from frame to frame.
        """
        count = len(self.R)
        frames = np.clip(frames, 0, count - 1)
        low = max(int(frames.min()) - _SPLINE_REACH, 0)
        near = np.arange(low, min(int(np.ceil(frames.max())) + _SPLINE_REACH + 1, count))
        if len(near) < 2:
            return self
        first = np.clip(np.floor(frames).astype(int), 0, count - 2)
        share = torch.from_numpy(frames - first)

        def turned(R: Tensor) -> Tensor:
            spline = RotationSpline(near, Rotation.from_matrix(R[near].numpy()))
            return torch.from_numpy(spline(frames).as_matrix())

        def moved(x: Tensor) -> Tensor:
            return torch.from_numpy(CubicSpline(near, x[near].numpy())(frames))

        def evenly(x: Tensor) -> Tensor:
            weight = share.reshape(-1, *[1] * (x.ndim - 1))
            return (1 - weight) * x[first] + weight * x[first + 1]

        return Motion(
            R=turned(self.R),
            t=moved(self.t),
            body_R=turned(self.body_R),
            body_t=moved(self.body_t),
            shape=self.shape,
            expression=evenly(self.expression),
            jaw=turned(self.jaw),
            eyes=evenly(self.eyes),
            eyelids=evenly(self.eyelids),
            light=evenly(self.light),
            key_direction=evenly(self.key_direction),
        )


def make_motion(spec: DemoSpec, model: HeadModel) -> Motion:
    """The whole clip's parameters.

    Args:
        spec: what to show.
        model: the head.

    Returns:
        Its motion; equal for equal arguments.
    """
    rng = np.random.default_rng(spec.seed)
    seconds = np.arange(spec.frame_count) / spec.fps
    onset = np.clip(seconds / _START_SECONDS, 0, 1) ** 2 * (3 - 2 * np.clip(seconds / _START_SECONDS, 0, 1))
    shape = _at_mean_size(model, spec.identity_std * rng.standard_normal(model.shape_count).clip(-2, 2))
    angles = _head_angles(spec, seconds, rng) * onset[:, None]
    pivot = model.joints(torch.from_numpy(shape).float())[ROOT].double()
    centre = FRONTAL @ pivot + torch.from_numpy(_travel(spec, seconds, rng) * onset[:, None])
    centre = centre + torch.tensor([0, _centring(model), spec.distance_m])
    centre = centre + torch.from_numpy(_absence(spec, seconds))
    R = FRONTAL @ _turn(angles)
    body_R = FRONTAL @ _turn(angles * spec.body_share)
    eyes, lids_follow = _gaze(spec, seconds, angles, rng)
    lids = np.clip(_blinks(spec, rng)[:, None] + lids_follow, 0, 1)
    expression, jaw = _expression(spec, model, seconds, rng)
    light, key = _light(spec, seconds, rng)
    return Motion(
        R=R,
        t=centre - R @ pivot,
        body_R=body_R,
        body_t=centre - body_R @ pivot,
        shape=torch.from_numpy(shape),
        expression=torch.from_numpy(expression * onset[:, None]),
        jaw=exp_so3(torch.from_numpy(np.stack([jaw * onset, 0 * jaw, 0 * jaw], 1))),
        eyes=torch.from_numpy(eyes * onset[:, None, None]),
        eyelids=torch.from_numpy(lids).expand(-1, 2).contiguous(),
        light=light,
        key_direction=torch.from_numpy(key),
    )


def _at_mean_size(model: HeadModel, shape: np.ndarray) -> np.ndarray:
    """The identity nearest to `shape` (in standard deviations) whose face is as large as the mean head's.

    A single camera cannot tell a large head from a near one. A track of a clip without scale in it can only be right
    about size by its prior, so the truth has the prior's size and errors are of form, depth and focal length.
    """
    region = model.regions.get("face", torch.arange(model.vertex_count))
    face = model.template[region].double().numpy()
    basis = model.shape_basis[region].double().numpy()
    basis = basis - basis.mean(0)
    target = np.linalg.norm(face - face.mean(0))
    for _ in range(_SIZE_STEPS):
        arms = face - face.mean(0) + basis @ shape
        size = np.linalg.norm(arms)
        slope = np.einsum("vk,vks->s", arms, basis) / size
        shape = shape + slope * (target - size) / max(float(slope @ slope), 1e-12)
    return shape


def smooth_noise(rng: np.random.Generator, count: int, fps: float, period_s: float) -> np.ndarray:
    """(count,) smooth random signal of about unit amplitude that changes over `period_s`."""
    sigma = max(period_s * fps / 4, 0.5)
    pad = int(4 * sigma)
    signal = ndimage.gaussian_filter1d(rng.standard_normal(count + 2 * pad), sigma)[pad : pad + count]
    # The filter's own gain, not this stretch's spread: a short clip must not be stretched to full amplitude.
    return signal * math.sqrt(2 * math.sqrt(math.pi) * sigma)


def _head_angles(spec: DemoSpec, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) yaw, pitch, roll in radians; a slow swing that reaches the amplitudes, and small movements on it."""
    columns: list[np.ndarray] = []
    for amplitude, usual in ((spec.yaw_degrees, 3.3), (spec.pitch_degrees, 2.3), (spec.roll_degrees, 2.9)):
        period = usual / spec.pace
        swing = (
            np.sin(2 * np.pi * seconds / period)
            if not columns
            else np.sin(2 * np.pi * (seconds / period + rng.random()))
        )
        small = smooth_noise(rng, len(seconds), spec.fps, 0.7 / spec.pace)
        columns.append(math.radians(amplitude) * np.clip(0.94 * swing + 0.06 * small, -1, 1))
    return np.stack(columns, 1)


def _turn(angles: np.ndarray) -> Tensor:
    """(N, 3) yaw, pitch, roll to (N, 3, 3) in head axes."""
    yaw, pitch, roll = torch.from_numpy(angles).unbind(1)
    zero = torch.zeros_like(yaw)
    turn_yaw = exp_so3(torch.stack([zero, yaw, zero], 1))
    turn_pitch = exp_so3(torch.stack([pitch, zero, zero], 1))
    return turn_yaw @ turn_pitch @ exp_so3(torch.stack([zero, zero, roll], 1))


def _travel(spec: DemoSpec, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    signals = [smooth_noise(rng, len(seconds), spec.fps, 1.6 / spec.pace) for _ in range(3)]
    return spec.travel_m * np.stack(signals, 1).clip(-2, 2) * [1.0, 0.6, 1.2]


def _absence(spec: DemoSpec, seconds: np.ndarray) -> np.ndarray:
    """(N, 3) shift of who leaves the picture to the right and comes back, camera axes, metres."""
    shift = np.zeros((len(seconds), 3))
    if spec.absence is not None:
        away = spec.absence
        out = (seconds - away.start_seconds) / away.slide_seconds
        back = (seconds - away.start_seconds - away.slide_seconds - away.seconds) / away.slide_seconds
        share = _eased(out) - _eased(back)
        width = spec.size[1]
        shift[:, 0] = share * (width / 2 / spec.focal_px * spec.distance_m + _GONE_M)
    return shift


def _eased(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 while x does, at rest at both ends."""
    clipped = np.clip(x, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def _centring(model: HeadModel) -> float:
    """Shift of the head, in camera axes (down), that brings the face a little above the picture's middle."""
    eyes = model.joints(model.neutral().shape)[3:, 1].mean()
    return float(eyes) - 0.035


def _gaze(
    spec: DemoSpec, seconds: np.ndarray, angles: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Eye angles (N, 2, 2) and lid closure that follows (N, 1): fixations, quick shifts, held on a target."""
    count = len(seconds)
    target = np.zeros((count, 2))
    limit = np.deg2rad([spec.gaze_degrees, 0.55 * spec.gaze_degrees])
    start = 0
    while start < count:
        target[start:] = rng.uniform(-1, 1, 2) * limit
        start += max(2, int(spec.fps * rng.uniform(0.35, 0.9)))
    shifts = ndimage.gaussian_filter1d(target, 0.8, axis=0, mode="nearest")
    # The eyes make up for part of the head's turning, as they do when someone looks at the camera.
    held = shifts - 0.45 * angles[:, :2]
    bounded = np.clip(held, -1.5 * limit, 1.5 * limit)
    # Positive pitch looks down; lids close with it and open hardly beyond rest.
    follow = np.clip(_LID_FOLLOWS * bounded[:, 1:], 0, 0.4)
    return np.repeat(bounded[:, None], 2, 1), follow


def _blinks(spec: DemoSpec, rng: np.random.Generator) -> np.ndarray:
    """(N,) closure of both lids by blinks."""
    closure = np.zeros(spec.frame_count)
    if spec.blink_seconds <= 0:
        return closure
    frame = int(spec.fps * 0.6)
    while frame < spec.frame_count:
        for offset, value in enumerate(_BLINK[: spec.frame_count - frame]):
            closure[frame + offset] = value
        frame += len(_BLINK) + int(spec.fps * spec.blink_seconds * rng.uniform(0.6, 1.4))
    return closure


def _expression(
    spec: DemoSpec, model: HeadModel, seconds: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Expression coefficients (N, E) and jaw angles (N,)."""
    count, fps = len(seconds), spec.fps
    talking = np.clip(0.75 + 0.5 * smooth_noise(rng, count, fps, 1.5), 0, 1)
    syllables = np.clip(0.45 + 0.55 * smooth_noise(rng, count, fps, 0.28), 0, 1.2)
    jaw = spec.expression * _JAW_OPEN_RADIANS * talking * syllables
    expression = np.zeros((count, model.expression_count))
    names: dict[str, list[int]] = {}
    for number, name in enumerate(model.expression_names):
        names.setdefault(arkit_name(name), []).append(number)
    if not names.keys() & (_SPEECH_UNITS.keys() | _MOOD_UNITS.keys()):
        for mode in range(min(_PCA_MODES, model.expression_count)):
            scale = _PCA_STRENGTH * float(model.expression_std[mode])
            expression[:, mode] = spec.expression * scale * smooth_noise(rng, count, fps, 0.6)
        return expression, jaw
    for units, period, gate in ((_SPEECH_UNITS, 0.32, talking), (_MOOD_UNITS, 1.4, np.ones(count))):
        signals: dict[str, np.ndarray] = {}
        for name, strength in units.items():
            # Left and right move together, up to a little asymmetry.
            pair = name.removesuffix("Left").removesuffix("Right")
            if pair not in signals:
                signals[pair] = smooth_noise(rng, count, fps, period)
            own = signals[pair] + 0.15 * smooth_noise(rng, count, fps, period)
            if name in names:
                share = spec.expression * strength * gate * np.clip(0.15 + 0.75 * own, 0, 1)
                expression[:, names[name]] = share[:, None]
    full = None if turns_jaw(model) else opening_radians(model)
    if full is not None:
        # The jaw's joint moves nothing: the mouth opens by its shape.
        expression[:, model.expression_names.index("jawOpen")] += jaw / full
    bounds = model.expression_bounds.double().numpy()
    return np.clip(expression, bounds[:, 0], bounds[:, 1]), jaw


def directional_light(direction: np.ndarray, strength: np.ndarray | float) -> Tensor:
    """Nine coefficients of a distant light: (3,) unit vector towards it, to (9, 1).

    Source: Ramamoorthi and Hanrahan 2001, eq. 8 and 12, with the peers' constants (band 0 lacks its transfer pi).
    """
    basis = sh_basis(torch.from_numpy(np.asarray(direction, np.float64))).numpy() / _TRANSFER
    basis[0] = math.pi * SH_CONSTANTS[0]
    return torch.from_numpy(strength * basis)[:, None]


def _light(spec: DemoSpec, seconds: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Light of every frame (N, 9, 3) in camera axes, and the direction of the key light (N, 3)."""
    lamp = spec.light
    sweep = np.sin(2 * np.pi * (seconds / lamp.sweep_seconds + rng.random()))
    strength = lamp.key * (1 + lamp.flicker * smooth_noise(rng, len(seconds), spec.fps, lamp.flicker_seconds))
    warm, cool = torch.tensor([[1.04, 1.0, 0.94]]).double(), torch.tensor([[0.93, 0.99, 1.07]]).double()
    frames, directions = [], []
    for offset, power in zip(sweep, strength, strict=True):
        key = _towards(lamp.key_degrees[0] + lamp.key_sweep_degrees * offset, lamp.key_degrees[1])
        fill = _towards(-55.0, 5.0)
        light = directional_light(key, power) * warm + directional_light(fill, lamp.fill) * cool
        light[0] += lamp.ambient / SH_CONSTANTS[0]
        frames.append(light)
        directions.append(key)
    return torch.stack(frames), np.stack(directions)


def _towards(left_degrees: float, up_degrees: float) -> np.ndarray:
    """Unit vector from the head towards a light, camera axes (x right, y down, z away from the camera)."""
    left, up = math.radians(left_degrees), math.radians(up_degrees)
    return np.array([-math.sin(left) * math.cos(up), -math.sin(up), -math.cos(left) * math.cos(up)])
