"""Loader of FLAME-format models: the pickle or npz, its landmark embeddings, masks, eyelids and UV template.

Sources: Li et al., FLAME, SIGGRAPH Asia 2017; key lists and layouts as the public FLAME loaders read them.
"""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from tracker.errors import InputError
from tracker.head.model import ContourEmbedding, Embedding, HeadModel
from tracker.safe_pickle import load_object_npy, load_pickle

SHAPE_MODES = 300
MODEL_NAMES = ("generic_model.pkl", "flame2023.pkl", "flame2023_Open.pkl", "generic_model.npz")
_KEYS = ("f", "v_template", "shapedirs", "posedirs", "J_regressor", "weights")


def find_flame(folder: Path) -> Path | None:
    """The model file of a FLAME folder, or None where the folder holds none."""
    return next((folder / name for name in MODEL_NAMES if (folder / name).is_file()), None)


def load_flame(path: Path) -> HeadModel:
    """Reads a FLAME-format model.

    Args:
        path: the model file (.pkl or .npz), or the folder that holds it; the embeddings, masks, eyelid shapes and
            template OBJ are looked for beside it.

    Returns:
        The model with as many modes as the file has.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    file = find_flame(path) if path.is_dir() else path
    if file is None or not file.is_file():
        raise InputError(f"{path}: no FLAME model ({', '.join(MODEL_NAMES)}); register at flame.is.tue.mpg.de for one")
    data = _arrays(file)
    folder = file.parent
    vertex_count = data["v_template"].shape[0]
    bases = torch.from_numpy(data["shapedirs"].astype(np.float32))
    expression_count = bases.shape[2] - SHAPE_MODES
    landmarks68, contour = _landmarks68(folder / "landmark_embedding.npy")
    uv, uv_triangles = _template_uv(folder, data["f"])
    return HeadModel(
        name="flame",
        template=torch.from_numpy(data["v_template"].astype(np.float32)),
        shape_basis=bases[..., :SHAPE_MODES],
        expression_basis=bases[..., SHAPE_MODES:],
        expression_names=tuple(f"exp{i:03d}" for i in range(expression_count)),
        expression_std=torch.ones(expression_count),
        expression_bounds=torch.tensor([[-np.inf, np.inf]]).repeat(expression_count, 1),
        eyelid_basis=_eyelids(folder, vertex_count),
        pose_correctives=torch.from_numpy(data["posedirs"].astype(np.float32)),
        joint_regressor=torch.from_numpy(data["J_regressor"].astype(np.float32)),
        skin_weights=torch.from_numpy(data["weights"].astype(np.float32)),
        triangles=torch.from_numpy(data["f"].astype(np.int64)),
        uv=uv,
        uv_triangles=uv_triangles,
        landmarks68=landmarks68,
        landmarks478=_landmarks478(folder / "mediapipe_landmark_embedding.npz"),
        contour=contour,
        regions=_masks(folder / "FLAME_masks.pkl"),
    )


def _arrays(file: Path) -> dict[str, np.ndarray]:
    if file.suffix == ".npz":
        data: dict[str, Any] = _npz(file)
    else:
        data = load_pickle(file)
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise InputError(f"{file}: not a FLAME model, it lacks {', '.join(missing)}; download it again")
    return {key: np.asarray(data[key]) for key in _KEYS}


def _npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: damaged ({error}); get it from its publisher again") from error


def _landmarks68(path: Path) -> tuple[Embedding, ContourEmbedding]:
    if not path.is_file():
        raise InputError(f"{path}: missing; it comes with DECA, MICA and metrical-tracker")
    data = load_object_npy(path)
    contour = ContourEmbedding(
        torch.as_tensor(np.asarray(data["dynamic_lmk_faces_idx"]).astype(np.int64)),
        torch.as_tensor(np.asarray(data["dynamic_lmk_bary_coords"]).astype(np.float32)),
    )
    static_faces = torch.as_tensor(np.asarray(data["static_lmk_faces_idx"]).astype(np.int64))
    static_bary = torch.as_tensor(np.asarray(data["static_lmk_bary_coords"]).astype(np.float32))
    faces = torch.cat([contour.faces[0], static_faces])
    bary = torch.cat([contour.bary[0], static_bary])
    return Embedding(faces, bary, torch.arange(68)), contour


def _landmarks478(path: Path) -> Embedding:
    if not path.is_file():
        raise InputError(f"{path}: missing; it comes with metrical-tracker")
    data = _npz(path)
    try:
        return Embedding(
            torch.from_numpy(data["lmk_face_idx"].astype(np.int64)),
            torch.from_numpy(data["lmk_b_coords"].astype(np.float32)),
            torch.from_numpy(data["landmark_indices"].astype(np.int64)),
        )
    except KeyError as error:
        raise InputError(f"{path}: lacks {error}; it comes with metrical-tracker") from error


def _template_uv(folder: Path, triangles: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    path = next(
        (
            folder / n
            for n in ("head_template_uv.obj", "head_template_mesh.obj", "head_template.obj")
            if (folder / n).is_file()
        ),
        None,
    )
    if path is None:
        raise InputError(
            f"{folder}: no head_template_mesh.obj with texture coordinates; it comes with FLAME_texture and DECA"
        )
    uv, uv_triangles = [], []
    for line in path.read_text().splitlines():
        if line.startswith("vt "):
            uv.append([float(x) for x in line.split()[1:3]])
        elif line.startswith("f "):
            uv_triangles.append([int(corner.split("/")[1]) - 1 for corner in line.split()[1:4]])
    if len(uv_triangles) != len(triangles):
        raise InputError(
            f"{path}: {len(uv_triangles)} triangles, the model has {len(triangles)}; they do not belong together"
        )
    return torch.tensor(uv, dtype=torch.float32), torch.tensor(uv_triangles, dtype=torch.int64)


def _eyelids(folder: Path, vertex_count: int) -> torch.Tensor:
    basis = np.zeros((vertex_count, 3, 2), np.float32)
    for side, name in enumerate(("l_eyelid.npy", "r_eyelid.npy")):
        path = folder / name
        if not path.is_file():
            continue
        try:
            basis[..., side] = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path}: not the eyelid of {vertex_count} vertices ({error}); get it again") from error
    return torch.from_numpy(basis)


def _masks(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        return {}
    return {name: torch.as_tensor(np.asarray(ids).astype(np.int64)) for name, ids in load_pickle(path).items()}
