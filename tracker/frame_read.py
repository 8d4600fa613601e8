"""Reading `.frame` checkpoints without torch, which takes a second to import: what drawing and reporting need.

`tracker.frame_file` writes them.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tracker import torch_zip
from tracker.camera import Intrinsics
from tracker.errors import InputError

# torch.save writes zip files.
_ZIP_START = b"PK\x03\x04"


def load_frame(path: Path) -> dict[str, Any]:
    """Reads a `.frame` file of this tracker or of metrical-tracker.

    Args:
        path: the checkpoint.

    Returns:
        Its dict; see docs/frame_file.md for the keys.

    Raises:
        InputError: the file is missing, damaged or holds anything but arrays, numbers and strings.
    """
    try:
        content = torch_zip.load(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint; run the tracking stage first") from error
    except torch_zip.NOT_READ:
        # Damaged, or with tensors: torch knows these, and names what is wrong.
        content = _load_by_torch(path)
    if not isinstance(content, dict) or "opencv" not in content or "flame" not in content:
        raise InputError(f"{path}: lacks the blocks `flame` and `opencv`; track the subject again")
    return content


def _load_by_torch(path: Path) -> Any:
    import torch

    from tracker.safe_pickle import DAMAGE, numpy_allowed

    try:
        with path.open("rb") as file, numpy_allowed():
            if file.read(len(_ZIP_START)) != _ZIP_START:
                raise ValueError("torch.save did not write it")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, *DAMAGE) as error:
        raise InputError(f"{path}: not a readable .frame file ({_reason(error)}); track the subject again") from error


def _reason(error: Exception) -> str:
    """Torch's account of a failed load in a few words; its own advice is to switch the protection off."""
    foreign = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if foreign:
        return f"it holds {foreign[1]}, which no checkpoint needs"
    lines = str(error).splitlines()
    return lines[0].split(". ")[0] if lines and not lines[0].startswith("Weights only load failed") else "damaged"


def check_head(frame: dict[str, Any], name: str) -> None:
    """Refuses a checkpoint of another head model than the named one.

    Raises:
        InputError: it was written for another one.
    """
    written_for = frame.get("model", "flame")
    if written_for != name:
        raise InputError(f"checkpoint {frame['frame_id']} was tracked with head '{written_for}', not '{name}'")


def extrinsics(frame: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    """OpenCV camera of a checkpoint: R (3, 3), t (3,) metres, intrinsics in pixels of the crop, float64."""
    block = {key: np.asarray(value, np.float64)[0] for key, value in frame["opencv"].items()}
    K = block["K"]
    return block["R"], block["t"], Intrinsics(float(K[0, 0]), float(K[0, 2]), float(K[1, 2]))


def appearance_light(frame: dict[str, Any]) -> np.ndarray:
    """Light (9, 3) in head space that goes with the clip's own appearance.

    `flame.sh` goes with the texture of `flame.tex`, which may be brighter or darker.
    """
    gain = frame.get("texture", {}).get("gain", 1.0)
    return np.asarray(frame["flame"]["sh"])[0] / gain


def matrix_from_6d(rows: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of 6-D forms (..., 6): twin of `tracker.rotations.matrix_from_6d`."""
    first, second = rows[..., :3], rows[..., 3:]
    x = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (x * second).sum(-1, keepdims=True) * x
    y = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], -2)
