"""Files of other people that the tracker can use: what each adds, where it lies, comes from, and under which terms.

A table to be read and changed. The head models' files are searched by the tracker's own rules (`stages.asset_places`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages import asset_places
from stages.asset_places import ASSETS, Choice, Folders
from tracker.detectors.fan import WEIGHTS_NAME as FAN_WEIGHTS
from tracker.detectors.hub import checkpoints_dir
from tracker.detectors.scrfd import models_dir
from tracker.head.flame_places import MODEL_NAMES
from tracker.head.ict_files import FACE_X_MODEL, NEUTRAL
from tracker.texture_space import NAMES as TEXTURE_NAMES

_FLAME_SITE = "https://flame.is.tue.mpg.de"
_FLAME_LICENCE = "MPI, non-commercial research (FLAME 2023 Open: CC BY 4.0)"
_FLAME_ACCOUNT = "free account at flame.is.tue.mpg.de"
_NONE = "no"
_S3FD = "s3fd-619a316812.pth"


@dataclass(frozen=True)
class Archive:
    """A zip file to download.

    Attributes:
        url: of the file.
        wanted: names of the members to keep (any folder inside the archive), or of a folder to keep whole.
        account: whether the site asks for user name and password.
    """

    url: str
    wanted: tuple[str, ...]
    account: bool = False


@dataclass(frozen=True)
class Asset:
    """One file or folder.

    Attributes:
        name: for `assets fetch NAME`.
        adds: what becomes better with it.
        origin: page or repository.
        licence: in a few words.
        registration: 'no', or where.
        place: where it is put; given the folders that the user names.
        names: files any of which shows that it is there, best first.
        further: other folders in which it is found.
        search: finds it by the tracker's own rules, instead of `names` in `place` and `further`; is given the folders
            that the user names.
        companion: which of the files around FLAME's model it is; it is then found as the loader finds it.
        archive: how it is fetched; None where a library does it, or nobody but you.
        library: the library that fetches it: 'face-alignment' or 'insightface'; empty otherwise.
    """

    name: str
    adds: str
    origin: str
    licence: str
    registration: str
    place: Callable[[Folders], Path]
    names: tuple[str, ...]
    further: tuple[str, ...] = ()
    search: Callable[[Folders], Path | None] | None = None
    companion: Choice | None = None
    archive: Archive | None = None
    library: str = ""

    @property
    def can_be_fetched(self) -> bool:
        """Whether `assets fetch` knows how."""
        return self.archive is not None or bool(self.library)

    def folder(self, folders: Folders = ()) -> Path:
        """Where it is put, given the folders that the user names."""
        return self.place(folders)


def _fixed(path: Path) -> Callable[[Folders], Path]:
    return lambda _folders: path


CATALOGUE = (
    Asset(
        "flame",
        "head model of 5023 vertices from scans of 3800 people, the one that most readers expect; MICA's codes apply",
        _FLAME_SITE,
        _FLAME_LICENCE,
        _FLAME_ACCOUNT,
        _fixed(asset_places.FLAME_DIR),
        MODEL_NAMES,
        search=asset_places.flame_model,
        archive=Archive(
            "https://download.is.tue.mpg.de/download.php?domain=flame&sfile=FLAME2020.zip&resume=1",
            ("generic_model.pkl",),
            account=True,
        ),
    ),
    Asset(
        "flame-landmarks",
        "where the 68 points lie on FLAME; needed with it (or FLAME_PyTorch's flame_static_embedding.pkl and "
        "flame_dynamic_embedding.npy)",
        "https://github.com/Zielon/metrical-tracker (data/), also in DECA and MICA",
        _FLAME_LICENCE,
        _NONE,
        asset_places.flame_folder,
        ("landmark_embedding.npy",),
        companion=asset_places.landmarks68,
    ),
    Asset(
        "flame-template",
        "FLAME's mesh with texture coordinates; needed with it (or head_template_uv.obj, head_template_mesh.obj, "
        "uv_template.obj)",
        "https://github.com/yfeng95/DECA (data/), also in MICA (data/FLAME2020/) and metrical-tracker",
        _FLAME_LICENCE,
        _NONE,
        asset_places.flame_folder,
        ("head_template.obj",),
        companion=lambda places: places.template,
    ),
    Asset(
        "flame-facemesh",
        "where 105 of FaceMesh's points lie on FLAME; without it 45 of the 68 points stand for them",
        "https://github.com/Zielon/metrical-tracker (flame/mediapipe/)",
        _FLAME_LICENCE,
        _NONE,
        asset_places.flame_folder,
        ("mediapipe_landmark_embedding.npz",),
        companion=lambda places: places.facemesh,
    ),
    Asset(
        "flame-masks",
        "FLAME's regions: samples on the face alone, no ears and neck",
        _FLAME_SITE,
        _FLAME_LICENCE,
        _NONE,
        asset_places.flame_folder,
        ("FLAME_masks.pkl",),
        companion=lambda places: places.masks,
        archive=Archive("https://files.is.tue.mpg.de/tbolkart/FLAME/FLAME_masks.zip", ("FLAME_masks.pkl",)),
    ),
    Asset(
        "flame-eyelids",
        "FLAME's shut lids (with r_eyelid.npy beside it); without them they are made from the eyes' rims",
        "https://github.com/Zielon/metrical-tracker (flame/blendshapes/)",
        _FLAME_LICENCE,
        _NONE,
        asset_places.flame_folder,
        ("l_eyelid.npy",),
        companion=asset_places.lids,
    ),
    Asset(
        "flame-texture",
        "texture space: `tex` of the checkpoints is fitted",
        _FLAME_SITE,
        "CC BY-NC-SA 4.0",
        _FLAME_ACCOUNT,
        asset_places.flame_folder,
        TEXTURE_NAMES,
        search=asset_places.texture_space,
        archive=Archive(
            "https://download.is.tue.mpg.de/download.php?domain=flame&resume=1&sfile=TextureSpace.zip",
            ("FLAME_texture.npz",),
            account=True,
        ),
    ),
    Asset(
        "mica",
        "identity in metric size from pictures of the clip, with FLAME",
        "https://github.com/Zielon/MICA (its install.sh names the file)",
        "MPI, non-commercial research",
        _FLAME_ACCOUNT,
        _fixed(ASSETS),
        ("mica.tar",),
        further=("data/pretrained",),
    ),
    Asset(
        "ict",
        "head model of 100 identities' modes and 53 ARKit-like expressions, free for any use",
        "https://github.com/ICT-VGL/ICT-FaceKit",
        "MIT",
        _NONE,
        asset_places.ict_folder,
        (f"{FACE_X_MODEL}/{NEUTRAL}",),
        search=asset_places.ict_mesh,
        archive=Archive("https://github.com/ICT-VGL/ICT-FaceKit/archive/HEAD.zip", (f"{FACE_X_MODEL}/", "LICENSE")),
    ),
    Asset(
        "fan",
        "68 points that follow the visible outline; the inner 51 join the fit",
        "https://github.com/1adrianb/face-alignment",
        "BSD 3-Clause",
        _NONE,
        lambda _folders: checkpoints_dir(),
        (FAN_WEIGHTS,),
        library="face-alignment",
    ),
    Asset(
        "s3fd",
        "finds faces that FaceMesh misses",
        "https://github.com/1adrianb/face-alignment",
        "BSD 3-Clause",
        _NONE,
        lambda _folders: checkpoints_dir(),
        (_S3FD,),
        library="face-alignment",
    ),
    Asset(
        "antelopev2",
        "finds faces that FaceMesh misses; MICA's five points as MICA was made with",
        "https://github.com/deepinsight/insightface",
        "insightface, non-commercial research",
        _NONE,
        lambda _folders: models_dir() / "antelopev2",
        ("scrfd_10g_bnkps.onnx", "antelopev2/scrfd_10g_bnkps.onnx"),
        library="insightface",
    ),
    Asset(
        "buffalo_l",
        "the same by another detector; one of the two is enough",
        "https://github.com/deepinsight/insightface",
        "insightface, non-commercial research",
        _NONE,
        lambda _folders: models_dir() / "buffalo_l",
        ("det_10g.onnx", "buffalo_l/det_10g.onnx"),
        library="insightface",
    ),
)


def find(asset: Asset, folders: Folders = ()) -> Path | None:
    """An asset's file, in its own folder or in folders that the user names; None where it is missing."""
    if asset.search is not None:
        return asset.search(folders)
    if asset.companion is not None:
        return asset_places.companion(asset.companion, folders)
    for base in (asset.folder(), *folders):
        for sub in (".", *asset.further):
            for name in asset.names:
                path = Path(os.path.normpath(base / sub / name))
                if path.is_file():
                    return path
    return None
