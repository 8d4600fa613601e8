"""Files of other people that the tracker can use: what each adds, where it lies, comes from, and under which terms.

A table to be read and changed: nothing here looks at a file.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tracker.detectors.fan import WEIGHTS_NAME as FAN_WEIGHTS
from tracker.detectors.hub import checkpoints_dir
from tracker.detectors.scrfd import models_dir

ASSETS = Path("assets")
FLAME_DIR = ASSETS / "FLAME2020"
ICT_DIR = ASSETS / "ICT-FaceKit"

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
        folder: where it is put.
        names: files any of which shows that it is there, best first.
        further: other folders in which it is found.
        archive: how it is fetched; None where a library does it, or nobody but you.
        library: the library that fetches it: 'face-alignment' or 'insightface'; empty otherwise.
    """

    name: str
    adds: str
    origin: str
    licence: str
    registration: str
    folder: Callable[[], Path]
    names: tuple[str, ...]
    further: tuple[str, ...] = ()
    archive: Archive | None = None
    library: str = ""

    @property
    def can_be_fetched(self) -> bool:
        """Whether `assets fetch` knows how."""
        return self.archive is not None or bool(self.library)


def _fixed(path: Path) -> Callable[[], Path]:
    return lambda: path


CATALOGUE = (
    Asset(
        "flame",
        "head model of 5023 vertices from scans of 3800 people, the one that most readers expect; MICA's codes apply",
        _FLAME_SITE,
        _FLAME_LICENCE,
        _FLAME_ACCOUNT,
        _fixed(FLAME_DIR),
        ("generic_model.pkl", "flame2023.pkl", "flame2023_Open.pkl", "generic_model.npz"),
        further=("../flame", "FLAME2020", "data/FLAME2020", "FLAME2023", "data"),
        archive=Archive(
            "https://download.is.tue.mpg.de/download.php?domain=flame&sfile=FLAME2020.zip&resume=1",
            ("generic_model.pkl",),
            account=True,
        ),
    ),
    Asset(
        "flame-landmarks",
        "where the 68 points lie on FLAME; needed with it",
        "https://github.com/Zielon/metrical-tracker (data/), also in DECA and MICA",
        _FLAME_LICENCE,
        _NONE,
        _fixed(FLAME_DIR),
        ("landmark_embedding.npy",),
        further=("../flame", "data"),
    ),
    Asset(
        "flame-facemesh",
        "where 105 of FaceMesh's points lie on FLAME; needed with it",
        "https://github.com/Zielon/metrical-tracker (flame/mediapipe/)",
        _FLAME_LICENCE,
        _NONE,
        _fixed(FLAME_DIR),
        ("mediapipe_landmark_embedding.npz",),
        further=("../flame", "flame/mediapipe", "../flame/mediapipe", "../../flame/mediapipe"),
    ),
    Asset(
        "flame-masks",
        "FLAME's regions: samples on the face alone, no ears and neck",
        _FLAME_SITE,
        _FLAME_LICENCE,
        _NONE,
        _fixed(FLAME_DIR),
        ("FLAME_masks.pkl",),
        further=("../flame", "FLAME_masks", "FLAME2020/FLAME_masks", "data/FLAME2020/FLAME_masks"),
        archive=Archive("https://files.is.tue.mpg.de/tbolkart/FLAME/FLAME_masks.zip", ("FLAME_masks.pkl",)),
    ),
    Asset(
        "flame-texture",
        "texture space: `tex` of the checkpoints is fitted",
        _FLAME_SITE,
        "CC BY-NC-SA 4.0",
        _FLAME_ACCOUNT,
        _fixed(FLAME_DIR),
        ("FLAME_texture.npz", "FLAME_albedo_from_BFM.npz"),
        further=("../flame", "FLAME2020", "data/FLAME2020"),
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
        _fixed(ICT_DIR),
        ("FaceXModel/generic_neutral_mesh.obj", "generic_neutral_mesh.obj"),
        further=("..", "../ict_facekit"),
        archive=Archive("https://github.com/ICT-VGL/ICT-FaceKit/archive/HEAD.zip", ("FaceXModel/", "LICENSE")),
    ),
    Asset(
        "fan",
        "68 points that follow the visible outline; the inner 51 join the fit",
        "https://github.com/1adrianb/face-alignment",
        "BSD 3-Clause",
        _NONE,
        checkpoints_dir,
        (FAN_WEIGHTS,),
        library="face-alignment",
    ),
    Asset(
        "s3fd",
        "finds faces that FaceMesh misses",
        "https://github.com/1adrianb/face-alignment",
        "BSD 3-Clause",
        _NONE,
        checkpoints_dir,
        (_S3FD,),
        library="face-alignment",
    ),
    Asset(
        "antelopev2",
        "finds faces that FaceMesh misses; MICA's five points as MICA was made with",
        "https://github.com/deepinsight/insightface",
        "insightface, non-commercial research",
        _NONE,
        lambda: models_dir() / "antelopev2",
        ("scrfd_10g_bnkps.onnx", "antelopev2/scrfd_10g_bnkps.onnx"),
        library="insightface",
    ),
    Asset(
        "buffalo_l",
        "the same by another detector; one of the two is enough",
        "https://github.com/deepinsight/insightface",
        "insightface, non-commercial research",
        _NONE,
        lambda: models_dir() / "buffalo_l",
        ("det_10g.onnx", "buffalo_l/det_10g.onnx"),
        library="insightface",
    ),
)


def find(asset: Asset, folders: tuple[Path, ...] = ()) -> Path | None:
    """An asset's file, in its own folder or in folders that the user names; None where it is missing."""
    for base in (asset.folder(), *folders):
        for sub in (".", *asset.further):
            for name in asset.names:
                path = Path(os.path.normpath(base / sub / name))
                if path.is_file():
                    return path
    return None
