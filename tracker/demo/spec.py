"""What a demo clip shows. Every number of a clip follows from these fields and the head model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LightSpec:
    """Light of the scene, in camera axes.

    Attributes:
        ambient: brightness that comes from everywhere.
        key: strength of the main light.
        key_degrees: its direction from the camera: (to the picture's left, upwards).
        key_sweep_degrees: how far it wanders to either side during the clip.
        fill: strength of the light from the other side.
        flicker: relative slow change of the key light's strength.
    """

    ambient: float = 0.42
    key: float = 0.62
    key_degrees: tuple[float, float] = (38.0, 32.0)
    key_sweep_degrees: float = 16.0
    fill: float = 0.16
    flicker: float = 0.08


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

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.focal_factor * max(self.size)
