"""Guide surface of cranium and neck: horizontal sections from anthropometric tables (millimetres).

The guide only attracts the fairing (fair.py); the surface that is built joins the face smoothly and follows the guide
away from it. Sizes: head length 190, breadth 152, chin to vertex 225 mm (ANSUR, Farkas), neck about 380 mm around.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

VERTEX_Y_MM = 138.0
NECK_BOTTOM_Y_MM = -185.0
_CAP_Y_MM = 60.0  # level of the greatest breadth; above it the sections shrink as a superellipse
_CAP_POWER = 2.25
_FOREHEAD_POWER = 1.9  # the forehead recedes sooner than the sides and the back

# y, front z, back z, half breadth. Below the chin the front is the throat.
_SECTIONS = np.array(
    [
        (60.0, 52.0, -137.0, 76.0),
        (40.0, 54.0, -138.5, 75.5),
        (20.0, 56.0, -134.0, 73.0),
        (0.0, 56.0, -125.0, 69.0),
        (-20.0, 54.0, -112.0, 65.0),
        (-40.0, 50.0, -102.0, 60.5),
        (-60.0, 46.0, -97.5, 56.0),
        (-75.0, 42.0, -97.0, 52.0),
        (-88.0, 33.0, -97.5, 50.0),
        (-96.0, 18.0, -98.5, 49.5),
        (-104.0, 7.0, -100.0, 50.0),
        (-120.0, 1.0, -102.0, 51.5),
        (-150.0, -3.0, -106.0, 56.0),
        (-170.0, -6.0, -110.0, 61.0),
        (-185.0, -8.0, -114.0, 65.0),
    ]
)[::-1]


@dataclass(frozen=True)
class Section:
    """Horizontal sections at many heights; each array has one value a height.

    Attributes:
        front: z of the front, mm.
        back: z of the back, mm.
        half_breadth: greatest |x|, mm.
    """

    front: np.ndarray
    back: np.ndarray
    half_breadth: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Z of the middle, mm."""
        return (self.front + self.back) / 2

    @property
    def half_depth(self) -> np.ndarray:
        """Half of the front-to-back extent, mm."""
        return (self.front - self.back) / 2


def section(y: np.ndarray) -> Section:
    """Sections at heights y (mm)."""
    y = np.asarray(y, float)
    front, back, half = PchipInterpolator(_SECTIONS[:, 0], _SECTIONS[:, 1:])(np.minimum(y, _CAP_Y_MM)).T
    rise = np.clip((y - _CAP_Y_MM) / (VERTEX_Y_MM - _CAP_Y_MM), 0, 1)
    scale, front_scale = ((1 - rise**power) ** (1 / power) for power in (_CAP_POWER, _FOREHEAD_POWER))
    pole_z = -45.0
    return Section(pole_z + (front - pole_z) * front_scale, pole_z + (back - pole_z) * scale, half * scale)


def surface(azimuth: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Guide points (N, 3) at azimuth (0 front, pi/2 the subject's left, pi back) and height."""
    at = section(y)
    return np.stack([at.half_breadth * np.sin(azimuth), y, at.centre + at.half_depth * np.cos(azimuth)], 1)


def azimuth_of(points: np.ndarray) -> np.ndarray:
    """Azimuth of points on or near the guide, radians."""
    at = section(points[:, 1])
    half_breadth, half_depth = np.maximum(at.half_breadth, 1e-6), np.maximum(at.half_depth, 1e-6)
    return np.arctan2(points[:, 0] / half_breadth, (points[:, 2] - at.centre) / half_depth)


def mercator(y: np.ndarray) -> np.ndarray:
    """Conformal height of the guide: arc length over radius, integrated down from the vertex (grows downwards)."""
    # Fine steps near the pole, where the radius vanishes.
    t = np.linspace(0, 1, 4001)[1:] ** 2
    heights = VERTEX_Y_MM - (VERTEX_Y_MM - NECK_BOTTOM_Y_MM) * t
    at = section(heights)
    radius = np.maximum((at.half_breadth + at.half_depth) / 2, 0.5)
    arc = np.hypot(np.diff(radius), np.diff(heights))
    conformal = np.concatenate([[0], np.cumsum(arc / ((radius[1:] + radius[:-1]) / 2))])
    return np.interp(-np.asarray(y), -heights, conformal)
