"""One file a head model: the project's own npz layout (`assets/generic_head.npz`, caches of converted models).

Keys: name; template (V, 3) float32; triangles (F, 3) int32; uv (T, 2) float32; uv_triangles (F, 3) int32;
shape_basis (V, 3, S), expression_basis (V, 3, E), eyelid_basis (V, 3, 2) float16 or float32, metres;
expression_names (E,) str; expression_std (E,); expression_bounds (E, 2); joint_regressor (5, V); skin_weights (V, 5);
region_<name> int32 vertex ids; lmk68_faces (68,), lmk68_bary (68, 3), lmk478_faces (N,), lmk478_bary (N, 3),
lmk478_indices (N,); optionally eyelid_bounds (2,), contour_faces (A, 17), contour_bary (A, 17, 3),
pose_correctives (V, 3, 36).
"""

from pathlib import Path

import numpy as np
import torch

from tracker.head.model import EYELID_BOUNDS, ContourEmbedding, Embedding, HeadModel
from tracker.head.plain import REGION_PREFIX, read_head


def load_head(path: Path) -> HeadModel:
    """Reads a head model in the project's npz layout.

    Args:
        path: the npz file.

    Returns:
        The model, float32 on the CPU.

    Raises:
        InputError: the file is missing, damaged or lacks a key.
    """
    model: HeadModel = read_head(path, _from_arrays)
    return model


def save_head(model: HeadModel, path: Path, half_bases: bool = True, compressed: bool = True) -> None:
    """Writes a head model.

    Args:
        model: the head.
        path: the npz file.
        half_bases: bases as float16 (about 0.01 mm of rounding at 2 cm of motion).
        compressed: half the size; a large model takes a second longer to load.
    """
    basis_type = np.float16 if half_bases else np.float32
    arrays: dict[str, np.ndarray] = {
        "name": np.array(model.name),
        "template": _array(model.template, np.float32),
        "triangles": _array(model.triangles, np.int32),
        "uv": _array(model.uv, np.float32),
        "uv_triangles": _array(model.uv_triangles, np.int32),
        "shape_basis": _array(model.shape_basis, basis_type),
        "expression_basis": _array(model.expression_basis, basis_type),
        "eyelid_basis": _array(model.eyelid_basis, basis_type),
        "eyelid_bounds": np.array(model.eyelid_bounds, np.float32),
        "expression_names": np.array(model.expression_names),
        "expression_std": _array(model.expression_std, np.float32),
        "expression_bounds": _array(model.expression_bounds, np.float32),
        "joint_regressor": _array(model.joint_regressor, np.float32),
        "skin_weights": _array(model.skin_weights, np.float32),
        "lmk68_faces": _array(model.landmarks68.faces, np.int32),
        "lmk68_bary": _array(model.landmarks68.bary, np.float32),
        "lmk478_faces": _array(model.landmarks478.faces, np.int32),
        "lmk478_bary": _array(model.landmarks478.bary, np.float32),
        "lmk478_indices": _array(model.landmarks478.indices, np.int32),
    }
    for name, ids in model.regions.items():
        arrays[REGION_PREFIX + name] = _array(ids, np.int32)
    if model.contour is not None:
        arrays["contour_faces"] = _array(model.contour.faces, np.int32)
        arrays["contour_bary"] = _array(model.contour.bary, np.float32)
    if model.pose_correctives is not None:
        arrays["pose_correctives"] = _array(model.pose_correctives, basis_type)
    # By the open file: given a path, numpy appends .npz to names that end otherwise, as temporary ones do.
    with path.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


def _array(tensor: torch.Tensor, dtype: type) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype)


def _from_arrays(data: dict[str, np.ndarray]) -> HeadModel:
    def real(key: str) -> torch.Tensor:
        return torch.from_numpy(data[key].astype(np.float32))

    def whole(key: str) -> torch.Tensor:
        return torch.from_numpy(data[key].astype(np.int64))

    weights = real("skin_weights")
    eyelid_bounds = EYELID_BOUNDS
    if "eyelid_bounds" in data:
        eyelid_bounds = (float(data["eyelid_bounds"][0]), float(data["eyelid_bounds"][1]))
    contour = ContourEmbedding(whole("contour_faces"), real("contour_bary")) if "contour_faces" in data else None
    return HeadModel(
        name=str(data["name"]),
        template=real("template"),
        shape_basis=real("shape_basis"),
        expression_basis=real("expression_basis"),
        expression_names=tuple(str(name) for name in data["expression_names"]),
        expression_std=real("expression_std"),
        expression_bounds=real("expression_bounds"),
        eyelid_basis=real("eyelid_basis"),
        eyelid_bounds=eyelid_bounds,
        joint_regressor=real("joint_regressor"),
        skin_weights=weights / weights.sum(1, keepdim=True),
        triangles=whole("triangles"),
        uv=real("uv"),
        uv_triangles=whole("uv_triangles"),
        landmarks68=Embedding(whole("lmk68_faces"), real("lmk68_bary"), torch.arange(len(data["lmk68_faces"]))),
        landmarks478=Embedding(whole("lmk478_faces"), real("lmk478_bary"), whole("lmk478_indices")),
        pose_correctives=real("pose_correctives") if "pose_correctives" in data else None,
        contour=contour,
        regions={key[len(REGION_PREFIX) :]: whole(key) for key in data if key.startswith(REGION_PREFIX)},
    )
