"""Where the head models' files lie: asked of the functions that the tracker itself calls.

Folders that the user names are looked through after the places where the tracker looks by itself.
"""

from collections.abc import Callable
from pathlib import Path

from tracker.config import Config
from tracker.head.flame_places import FlamePlaces, find_companions, find_flame, model_file
from tracker.head.ict import find_ict
from tracker.head.ict_files import FACE_X_MODEL, NEUTRAL
from tracker.head_choice import flame_path
from tracker.texture_space import find_texture_space

Folders = tuple[Path, ...]
Choice = Callable[[FlamePlaces], Path | None]
ASSETS = Path("assets")
FLAME_DIR = ASSETS / "FLAME2020"
ICT_DIR = ASSETS / "ICT-FaceKit"
# What `assets fetch flame` leaves there.
_USUAL_MODEL = FLAME_DIR / "generic_model.pkl"
# Below a folder that the user names, where files of FLAME may lie apart from the model.
_DATA_FOLDERS = (".", "FLAME2020", "data", "data/FLAME2020")
# metrical-tracker's folders of FaceMesh's points and the lids: seen from a model's folder only where that is there.
_APART_FOLDERS = (*_DATA_FOLDERS, "flame/mediapipe", "flame/blendshapes")


def flame_model(folders: Folders = ()) -> Path | None:
    """FLAME's model file, the one that an empty config stands for first; None where there is none."""
    own = model_file(flame_path(Config(actor=".")))
    return own or next((file for file in map(find_flame, folders) if file is not None), None)


def flame_folder(folders: Folders = ()) -> Path:
    """Where FLAME's companions belong: beside the model that is there, else where it would be put."""
    return (flame_model(folders) or _USUAL_MODEL).parent


def companion(choose: Choice, folders: Folders = ()) -> Path | None:
    """One of the files that the loader finds around the model."""
    return choose(find_companions(flame_model(folders) or _USUAL_MODEL))


def companion_apart(choose: Choice, folders: Folders) -> Path | None:
    """Such a file in the user's folders, where the loader, which looks around the model, passes it by."""
    parts = (folder / sub / _USUAL_MODEL.name for folder in folders for sub in _APART_FOLDERS)
    return next((file for part in parts if (file := choose(find_companions(part))) is not None), None)


def landmarks68(places: FlamePlaces) -> Path | None:
    """The 68 points, in either of their two forms; FLAME_PyTorch's needs both of its files."""
    return places.landmarks or (places.static_landmarks if places.dynamic_landmarks else None)


def lids(places: FlamePlaces) -> Path | None:
    """The left lid's shape, where the right one's is there, too."""
    return places.left_lid if places.right_lid else None


def texture_beside_flame(folders: Folders = ()) -> Path | None:
    """The texture space that is taken with FLAME's model when `tex_space_path` is empty."""
    return find_texture_space("", [flame_model(folders) or _USUAL_MODEL])


def texture_space(folders: Folders = ()) -> Path | None:
    """That, else one in the user's folders."""
    places = (folder / sub / _USUAL_MODEL.name for folder in folders for sub in _DATA_FOLDERS)
    apart = (find_texture_space("", [place]) for place in places)
    return texture_beside_flame(folders) or next((file for file in apart if file is not None), None)


def ict_mesh(folders: Folders = ()) -> Path | None:
    """The mean face of ICT-FaceKit's folder, the tracker's usual places first; None where there is none."""
    found = find_ict() or next((place for place in map(find_ict, folders) if place is not None), None)
    return found / NEUTRAL if found is not None else None


def ict_folder(folders: Folders = ()) -> Path:
    """Where FaceXModel belongs: where the one lies that is used, else where it would be put."""
    mesh = ict_mesh(folders)
    return mesh.parent.parent if mesh is not None and mesh.parent.name == FACE_X_MODEL else ICT_DIR
