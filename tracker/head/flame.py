"""Loader of FLAME-format models: the pickle or npz, its landmark embeddings, masks, eyelids and UV template.

Sources: Li et al., FLAME, SIGGRAPH Asia 2017; key lists and layouts as the public FLAME loaders read them.

Coefficients are standard deviations, positions metres. The contour's row follows the head's yaw, see
`tracker.head.sliding_contour`.
"""

from pathlib import Path

import numpy as np
import torch

from tracker.errors import InputError
from tracker.head.eyelids import eyelid_shapes
from tracker.head.flame_arrays import FlameArrays, read_flame_arrays
from tracker.head.flame_landmarks import landmarks68, landmarks478
from tracker.head.flame_places import MODEL_NAMES, FlamePlaces, find_companions, model_file
from tracker.head.flame_regions import made_regions, read_masks
from tracker.head.model import Embedding, HeadModel
from tracker.head.template_uv import read_template_uv
from tracker.npz import DAMAGE, one_line


def load_flame(path: Path) -> HeadModel:
    """Reads a FLAME-format model.

    Args:
        path: the model file (.pkl or .npz), or the folder that holds it; the embeddings, masks, eyelid shapes and
            template OBJ are looked for beside it and where metrical-tracker, MICA and DECA keep them.

    Returns:
        The model with as many modes as the file has; what it had to do without stands in its `notes`.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    file = model_file(path)
    if file is None:
        raise InputError(f"{path}: no FLAME model ({', '.join(MODEL_NAMES)}); register at flame.is.tue.mpg.de for one")
    places, notes = find_companions(file), list[str]()
    template = _template(places)
    arrays = read_flame_arrays(file, notes)
    expression_count = arrays.expression_basis.shape[2]
    ibug, contour, fixed = landmarks68(places, len(arrays.triangles), notes)
    facemesh = landmarks478(places, arrays, ibug, notes)
    uv, uv_triangles = read_template_uv(template, arrays.triangles)
    return HeadModel(
        name="flame",
        template=torch.from_numpy(arrays.template),
        shape_basis=torch.from_numpy(arrays.shape_basis),
        expression_basis=torch.from_numpy(arrays.expression_basis),
        expression_names=tuple(f"exp{i:03d}" for i in range(expression_count)),
        expression_std=torch.ones(expression_count),
        expression_bounds=torch.tensor([[-np.inf, np.inf]]).repeat(expression_count, 1),
        eyelid_basis=torch.from_numpy(_eyelids(places, arrays, (ibug, facemesh), notes)),
        pose_correctives=torch.from_numpy(arrays.pose_correctives),
        joint_regressor=torch.from_numpy(arrays.joint_regressor),
        skin_weights=torch.from_numpy(arrays.skin_weights),
        triangles=torch.from_numpy(arrays.triangles),
        uv=torch.from_numpy(uv),
        uv_triangles=torch.from_numpy(uv_triangles),
        landmarks68=ibug,
        landmarks478=facemesh,
        contour=contour,
        landmarks68_fixed=fixed,
        regions=_regions(places, arrays, ibug, notes),
        notes=tuple(notes),
    )


def _template(places: FlamePlaces) -> Path:
    """The mesh with texture coordinates; one error for all that is missing and nothing can replace."""
    missing = []
    if places.landmarks is None and (places.static_landmarks is None or places.dynamic_landmarks is None):
        missing.append("landmark_embedding.npy (data folder of DECA or metrical-tracker)")
    if places.template is None:
        missing.append("head_template.obj with texture coordinates (data folder of DECA, or MICA's data/FLAME2020)")
    if missing or places.template is None:
        raise InputError(f"{places.model.parent}: beside {places.model.name} put {' and '.join(missing)}")
    return places.template


def _regions(places: FlamePlaces, arrays: FlameArrays, ibug: Embedding, notes: list[str]) -> dict[str, torch.Tensor]:
    if places.masks is not None:
        regions, made = read_masks(places.masks, len(arrays.template), notes), made_regions(arrays, ibug)
        missing = [name for name in made if name not in regions]
        if missing:
            notes.append(f"{places.masks}: lacks {', '.join(missing)}; made from the landmarks and the eyes' joints")
        return made | regions
    notes.append(
        f"{places.model.parent}: no FLAME_masks.pkl; the face's region is made from its landmarks; the file lies on "
        f"flame.is.tue.mpg.de and in MICA's data/FLAME2020/FLAME_masks"
    )
    return made_regions(arrays, ibug)


def _eyelids(
    places: FlamePlaces, arrays: FlameArrays, landmarks: tuple[Embedding, Embedding], notes: list[str]
) -> np.ndarray:
    """(V, 3, 2) shapes of the shut lids: the files', else made for the topology."""
    if places.left_lid is not None and places.right_lid is not None:
        return np.stack([_lid(path, len(arrays.template)) for path in (places.left_lid, places.right_lid)], -1)
    made = eyelid_shapes(arrays.template, arrays.triangles, arrays.skin_weights, landmarks)
    if made is None:
        notes.append(f"{places.model}: has no eyeballs to make eyelid shapes for; blinks are left to the expression")
        return np.zeros((len(arrays.template), 3, 2), np.float32)
    notes.append(f"{places.model.parent}: no l_eyelid.npy and r_eyelid.npy; eyelid shapes are made from the eyes' rims")
    return made


def _lid(path: Path, vertex_count: int) -> np.ndarray:
    try:
        shape = np.load(path, allow_pickle=False)
    except DAMAGE as error:
        raise InputError(
            f"{path}: not the eyelid of {vertex_count} vertices ({one_line(error)}); get it again"
        ) from error
    if shape.shape != (vertex_count, 3):
        raise InputError(f"{path}: has shape {shape.shape}, the model needs {(vertex_count, 3)}; get the right one")
    return shape.astype(np.float32)
