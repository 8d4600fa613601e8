"""Atomic files: written under a temporary name in the same folder, then renamed, so that a kill leaves no half file."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tracker import atomic_write, torch_zip
from tracker.errors import InputError
from tracker.npy import array_bytes
from tracker.png import encode_png

# Of all that stages write and read by this module, what lower layers write as well.
TEMPORARY_SUFFIX = atomic_write.TEMPORARY_SUFFIX
write_atomic = atomic_write.write_atomic
write_bytes = atomic_write.write_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file of this project.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the stage that makes it again (--force)") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it and run again") from error


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file atomically."""
    write_bytes(path, array_bytes(array))


def read_array(path: Path) -> np.ndarray:
    """Reads a .npy file without pickles.

    Raises:
        InputError: the file is missing or not a plain .npy array.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the stage that makes it again") from error
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a readable .npy array ({error}); replace or delete it") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: holds several arrays (.npz); expected one .npy array")
    return array


def write_image(path: Path, image: np.ndarray, jpeg_quality: int = 95) -> None:
    """Writes a picture atomically.

    Args:
        path: .png, .jpg or .bmp.
        image: (H, W, 3) uint8 RGB, (H, W) uint8, or for .png (H, W) uint16.
        jpeg_quality: 1 to 100, for .jpg.
    """
    if path.suffix == ".png":
        write_bytes(path, encode_png(image))
        return
    # cvtColor: three times as fast as a reversed view made contiguous.
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if path.suffix == ".jpg" else []
    _, data = cv2.imencode(path.suffix, np.ascontiguousarray(bgr), options)
    write_bytes(path, data.tobytes())


def read_image(path: Path) -> np.ndarray:
    """Reads a picture as (H, W, 3) uint8 RGB; EXIF orientation is honoured.

    Raises:
        InputError: missing, empty, or not a picture.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing picture; run the stage that makes it again") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise InputError(f"{path}: not a readable picture ({len(data)} bytes); replace or delete it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def save_torch(path: Path, value: Any) -> None:
    """`torch.save`, atomically; the same value gives the same bytes."""
    import torch

    # Given a path, torch would write its name into the file, and the temporary one is another each time.
    data = io.BytesIO()
    torch.save(value, data)
    write_bytes(path, data.getvalue())


def save_torch_arrays(path: Path, value: Any) -> None:
    """The same for numpy arrays in dicts and lists, without torch and in half the time."""
    write_atomic(path, lambda temporary: torch_zip.save(temporary, value))


def list_images(folder: Path) -> list[Path]:
    """Pictures of a folder in the order of their names; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames what this project did not make to `<name>.old`, `<name>.old2`, …; returns the new path."""
    number = 1
    while (target := path.with_name(f"{path.name}.old{number if number > 1 else ''}")).exists():
        number += 1
    path.rename(target)
    return target


def remove_leftovers(path: Path) -> None:
    """Removes what killed writers of one file have left beside it."""
    for temporary in atomic_write.leftovers(path):
        remove(temporary)


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed run left under temporary names, at any depth."""
    for path in sorted(folder.rglob(f"*{TEMPORARY_SUFFIX}")) if folder.is_dir() else []:
        remove(path)
