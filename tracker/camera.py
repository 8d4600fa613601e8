"""The pinhole camera and its two written forms (OpenCV, PyTorch3D).

Internal convention: OpenCV axes (x right, y down, z forward), `x_cam = R x_head + t`, continuous pixels: pixel i covers
[i, i + 1), its centre lies at i + 0.5, the image centre at W / 2. cv2 functions and FAN count centres at whole numbers;
`to_cv2_pixels` and `from_cv2_pixels` are the only places where that half pixel is added or taken away.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    # Landmarks are found before torch is there, which takes a second to import.
    from torch import Tensor

# Axis flip between OpenCV (x right, y down) and PyTorch3D (x left, y up), both z forward.
_FLIP_XY = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics with square pixels.

    Attributes:
        focal_px: focal length in pixels of the picture it belongs to.
        cx_px: principal point from the left edge, pixels (W / 2 is the centre).
        cy_px: principal point from the top edge, pixels.
    """

    focal_px: float
    cx_px: float
    cy_px: float

    def matrix(self) -> np.ndarray:
        """The 3 x 3 calibration matrix K, float64."""
        return np.array([[self.focal_px, 0, self.cx_px], [0, self.focal_px, self.cy_px], [0, 0, 1]], np.float64)

    def scaled(self, factor: float) -> "Intrinsics":
        """Intrinsics of the same view after the picture is resized by `factor` (edges aligned)."""
        return Intrinsics(self.focal_px * factor, self.cx_px * factor, self.cy_px * factor)


@dataclass(frozen=True)
class Rigid:
    """Rigid motion head space to camera space, `x_cam = R x_head + t`.

    Attributes:
        R: (3, 3) rotation.
        t: (3,) metres.
    """

    R: "Tensor"
    t: "Tensor"

    def apply(self, points_head_m: "Tensor") -> "Tensor":
        """Maps (N, 3) head-space points to camera space."""
        return points_head_m @ self.R.T + self.t


def project(
    points_cam_m: "Tensor", focal_px: "Tensor | float", cx_px: "Tensor | float", cy_px: "Tensor | float"
) -> "Tensor":
    """Perspective projection.

    Args:
        points_cam_m: (..., 3) metres, camera frame, z > 0.
        focal_px: focal length, pixels.
        cx_px: principal point x, pixels.
        cy_px: principal point y, pixels.

    Returns:
        (..., 2) continuous pixels.
    """
    import torch

    x, y, z = points_cam_m.unbind(-1)
    return torch.stack([focal_px * x / z + cx_px, focal_px * y / z + cy_px], -1)


def projection_jacobian(points_cam_m: "Tensor", focal_px: "Tensor | float") -> "Tensor":
    """Derivative of `project` with respect to the camera-space point.

    Args:
        points_cam_m: (N, 3) metres, camera frame.
        focal_px: focal length, pixels.

    Returns:
        (N, 2, 3) pixels per metre.
    """
    import torch

    x, y, z = points_cam_m.unbind(-1)
    fz = focal_px / z
    zero = torch.zeros_like(fz)
    return torch.stack([fz, zero, -fz * x / z, zero, fz, -fz * y / z], -1).reshape(-1, 2, 3)


def to_cv2_pixels(points_px: np.ndarray) -> np.ndarray:
    """Continuous pixels to cv2's count, where the centre of the first pixel is 0."""
    return points_px - 0.5


def from_cv2_pixels(points_px: np.ndarray) -> np.ndarray:
    """cv2's count (also FAN's) to continuous pixels."""
    return points_px + 0.5


@dataclass(frozen=True)
class Pytorch3dCamera:
    """The `camera` block of a `.frame` file: row vectors `X_view = X R + t`, NDC units of min(H, W) / 2.

    Attributes:
        R: (3, 3) float64.
        t: (3,) float64, metres.
        fl: focal length, NDC.
        pp: (2,) principal point, NDC, +x left, +y up.
    """

    R: np.ndarray
    t: np.ndarray
    fl: float
    pp: np.ndarray


def to_pytorch3d(R: np.ndarray, t: np.ndarray, intrinsics: Intrinsics, size: tuple[int, int]) -> Pytorch3dCamera:
    """OpenCV camera to the PyTorch3D convention (shared formulas: docs/conventions.md).

    Args:
        R: (3, 3) OpenCV rotation.
        t: (3,) metres.
        intrinsics: pixels of the picture of `size`.
        size: (height, width).

    Returns:
        The same camera in PyTorch3D's convention.
    """
    h, w = size
    s = min(h, w) / 2
    pp = np.array([(w / 2 - intrinsics.cx_px) / s, (h / 2 - intrinsics.cy_px) / s])
    return Pytorch3dCamera((_FLIP_XY @ R).T, _FLIP_XY @ t, intrinsics.focal_px / s, pp)


def from_pytorch3d(camera: Pytorch3dCamera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    """Inverse of `to_pytorch3d`: (R (3, 3), t (3,), intrinsics)."""
    h, w = size
    s = min(h, w) / 2
    intrinsics = Intrinsics(camera.fl * s, w / 2 - s * float(camera.pp[0]), h / 2 - s * float(camera.pp[1]))
    return _FLIP_XY @ camera.R.T, _FLIP_XY @ camera.t, intrinsics
