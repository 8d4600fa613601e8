"""The `.frame` checkpoint: metrical-tracker's keys and shapes, with this tracker's own keys beside them.

The file is `torch.save` of a dict of numpy arrays, so `torch.load` refuses it by default. `tracker.frame_read` reads it
through an allow-list of numpy's own reconstruction functions; no other class can be made by a file.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics, Pytorch3dCamera, from_pytorch3d, to_pytorch3d
from tracker.frame_read import check_head, extrinsics, load_frame
from tracker.head.model import HeadModel, HeadParams
from tracker.rotations import matrix_from_6d, matrix_to_6d
from tracker.shading import rotate_sh
from tracker.state import FrameState, eye_angles, eye_rotations

__all__ = [
    "NO_TEXTURE",
    "TextureCode",
    "TrackRecord",
    "encode_frame",
    "extrinsics",
    "extrinsics_of_camera_block",
    "gaze_angles",
    "head_params",
    "load_frame",
    "state_arrays",
    "state_from_arrays",
]

FLAME_SHAPE, FLAME_EXPRESSION = 300, 100
# Version of the keys under `track` and `state`; a reader of an older file can tell.
TRACK_VERSION = 1


@dataclass(frozen=True, eq=False)
class TextureCode:
    """The clip's appearance in a texture space, the same in all its frames.

    Attributes:
        code: (K,) coefficients, zeros where there is no space.
        gain: (3,) what the light that was tracked with the clip's own appearance is multiplied with, RGB, so that it
            suits the texture of the code.
    """

    code: np.ndarray
    gain: np.ndarray


# metrical-tracker's number of coefficients.
NO_TEXTURE = TextureCode(np.zeros(140), np.ones(3))


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
    texture: TextureCode = NO_TEXTURE,
) -> dict[str, Any]:
    """The metrical-tracker blocks of a checkpoint.

    Args:
        model: the head model; FLAME's coefficients are padded with zeros to 300 and 100, others keep their count.
        shape: (S,) identity.
        state: the frame's unknowns.
        intrinsics: pixels of the crop.
        size: (height, width) of the crop.
        index: 0-based checkpoint number.
        texture: code and gain of the clip's appearance.

    Returns:
        Dict with `flame`, `camera`, `opencv`, `img_size`, `frame_id`, `global_step`, `model`, `texture`.
    """
    R, t = state.R.numpy(), state.t.numpy()
    camera = to_pytorch3d(R, t, intrinsics, size)
    eyes = matrix_to_6d(eye_rotations(state.eyes)).reshape(1, 12)
    light = rotate_sh(state.light, state.R.T).numpy() * texture.gain
    is_flame = model.name == "flame"

    def row(value: Any, length: int = 0) -> np.ndarray:
        flat = np.asarray(value, np.float32).reshape(1, -1)
        return np.pad(flat, ((0, 0), (0, max(0, length - flat.shape[1]))))

    return {
        "flame": {
            "exp": row(state.expression, FLAME_EXPRESSION if is_flame else 0),
            "shape": row(shape, FLAME_SHAPE if is_flame else 0),
            "tex": row(texture.code),
            "sh": light.astype(np.float32)[None],
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
        "texture": {"gain": texture.gain.astype(np.float32)},
    }


def state_arrays(state: FrameState) -> dict[str, np.ndarray]:
    """The solver's float64 state (key `state`), from which a killed run goes on exactly."""
    return {name: value.numpy().copy() for name, value in state.tensors.items()}


def state_from_arrays(arrays: dict[str, np.ndarray]) -> FrameState:
    """Inverse of `state_arrays`."""
    return FrameState(**{name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()})


def head_params(frame: dict[str, Any], model: HeadModel) -> HeadParams:
    """The head's parameters of a checkpoint, float32, cut to the model's counts and without batch dimension.

    Raises:
        InputError: the checkpoint was written for another head model.
    """
    check_head(frame, model.name)
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
