"""ICT-FaceKit's head model (MIT licence): 100 identity modes and 53 named expressions from its FaceXModel folder.

The OBJ files take most of a minute to read, and the FaceMesh points are found by rendering the head and running the
detector, so the result is kept: one npz file in the project's layout, in a cache folder, named by the source's files
and the version of this conversion. It loads in a fraction of a second and is made anew when the source changes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tracker.atomic_write import write_atomic
from tracker.errors import InputError
from tracker.head import ict_parts, ict_rig
from tracker.head.bias_file import bias_path
from tracker.head.cache import cache_folder, files_digest
from tracker.head.ict_files import IctArrays, Progress, find_folder, read_folder, source_files

if TYPE_CHECKING:
    from tracker.head.model import HeadModel

# Where the folder is looked for when the config names none; relative to where the program runs.
USUAL_PLACES = (Path("assets/FaceXModel"), Path("assets/ICT-FaceKit"), Path("assets/ict_facekit"))
# Changes when the conversion gives other numbers.
_VERSION = 1


def find_ict(path: Path | None = None) -> Path | None:
    """ICT-FaceKit's folder of OBJ files, or None.

    Args:
        path: the folder, or one that holds FaceXModel; None looks at the usual places.
    """
    places = USUAL_PLACES if path is None else (path,)
    return next((folder for folder in map(find_folder, places) if folder is not None), None)


def ict_folder(path: Path | None = None) -> Path:
    """`find_ict`, or an error.

    Raises:
        InputError: there is none.
    """
    folder = find_ict(path)
    if folder is None:
        looked = path if path is not None else ", ".join(map(str, USUAL_PLACES))
        raise InputError(f"{looked}: no FaceXModel folder of ICT-FaceKit; get it from github.com/ICT-VGL/ICT-FaceKit")
    return folder


def cache_path(folder: Path) -> Path:
    """The converted model of a folder of OBJ files, there or not; another one when a file's size or date changes.

    Raises:
        InputError: a file of the model is missing.
    """
    return cache_folder() / f"ict_{files_digest(_VERSION, source_files(folder))}.npz"


def convert_ict(path: Path | None = None, progress: Progress | None = None) -> Path:
    """Makes the converted model, with its FaceMesh points and landmark bias, unless it is there.

    Args:
        path: see `find_ict`.
        progress: told in words how far it is; the whole takes some minutes, once.

    Returns:
        The npz file, which `tracker.head.generic.load_generic` reads.

    Raises:
        InputError: no such folder, or a file in it is missing or damaged.
    """
    from tracker.head.store import load_head, save_head

    folder = ict_folder(path)
    target = cache_path(folder)
    whole = target.is_file() and bias_path(target).is_file()
    if progress is not None and not whole:
        progress(f"ICT-FaceKit: {folder} is converted to {target}, once; takes a few minutes")
    if not target.is_file():
        from tracker.head.embed import embedded

        model = build_ict(read_folder(folder, progress))
        model = embedded(model, progress=progress)
        write_atomic(target, lambda temporary: save_head(model, temporary, half_bases=False, compressed=False))
    if not bias_path(target).is_file():
        from tracker.head.measure_bias import measure_bias

        bias = measure_bias(load_head(target), progress=progress)
        write_atomic(bias_path(target), bias.save)
    return target


def load_ict(path: Path | None = None, progress: Progress | None = None) -> "HeadModel":
    """The model, converted if need be; see `convert_ict`."""
    from tracker.head.generic import load_generic

    return load_generic(convert_ict(path, progress))


def build_ict(arrays: IctArrays) -> "HeadModel":
    """The head model of the published arrays, still without FaceMesh points.

    Vertices keep their published numbers, and expressions their published order and names, so that files made for
    ICT-FaceKit's topology apply. The two blinks are the eyelids; their columns are empty. The jaw moves by its shapes.

    Args:
        arrays: from `read_folder`.
    """
    import torch

    from tracker.head.model import Embedding, HeadModel

    template = arrays.template.astype(np.float64)
    uv, uv_triangles = ict_parts.atlas_uv(arrays.uv, arrays.triangles, arrays.uv_triangles)
    lids, expressions = ict_rig.eyelid_basis(arrays.expressions, arrays.names)
    faces, bary = at_vertices(arrays.triangles, arrays.landmarks68)
    none = torch.zeros(0, dtype=torch.int64)
    return HeadModel(
        name="ict",
        template=torch.from_numpy(arrays.template),
        shape_basis=torch.from_numpy(arrays.identity),
        expression_basis=torch.from_numpy(expressions),
        expression_names=arrays.names,
        expression_std=torch.from_numpy(ict_rig.expression_std(arrays.names)),
        expression_bounds=torch.tensor([[0.0, 1.0]]).repeat(len(arrays.names), 1),
        eyelid_basis=torch.from_numpy(lids),
        eyelid_bounds=(0.0, 1.0),
        joint_regressor=torch.from_numpy(ict_rig.joint_regressor(template, arrays.expressions, arrays.names)),
        skin_weights=torch.from_numpy(ict_rig.skin_weights(template)),
        triangles=torch.from_numpy(arrays.triangles),
        uv=torch.from_numpy(uv),
        uv_triangles=torch.from_numpy(uv_triangles),
        landmarks68=Embedding(torch.from_numpy(faces), torch.from_numpy(bary), torch.arange(68)),
        landmarks478=Embedding(none, torch.zeros(0, 3), none.clone()),
        regions={
            name: torch.from_numpy(chosen) for name, chosen in ict_parts.regions(template, arrays.landmarks68).items()
        },
    )


def at_vertices(triangles: np.ndarray, vertex_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric points at vertices: (N,) the first triangle of each, and (N, 3) float32."""
    first = np.full(int(triangles.max()) + 1, -1)
    first[triangles[::-1].ravel()] = np.repeat(np.arange(len(triangles))[::-1], 3)
    faces = first[vertex_ids]
    return faces, (triangles[faces] == vertex_ids[:, None]).astype(np.float32)
