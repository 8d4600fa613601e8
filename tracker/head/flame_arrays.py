"""The arrays of a FLAME model file, checked: which keys and shapes, which modes are identity and which expression."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracker.errors import InputError
from tracker.head.flame_places import FULL_SHAPE
from tracker.head.plain import JOINT_COUNT, PARENTS
from tracker.safe_pickle import load_object_npz, load_pickle

# Cut-down files hold ten of each; smplx's FLAME class reads them so.
_SMALL_MODES, _SMALL_SHAPE = 20, 10
# For files that are cut otherwise: the number of identity modes, told by whoever cut them.
SPLIT_KEY = "shape_count"
# Names that SMPL's and FLAME's own reader accepts for the same arrays.
_ALIASES = {"default_v": "v_template", "template_v": "v_template", "joint_regressor": "J_regressor"}
_ALIASES |= {"blendshapes": "posedirs"}
_KEYS = ("f", "v_template", "shapedirs", "posedirs", "J_regressor", "weights")
# Damaged floats are astronomic or next to nothing, and millimetres are not metres.
_SMALLEST_M, _LARGEST_M = 0.02, 5.0
_LARGEST_VALUE = 1e4
_ROOTS = (-1, 2**32 - 1)


@dataclass(frozen=True, eq=False)
class FlameArrays:
    """A FLAME model's arrays.

    Attributes:
        triangles: (F, 3) int64.
        template: (V, 3) float32 metres.
        shape_basis: (V, 3, S) float32 metres a standard deviation.
        expression_basis: (V, 3, E) float32.
        pose_correctives: (V, 3, 36) float32.
        joint_regressor: (5, V) float32.
        skin_weights: (V, 5) float32.
    """

    triangles: np.ndarray
    template: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    pose_correctives: np.ndarray
    joint_regressor: np.ndarray
    skin_weights: np.ndarray


def read_flame_arrays(file: Path, notes: list[str]) -> FlameArrays:
    """Reads a model file.

    Args:
        file: .npz, or a pickle of any FLAME release.
        notes: gets a sentence where the file had to be repaired.

    Returns:
        The arrays; float32, as all public loaders keep them.

    Raises:
        InputError: the file is damaged, lacks a key, or its arrays do not fit together; the message names it.
    """
    # An npz made of a pickle's dict by np.savez holds its sparse matrices and chumpy arrays as objects.
    raw = load_object_npz(file, dense=True) if file.suffix == ".npz" else load_pickle(file, notes)
    if not isinstance(raw, dict):
        raise InputError(f"{file}: holds {type(raw).__name__}, not a dict of arrays; this is no FLAME model")
    data = {_ALIASES.get(key, key): value for key, value in raw.items()}
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise InputError(f"{file}: not a FLAME model, it lacks {', '.join(missing)}; download it again")
    arrays = {key: np.asarray(data[key]) for key in _KEYS}
    _check(file, arrays, data)
    real = {key: np.ascontiguousarray(arrays[key], np.float32) for key in _KEYS[1:]}
    shape_count = _shape_count(file, real["shapedirs"].shape[2], data.get(SPLIT_KEY))
    return FlameArrays(
        triangles=arrays["f"].astype(np.int64),
        template=real["v_template"],
        shape_basis=real["shapedirs"][..., :shape_count],
        expression_basis=real["shapedirs"][..., shape_count:],
        pose_correctives=real["posedirs"],
        joint_regressor=real["J_regressor"],
        skin_weights=real["weights"],
    )


def _check(file: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
    """Refuses arrays that do not fit together."""
    kinds = {"f": "iu"} | dict.fromkeys(_KEYS[1:], "fiu")
    for key, kind in kinds.items():
        if arrays[key].dtype.kind not in kind or not arrays[key].size:
            raise InputError(f"{file}: {key} holds {arrays[key].dtype} values or none; download it again")
    if arrays["v_template"].ndim != 2 or arrays["f"].ndim != 2 or arrays["shapedirs"].ndim != 3:
        raise InputError(f"{file}: v_template, f or shapedirs have other dimensions than a FLAME model's")
    vertices, modes = len(arrays["v_template"]), arrays["shapedirs"].shape[2]
    expected = {
        "v_template": (vertices, 3),
        "f": (len(arrays["f"]), 3),
        "shapedirs": (vertices, 3, modes),
        "posedirs": (vertices, 3, 9 * (JOINT_COUNT - 1)),
        "J_regressor": (JOINT_COUNT, vertices),
        "weights": (vertices, JOINT_COUNT),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise InputError(
                f"{file}: {key} has shape {arrays[key].shape}, a FLAME model has {shape}; use another file"
            )
    if arrays["f"].min() < 0 or arrays["f"].max() >= vertices:
        raise InputError(f"{file}: f names vertices outside 0 to {vertices - 1}; download it again")
    for key in _KEYS[1:]:
        # Not a number is not below either.
        if not (np.abs(arrays[key]) < _LARGEST_VALUE).all():
            raise InputError(f"{file}: {key} holds values that are not finite or astronomic; download it again")
    size = float(np.abs(arrays["v_template"]).max())
    if not _SMALLEST_M < size < _LARGEST_M:
        raise InputError(f"{file}: v_template reaches {size:.3g}, a head in metres 0.1 to 1; the file is damaged")
    if "kintree_table" in data:
        parents = [int(parent) for parent in np.asarray(data["kintree_table"])[0]]
        if parents[0] not in _ROOTS or tuple(parents[1:]) != PARENTS[1:]:
            raise InputError(f"{file}: its joints hang together as {parents}, FLAME's as {list(PARENTS)}")


def _shape_count(file: Path, modes: int, told: Any) -> int:
    """How many of the modes are identity."""
    if told is not None:
        count = int(np.asarray(told))
        if not 0 <= count <= modes:
            raise InputError(f"{file}: {SPLIT_KEY} is {count}, the file holds {modes} modes; correct it")
        return count
    if modes >= FULL_SHAPE:
        return FULL_SHAPE
    if modes == _SMALL_MODES:
        return _SMALL_SHAPE
    raise InputError(
        f"{file}: holds {modes} modes, and nothing tells which are identity ({FULL_SHAPE} of 400 and {_SMALL_SHAPE} of "
        f"{_SMALL_MODES} are known); add a key {SPLIT_KEY} with the number of identity modes, or use the full model"
    )
