"""Where the files of a FLAME model lie: beside it, or where the public repositories keep them.

A folder of one's own holds all of them. metrical-tracker's install script leaves the model in data/FLAME2020/, the
masks there in a folder of their own, landmarks and UV template in data/, FaceMesh's embedding and the eyelids in
flame/ of the repository; MICA and DECA keep subsets of that.
"""

from dataclasses import dataclass, fields
from pathlib import Path

# generic_model is that of FLAME 2017, 2019 and 2020.
MODEL_NAMES = (
    "generic_model.pkl",
    "flame2023.pkl",
    "flame2023_Open.pkl",
    "generic_model.npz",
)
# FLAME 2017 to 2023 hold 400 modes: 300 of identity, then 100 of expression (Li et al. 2017; every public loader).
FULL_SHAPE, FULL_EXPRESSION = 300, 100
# Below a folder that is given, where the model may lie.
_MODEL_FOLDERS = (".", "FLAME2020", "FLAME2023", "FLAME2017", "data/FLAME2020", "flame_model")
# Seen from the model's folder, where the others may lie.
_COMPANION_FOLDERS = (
    ".",
    "FLAME_masks",
    "..",
    "../FLAME_masks",
    "../mesh",
    "../../flame/mediapipe",
    "../../flame/blendshapes",
)
_NAMES: dict[str, tuple[str, ...]] = {
    "landmarks": ("landmark_embedding.npy",),
    "static_landmarks": ("flame_static_embedding.pkl",),
    "dynamic_landmarks": ("flame_dynamic_embedding.npy",),
    "facemesh": ("mediapipe_landmark_embedding.npz",),
    "template": (
        "head_template_uv.obj",
        "head_template_mesh.obj",
        "head_template.obj",
        "uv_template.obj",
    ),
    "masks": ("FLAME_masks.pkl",),
    "left_lid": ("l_eyelid.npy",),
    "right_lid": ("r_eyelid.npy",),
}


@dataclass(frozen=True)
class FlamePlaces:
    """Files of one FLAME model; None for what is not there.

    Attributes:
        model: the model file.
        landmarks: iBUG's points, DECA's and metrical-tracker's file.
        static_landmarks: iBUG's inner 51 points, FLAME_PyTorch's file.
        dynamic_landmarks: the contour that belongs to those.
        facemesh: 105 of FaceMesh's points.
        template: mesh with texture coordinates.
        masks: regions.
        left_lid: shape of the shut left lid.
        right_lid: of the right one.
    """

    model: Path
    landmarks: Path | None = None
    static_landmarks: Path | None = None
    dynamic_landmarks: Path | None = None
    facemesh: Path | None = None
    template: Path | None = None
    masks: Path | None = None
    left_lid: Path | None = None
    right_lid: Path | None = None

    @property
    def files(self) -> list[Path]:
        """Those that are there, the model first."""
        found = (getattr(self, field.name) for field in fields(self))
        return [path for path in found if path is not None]


def find_flame(folder: Path) -> Path | None:
    """The model file of a FLAME folder, or of a folder that holds one in its usual place; None where there is none."""
    for sub in _MODEL_FOLDERS:
        for name in MODEL_NAMES:
            file = folder / sub / name
            if file.is_file():
                return file
    return None


def model_file(path: Path) -> Path | None:
    """The model file that a path stands for: itself, or the one of a folder; None where there is none."""
    if path.is_dir():
        return find_flame(path)
    return path if path.is_file() else None


def is_flame(path: Path) -> bool:
    """Whether a path is a folder with a FLAME model, or by its name a model file."""
    if path.is_dir():
        return find_flame(path) is not None
    return path.is_file() and (path.suffix == ".pkl" or path.name in MODEL_NAMES)


def flame_files(path: Path) -> list[Path]:
    """The files that a FLAME model is read from, by its file or folder; empty where there is no model."""
    file = model_file(path)
    return [] if file is None else find_companions(file).files


def find_companions(model: Path) -> FlamePlaces:
    """The files that belong to a model file."""
    found: dict[str, Path] = {}
    for role, names in _NAMES.items():
        candidates = (model.parent / sub / name for sub in _COMPANION_FOLDERS for name in names)
        file = next((path for path in candidates if path.is_file()), None)
        if file is not None:
            found[role] = file
    return FlamePlaces(model, **found)
