"""The `.frame` checkpoint: metrical-tracker's keys and shapes, with this tracker's own keys beside them.

The file is `torch.save` of a dict of numpy arrays, so `torch.load` refuses it by default. It is read here through an
allow-list of numpy's own reconstruction functions; no other class can be made by a file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics, Pytorch3dCamera, from_pytorch3d, to_pytorch3d
from tracker.errors import InputError
from tracker.head.model import HeadModel, HeadParams
from tracker.rotations import matrix_from_6d, matrix_to_6d
from tracker.safe_pickle import DAMAGE, numpy_allowed
from tracker.shading import rotate_sh
from tracker.state import FrameState, eye_angles, eye_rotations

FLAME_SHAPE, FLAME_EXPRESSION, TEXTURE_MODES = 300, 100, 140
# Version of the keys under `track` and `state`; a reader of an older file can tell.
TRACK_VERSION = 1
# torch.save writes zip files.
_ZIP_START = b"PK\x03\x04"


@dataclass(frozen=True)
class TrackRecord:
    """What the tracker says of one frame (key `track`).

    Attributes:
        status: 'ok', 'poor' or 'lost'.
        reprojection_px: median distance of fitted and detected landmarks, NaN without detection.
        photometric_l1: mean absolute colour residual of the visible samples, NaN where none was made.
        correlation: normalised cross-correlation of picture and appearance, -1 to 1, NaN where none was made.
        landmarks478: (478, 2) fitted landmarks, pixels of the crop, NaN where the model has no such point.
        steps: solver steps spent.
        outcome: the solver's outcome.
    """

    status: str
    reprojection_px: float
    photometric_l1: float
    correlation: float
    landmarks478: np.ndarray
    steps: int
    outcome: str

    def as_dict(self) -> dict[str, Any]:
        """The value of the key `track`."""
        return {"version": TRACK_VERSION, **vars(self)}


def encode_frame(
    model: HeadModel,
    shape: Tensor,
    state: FrameState,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    index: int,
) -> dict[str, Any]:
    """The metrical-tracker blocks of a checkpoint.

    Args:
        model: the head model; FLAME's coefficients are padded with zeros to 300 and 100, others keep their count.
        shape: (S,) identity.
        state: the frame's unknowns.
        intrinsics: pixels of the crop.
        size: (height, width) of the crop.
        index: 0-based checkpoint number.

    Returns:
        Dict with `flame`, `camera`, `opencv`, `img_size`, `frame_id`, `global_step`, `model`.
    """
    R, t = state.R.numpy(), state.t.numpy()
    camera = to_pytorch3d(R, t, intrinsics, size)
    eyes = matrix_to_6d(eye_rotations(state.eyes)).reshape(1, 12)
    light = rotate_sh(state.light, state.R.T)
    is_flame = model.name == "flame"

    def row(value: Any, length: int = 0) -> np.ndarray:
        flat = np.asarray(value, np.float32).reshape(1, -1)
        return np.pad(flat, ((0, 0), (0, max(0, length - flat.shape[1]))))

    return {
        "flame": {
            "exp": row(state.expression, FLAME_EXPRESSION if is_flame else 0),
            "shape": row(shape, FLAME_SHAPE if is_flame else 0),
            "tex": np.zeros((1, TEXTURE_MODES), np.float32),
            "sh": light.numpy().astype(np.float32)[None],
            "eyes": row(eyes),
            "eyelids": row(state.eyelids),
            "jaw": row(matrix_to_6d(state.jaw)),
        },
        "camera": {
            "R": row(matrix_to_6d(torch.from_numpy(camera.R))),
            "t": row(camera.t),
            "fl": row(camera.fl),
            "pp": row(camera.pp),
        },
        "opencv": {
            "R": R.astype(np.float32)[None],
            "t": t.astype(np.float32)[None],
            "K": intrinsics.matrix().astype(np.float32)[None],
        },
        "img_size": np.array(size, np.int64),
        "frame_id": f"{index:05d}",
        "global_step": index,
        "model": model.name,
    }


def state_arrays(state: FrameState) -> dict[str, np.ndarray]:
    """The solver's float64 state (key `state`), from which a killed run goes on exactly."""
    return {name: value.numpy().copy() for name, value in vars(state).items()}


def state_from_arrays(arrays: dict[str, np.ndarray]) -> FrameState:
    """Inverse of `state_arrays`."""
    return FrameState(**{name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()})


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
        with path.open("rb") as file, numpy_allowed():
            if file.read(len(_ZIP_START)) != _ZIP_START:
                raise ValueError("torch.save did not write it")
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint; run the tracking stage first") from error
    except (OSError, *DAMAGE) as error:
        raise InputError(f"{path}: not a readable .frame file ({_reason(error)}); track the subject again") from error
    if not isinstance(content, dict) or "opencv" not in content or "flame" not in content:
        raise InputError(f"{path}: lacks the blocks `flame` and `opencv`; track the subject again")
    return content


def _reason(error: Exception) -> str:
    """Torch's account of a failed load in a few words; its own advice is to switch the protection off."""
    foreign = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if foreign:
        return f"it holds {foreign[1]}, which no checkpoint needs"
    lines = str(error).splitlines()
    return lines[0].split(". ")[0] if lines and not lines[0].startswith("Weights only load failed") else "damaged"


def head_params(frame: dict[str, Any], model: HeadModel) -> HeadParams:
    """The head's parameters of a checkpoint, float32, cut to the model's counts and without batch dimension.

    Raises:
        InputError: the checkpoint was written for another head model.
    """
    written_for = frame.get("model", "flame")
    if written_for != model.name:
        raise InputError(f"checkpoint {frame['frame_id']} was tracked with head '{written_for}', not '{model.name}'")
    block = frame["flame"]

    def tensor(key: str) -> Tensor:
        return torch.from_numpy(np.asarray(block[key], np.float32))[0]

    return HeadParams(
        shape=tensor("shape")[: model.shape_count],
        expression=tensor("exp")[: model.expression_count],
        jaw=matrix_from_6d(tensor("jaw")),
        eyes=matrix_from_6d(tensor("eyes").reshape(2, 6)),
        eyelids=tensor("eyelids"),
    )


def extrinsics(frame: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    """OpenCV camera of a checkpoint: R (3, 3), t (3,) metres, intrinsics in pixels of the crop, float64."""
    block = {key: np.asarray(value, np.float64)[0] for key, value in frame["opencv"].items()}
    K = block["K"]
    return block["R"], block["t"], Intrinsics(float(K[0, 0]), float(K[0, 2]), float(K[1, 2]))


def extrinsics_of_camera_block(frame: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    """The same camera, from the PyTorch3D block: what metrical-tracker's resume code reads."""
    block = {key: np.asarray(value, np.float64)[0] for key, value in frame["camera"].items()}
    R = matrix_from_6d(torch.from_numpy(block["R"])).numpy()
    height, width = (int(x) for x in frame["img_size"])
    return from_pytorch3d(Pytorch3dCamera(R, block["t"], float(block["fl"][0]), block["pp"]), (height, width))


def gaze_angles(frame: dict[str, Any]) -> np.ndarray:
    """(2, 2) yaw and pitch of the left and right eye, radians."""
    return eye_angles(
        matrix_from_6d(torch.from_numpy(np.asarray(frame["flame"]["eyes"], np.float64)).reshape(2, 6))
    ).numpy()
