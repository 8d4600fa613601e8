"""Calibration files: the camera matrix of a known camera, for the clip's picture size.

Read are OpenCV's FileStorage (.yml .yaml .xml .json, as its calibration sample writes them), plain JSON and .npz with
the same names or `K`. The matrix counts pixels as OpenCV does: the centre of the first one is 0.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from loguru import logger

from tracker.camera import Intrinsics, from_cv2_pixels
from tracker.errors import InputError
from tracker.npz import DAMAGE, arrays_of, one_line

_MATRIX = ("camera_matrix", "Camera_Matrix", "K")
_DISTORTION = ("distortion_coefficients", "Distortion_Coefficients", "dist_coeffs", "D")
_WIDTH = ("image_width", "image_Width", "width")
_HEIGHT = ("image_height", "image_Height", "height")
_FISHEYE = ("fisheye_model",)
_STORAGE_SUFFIXES = (".yml", ".yaml", ".xml")
# cv2.projectPoints takes these numbers of coefficients.
_COEFFICIENT_COUNTS = (4, 5, 8, 12, 14)
# Pixels are square in this project. Calibrations of cameras with square pixels give fx and fy within some tenths of a
# per cent of each other.
_SQUARE = 0.01
# A principal point farther from the centre than this share of the longer side speaks of another picture size.
_OFF_CENTRE = 0.15
# Below this the lens bends less than the landmarks err.
_HARMLESS_PX = 0.5
_INSTEAD = "give focal_length instead, or calibrate anew"


@dataclass(frozen=True, eq=False)
class CameraFile:
    """What a calibration file says.

    Attributes:
        K: (3, 3) float64, pixels as OpenCV counts them.
        size: (height, width) of the pictures it was made with, or None where the file does not say.
        distortion: (D,) float64 OpenCV coefficients; empty where there are none.
    """

    K: np.ndarray
    size: tuple[int, int] | None
    distortion: np.ndarray


def known_camera(path: Path, size: tuple[int, int], warn: bool = True) -> Intrinsics:
    """The camera of a calibration file, for pictures of another size of the same shape.

    Lens distortion is not undone; one line warns of it, with the remedy.

    Args:
        path: the file.
        size: (height, width) of the clip's uncropped pictures, pixels.
        warn: whether to warn of lens distortion.

    Returns:
        Intrinsics in continuous pixels of the clip's pictures.

    Raises:
        InputError: no such file, not a calibration file, a camera that the pinhole model with square pixels does not
            describe, or one of pictures of another shape.
    """
    camera = read_camera_file(path)
    scale = _scale(path, camera, size)
    fx, fy = float(camera.K[0, 0]), float(camera.K[1, 1])
    centre = scale * from_cv2_pixels(camera.K[:2, 2])
    _check_centre(path, camera, centre, size)
    bent = bending_px(camera.K, camera.distortion, (round(size[0] / scale), round(size[1] / scale))) * scale
    if warn and bent > _HARMLESS_PX:
        logger.warning(
            f"camera_file: {path} has lens distortion, up to {bent:.0f} px in the picture, which is not undone; "
            f"undistort the video (cv2.undistort with the same matrix) and set the distortion coefficients to 0"
        )
    return Intrinsics(math.sqrt(fx * fy) * scale, float(centre[0]), float(centre[1]))


def read_camera_file(path: Path) -> CameraFile:
    """Reads a calibration file and checks its numbers.

    Raises:
        InputError: see `known_camera`.
    """
    if not path.is_file():
        raise InputError(f"camera_file: {path}: no such file; give its path relative to where you run")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        values = _from_npz(path)
    elif suffix == ".json":
        values = _from_json(path)
    elif suffix in _STORAGE_SUFFIXES:
        values = _from_storage(path)
    else:
        raise InputError(f"camera_file: {path}: expected .yml, .yaml, .xml, .json or .npz, found '{path.suffix}'")
    matrix = values.get("matrix")
    if matrix is None:
        raise InputError(f"camera_file: {path}: no camera matrix; looked for {', '.join(_MATRIX)}")
    K = _numbers(path, "camera matrix", matrix)
    if K.size != 9 or not np.isfinite(K).all():
        raise InputError(f"camera_file: {path}: expected a 3 x 3 camera matrix of finite numbers, found {K.tolist()}")
    K = K.reshape(3, 3)
    _check_matrix(path, K)
    distortion = values.get("distortion")
    bends = np.zeros(0) if distortion is None else _numbers(path, "distortion", distortion).reshape(-1)
    bends = bends if bends.any() else np.zeros(0)
    if len(bends) and (len(bends) not in _COEFFICIENT_COUNTS or not np.isfinite(bends).all()):
        raise InputError(
            f"camera_file: {path}: expected 4, 5, 8, 12 or 14 distortion coefficients, found {bends.tolist()}"
        )
    if values.get("fisheye") is not None and bool(_numbers(path, "fisheye_model", values["fisheye"]).any()):
        raise InputError(
            f"camera_file: {path}: a fisheye calibration; undistort the video (cv2.fisheye.undistortImage) and give "
            f"the camera matrix of the result, without distortion"
        )
    return CameraFile(K, _size(path, values), bends)


def bending_px(K: np.ndarray, distortion: np.ndarray, size: tuple[int, int]) -> float:
    """How far lens distortion moves a point of the picture at most, pixels.

    Args:
        K: (3, 3) camera matrix.
        distortion: OpenCV coefficients; none: 0.
        size: (height, width) of the pictures that K belongs to.
    """
    if not distortion.any():
        return 0.0
    ys, xs = np.meshgrid(np.linspace(0, size[0] - 1, 17), np.linspace(0, size[1] - 1, 17), indexing="ij")
    pixels = np.stack([xs, ys, np.ones_like(xs)], -1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(K).T
    bent, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, distortion)
    return float(np.linalg.norm(bent[:, 0] - pixels[:, :2], axis=1).max())


def _scale(path: Path, camera: CameraFile, size: tuple[int, int]) -> float:
    """Clip's pixels per pixel of the file's pictures."""
    if camera.size is None:
        return 1.0
    height, width = camera.size
    scale = max(size) / max(height, width)
    if abs(height * scale - size[0]) > 1 or abs(width * scale - size[1]) > 1:
        raise InputError(
            f"camera_file: {path}: made with pictures of {width} x {height}, the clip has {size[1]} x {size[0]}, which "
            f"is cut or turned, not scaled; calibrate with pictures of the clip's shape, or give focal_length"
        )
    return scale


def _check_centre(path: Path, camera: CameraFile, centre: np.ndarray, size: tuple[int, int]) -> None:
    off = float(np.abs(centre - [size[1] / 2, size[0] / 2]).max())
    if camera.size is None and off > _OFF_CENTRE * max(size):
        raise InputError(
            f"camera_file: {path}: the principal point is {off:.0f} px off the centre of the clip's {size[1]} x "
            f"{size[0]}; if the file was made with pictures of another size, add image_width and image_height"
        )


def _check_matrix(path: Path, K: np.ndarray) -> None:
    fx, fy = K[0, 0], K[1, 1]
    shape_of_K = np.array([[0, 0, 0], [K[1, 0], 0, 0], [K[2, 0], K[2, 1], K[2, 2] - 1]])
    if fx <= 0 or fy <= 0 or np.abs(shape_of_K).max() > 1e-6 or abs(K[0, 1]) > _SQUARE * fx:
        raise InputError(
            f"camera_file: {path}: expected a camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], found {K.tolist()}"
        )
    if abs(math.log(fx / fy)) > _SQUARE:
        raise InputError(
            f"camera_file: {path}: pixels are not square (fx {fx:.1f}, fy {fy:.1f}); scale the video so that they are, "
            f"and {_INSTEAD}"
        )


def _size(path: Path, values: dict[str, Any]) -> tuple[int, int] | None:
    if values.get("height") is None or values.get("width") is None:
        return None
    sides = [_numbers(path, name, values[name]).reshape(-1) for name in ("height", "width")]
    if any(len(side) != 1 or not side[0] >= 1 for side in sides):
        raise InputError(f"camera_file: {path}: image_width and image_height must be positive numbers of pixels")
    return round(float(sides[0][0])), round(float(sides[1][0]))


def _numbers(path: Path, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"camera_file: {path}: {name} holds no numbers ({error})") from error


def _fields() -> dict[str, tuple[str, ...]]:
    return {"matrix": _MATRIX, "distortion": _DISTORTION, "width": _WIDTH, "height": _HEIGHT, "fisheye": _FISHEYE}


def _from_npz(path: Path) -> dict[str, Any]:
    try:
        return _named(arrays_of(path))
    except DAMAGE as error:
        raise InputError(f"camera_file: {path}: not a readable .npz file ({one_line(error)}); {_INSTEAD}") from error


def _from_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"camera_file: {path}: not readable as JSON ({error}); {_INSTEAD}") from error
    if not isinstance(data, dict):
        raise InputError(
            f"camera_file: {path}: expected a JSON object with a camera matrix, found {type(data).__name__}"
        )
    # FileStorage writes a matrix as an object with its numbers under `data`.
    return _named({name: value.get("data") if isinstance(value, dict) else value for name, value in data.items()})


def _from_storage(path: Path) -> dict[str, Any]:
    storage = cv2.FileStorage()
    try:
        if not storage.open(str(path), cv2.FILE_STORAGE_READ):
            raise InputError(f"camera_file: {path}: not an OpenCV calibration file; {_INSTEAD}")
        root = storage.root()
        names = () if root.empty() or not root.isMap() else root.keys()
        return _named({name: _node(storage.getNode(name)) for name in names})
    except (cv2.error, SystemError) as error:
        raise InputError(
            f"camera_file: {path}: not an OpenCV calibration file (its first line must be %YAML:1.0 or <?xml …); "
            f"{_INSTEAD}"
        ) from error
    finally:
        storage.release()


def _node(node: Any) -> Any:
    if node.isMap():
        return node.mat()
    if node.isSeq():
        return [node.at(place).real() for place in range(node.size())]
    return node.real() if node.isInt() or node.isReal() else None


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """The first value that a file gives under any of a field's names."""
    return {
        field: next((values[name] for name in names if values.get(name) is not None), None)
        for field, names in _fields().items()
    }
