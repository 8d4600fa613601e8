"""What a demo clip shows. Every number of a clip follows from these fields and the head model."""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True)
class LightSpec:
    """Light of the scene, in camera axes.

    Attributes:
        ambient: brightness that comes from everywhere.
        key: strength of the main light.
        key_degrees: its direction from the camera: (to the picture's left, upwards).
        key_sweep_degrees: how far it wanders to either side during the clip.
        sweep_seconds: time of one wandering to and fro.
        fill: strength of the light from the other side.
        flicker: relative slow change of the key light's strength.
        flicker_seconds: over which it changes.
    """

    ambient: float = 0.42
    key: float = 0.62
    key_degrees: tuple[float, float] = (38.0, 32.0)
    key_sweep_degrees: float = 16.0
    sweep_seconds: float = 5.0
    fill: float = 0.16
    flicker: float = 0.08
    flicker_seconds: float = 2.0


@dataclass(frozen=True)
class OccluderSpec:
    """Something that passes between the camera and the face.

    Attributes:
        kind: a hand with its forearm, or a printed board.
        start_seconds: when it begins to come in.
        seconds: from there until it is gone; it is before the face for about the middle half.
    """

    kind: Literal["hand", "board"] = "hand"
    start_seconds: float = 1.0
    seconds: float = 1.8


@dataclass(frozen=True)
class AbsenceSpec:
    """The subject leaves the picture to the side and comes back.

    Attributes:
        start_seconds: when it begins to leave.
        slide_seconds: how long leaving takes, and coming back.
        seconds: how long it stays away, wholly outside the picture.
    """

    start_seconds: float = 1.2
    slide_seconds: float = 0.6
    seconds: float = 0.6


@dataclass(frozen=True)
class DemoSpec:
    """A clip.

    Attributes:
        seed: of identity, motion, texture noise and sensor noise.
        frame_count: length, frames.
        fps: frames a second, Hz.
        size: (height, width) of the video, pixels, even.
        focal_factor: focal length over the longer side.
        distance_m: mean distance of the head from the camera.
        yaw_degrees: amplitude of the head's turning.
        pitch_degrees: amplitude of its nodding.
        roll_degrees: amplitude of its tilting.
        travel_m: amplitude of its sideways, vertical and depth motion.
        identity_std: size of the identity coefficients, standard deviations.
        expression: strength of the expressions, 0 for a still face.
        gaze_degrees: how far the eyes look to the sides.
        blink_seconds: mean time between blinks; 0 for none.
        light: see `LightSpec`.
        blur_px: sigma of the lens blur, pixels.
        noise: standard deviation of the sensor noise, in [0, 1] units of brightness.
        texture_size: texels a side of the head's texture.
        body_share: share of the head's rotation that the shoulders follow.
        pace: how many times faster than usual the head turns and travels.
        exposure: share of the time between frames during which the shutter is open, 0 for none; the truth of a frame is
            that of the middle of its exposure.
        brightness: factor on what reaches the sensor, before its noise.
        crf: H.264 constant rate factor of video.mp4; 12 is nearly lossless.
        own_look: skin, hair, brows, eyes and marks of the skin drawn by the seed; False keeps the portrait's.
        glasses: dark frames with lenses that reflect a little.
        fringe: strands of hair over the forehead.
        occluder: what passes before the face, or None.
        absence: when the subject leaves the picture, or None.
    """

    seed: int = 7
    frame_count: int = 100
    fps: float = 25.0
    size: tuple[int, int] = (720, 720)
    focal_factor: float = 1.4
    distance_m: float = 0.6
    yaw_degrees: float = 25.0
    pitch_degrees: float = 9.0
    roll_degrees: float = 7.0
    travel_m: float = 0.02
    identity_std: float = 1.0
    expression: float = 1.0
    gaze_degrees: float = 14.0
    blink_seconds: float = 1.3
    light: LightSpec = field(default_factory=LightSpec)
    blur_px: float = 0.55
    noise: float = 0.005
    texture_size: int = 2048
    body_share: float = 0.2
    pace: float = 1.0
    exposure: float = 0.0
    brightness: float = 1.0
    # Nearly lossless, so that compression is not what a track is measured against.
    crf: int = 12
    own_look: bool = False
    glasses: bool = False
    fringe: bool = False
    occluder: OccluderSpec | None = None
    absence: AbsenceSpec | None = None

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.focal_factor * max(self.size)

    def to_json(self) -> str:
        """All fields as one line of JSON; equal for equal specs."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "DemoSpec":
        """The spec that `to_json` wrote."""
        data = json.loads(text)
        data["size"] = tuple(data["size"])
        light = data["light"]
        data["light"] = LightSpec(**{**light, "key_degrees": tuple(light["key_degrees"])})
        data["occluder"] = OccluderSpec(**data["occluder"]) if data["occluder"] else None
        data["absence"] = AbsenceSpec(**data["absence"]) if data["absence"] else None
        return DemoSpec(**data)
