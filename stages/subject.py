"""The subject directory: the only place that names its files.

    input/<actor>/     video, source/, bbox.pt, crop.json, images/, kpt/, kpt_dense/, kpt_provider.json, identity.npy
    output/<name>/     checkpoint/, mesh/, depth/, input/, video/, camera/, initialization/, pyramid/, canonical.obj,
                       mica/, calibration.npz, identity.json, report.json, config.yml, train.log, logs/
    <either>/manifests/<stage>.json  beside the outputs of that stage

Two countings meet here. Pictures in images/, kpt/, kpt_dense/ have 1-based *numbers* (00001.png). Tracked frames have
0-based *indices*: index i explains picture number begin_frames + 1 + i, and names everything in the output folder.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from stages import files, manifest
from stages.records import Crop, Providers
from tracker import torch_zip
from tracker.config import Config
from tracker.errors import InputError
from tracker.file_hash import sha256
from tracker.npy import array_bytes

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv")
IDENTITY_SIZE = 300
# Stages whose outputs lie in the input folder; their manifests lie there too, so that two configs that share an actor,
# or a deleted output folder, cannot be mistaken about what images/ was made from.
INPUT_STAGES = ("frames", "crop", "landmarks")


class Subject:
    """Paths of one subject, and typed, atomic load and save of what lies there."""

    def __init__(self, input_dir: Path, output_dir: Path, begin_frames: int = 0, end_frames: int = 0) -> None:
        """A subject in two folders; nothing is read or made yet.

        Args:
            input_dir: input/<actor>.
            output_dir: output/<name>.
            begin_frames: pictures left out at the start.
            end_frames: pictures left out at the end.
        """
        self.input_dir = input_dir
        self.output_dir = output_dir
        self.begin_frames = begin_frames
        self.end_frames = end_frames
        self.given_file: Path | None = None
        self.image_suffix = ".png"

    @classmethod
    def of(cls, config: Config) -> "Subject":
        """The subject that a config names. An actor that is one file gets the folder of its name without suffix."""
        actor = Path(config.actor)
        given = actor if actor.is_file() else None
        folder = actor.with_suffix("") if given else actor
        subject = cls(folder, Path(config.save_folder) / config.config_name, config.begin_frames, config.end_frames)
        subject.given_file = given
        subject.image_suffix = f".{config.crop_format}"
        return subject

    @property
    def name(self) -> str:
        """Name of the output folder."""
        return self.output_dir.name

    # ---- input folder

    @property
    def source_dir(self) -> Path:
        """Frames of the video, as extracted or as the user put them there."""
        return self.input_dir / "source"

    @property
    def images_dir(self) -> Path:
        """The pictures that are tracked, 00001.png on."""
        return self.input_dir / "images"

    @property
    def kpt_dir(self) -> Path:
        """68 points a picture."""
        return self.input_dir / "kpt"

    @property
    def kpt_dense_dir(self) -> Path:
        """478 points a picture."""
        return self.input_dir / "kpt_dense"

    @property
    def bbox_path(self) -> Path:
        """The crop box in metrical-tracker's format."""
        return self.input_dir / "bbox.pt"

    @property
    def crop_path(self) -> Path:
        """The `Crop` record."""
        return self.input_dir / "crop.json"

    @property
    def providers_path(self) -> Path:
        """The `Providers` record."""
        return self.input_dir / "kpt_provider.json"

    @property
    def identity_path(self) -> Path:
        """The FLAME shape code: the user's, or the stage identity's."""
        return self.input_dir / "identity.npy"

    # ---- output folder

    @property
    def checkpoint_dir(self) -> Path:
        """One .frame file a tracked frame and nothing else."""
        return self.output_dir / "checkpoint"

    @property
    def mesh_dir(self) -> Path:
        """One .ply a tracked frame."""
        return self.output_dir / "mesh"

    @property
    def depth_dir(self) -> Path:
        """One 16-bit .png a tracked frame, millimetres."""
        return self.output_dir / "depth"

    @property
    def explained_dir(self) -> Path:
        """output/<name>/input: the picture that each checkpoint explains."""
        return self.output_dir / "input"

    @property
    def video_dir(self) -> Path:
        """Review frames."""
        return self.output_dir / "video"

    @property
    def camera_dir(self) -> Path:
        """Pictures of the calibration as it converges."""
        return self.output_dir / "camera"

    @property
    def initialization_dir(self) -> Path:
        """Review frames of the keyframes."""
        return self.output_dir / "initialization"

    @property
    def pyramid_dir(self) -> Path:
        """Image pyramid of the first keyframe."""
        return self.output_dir / "pyramid"

    @property
    def calibration_path(self) -> Path:
        """Per-clip unknowns."""
        return self.output_dir / "calibration.npz"

    @property
    def appearance_path(self) -> Path:
        """The unwrapped appearance texture."""
        return self.output_dir / "appearance.npz"

    @property
    def identity_record_path(self) -> Path:
        """Where the identity comes from, see `stages.identity`."""
        return self.output_dir / "identity.json"

    @property
    def mica_dir(self) -> Path:
        """What MICA's demo leaves: identity, landmarks and mesh in millimetres, and arcface/ with what it saw."""
        return self.output_dir / "mica"

    @property
    def canonical_path(self) -> Path:
        """The subject's neutral head."""
        return self.output_dir / "canonical.obj"

    @property
    def timings_path(self) -> Path:
        """Milliseconds of each tracked frame, a line a frame; outside the checkpoints, which repeat bit by bit."""
        return self.output_dir / "timings.csv"

    @property
    def raw_dir(self) -> Path:
        """Frames as tracked, while the smoother still needs them; gone when the stage tracking ends."""
        return self.output_dir / "tracking.partial"

    @property
    def report_path(self) -> Path:
        """Per-frame status and the clip's summary."""
        return self.output_dir / "report.json"

    @property
    def video_avi_path(self) -> Path:
        """Review video, as metrical-tracker names it."""
        return self.output_dir / "video.avi"

    @property
    def video_mp4_path(self) -> Path:
        """Review video that browsers play."""
        return self.output_dir / "video.mp4"

    @property
    def review_record_path(self) -> Path:
        """Figures of the review frames, see `stages.review`."""
        return self.output_dir / "review.json"

    @property
    def review_progress_path(self) -> Path:
        """The same, a line a frame, while the review runs."""
        return self.output_dir / "review.partial.jsonl"

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.output_dir / "config.yml"

    @property
    def log_path(self) -> Path:
        """The log of all runs."""
        return self.output_dir / "train.log"

    @property
    def scalars_dir(self) -> Path:
        """TensorBoard events, one folder a stage."""
        return self.output_dir / "logs"

    def manifest_path(self, stage: str) -> Path:
        """The stage's manifest, beside its outputs."""
        return (self.input_dir if stage in INPUT_STAGES else self.output_dir) / "manifests" / f"{stage}.json"

    @property
    def hash_cache_path(self) -> Path:
        """Remembered content hashes, see `manifest.HashCache`."""
        return self.output_dir / "manifests" / "hashes.cache"

    # ---- pictures by number (1-based)

    def source_paths(self) -> list[Path]:
        """Pictures of source/ in order."""
        return files.list_images(self.source_dir)

    def image_path(self, number: int) -> Path:
        """Picture by its 1-based number."""
        return self.images_dir / f"{number:05d}{self.image_suffix}"

    def image_numbers(self) -> list[int]:
        """Numbers of all pictures in images/, in order."""
        return [int(path.stem) for path in files.list_images(self.images_dir) if path.stem.isdigit()]

    def kpt_path(self, number: int) -> Path:
        """The 68 points of a picture."""
        return self.kpt_dir / f"{number:05d}.npy"

    def kpt_dense_path(self, number: int) -> Path:
        """The 478 points of a picture."""
        return self.kpt_dense_dir / f"{number:05d}.npy"

    # ---- tracked frames by index (0-based)

    def frame_indices(self) -> range:
        """Indices of the tracked frames, after begin_frames and end_frames.

        Raises:
            InputError: nothing is left.
        """
        total = len(self.image_numbers())
        count = total - self.begin_frames - self.end_frames
        if count < 1:
            raise InputError(
                f"{self.images_dir}: begin_frames {self.begin_frames} and end_frames {self.end_frames} leave none of "
                f"its {total} pictures; lower them"
            )
        return range(count)

    def number_of(self, index: int) -> int:
        """1-based number of the picture that a tracked frame explains."""
        return self.begin_frames + 1 + index

    def load_image(self, index: int) -> np.ndarray:
        """Picture of a tracked frame, (H, W, 3) uint8 RGB."""
        return files.read_image(self.image_path(self.number_of(index)))

    def load_kpt(self, index: int) -> np.ndarray:
        """68 points of a tracked frame, (68, 2) float64, continuous pixels; zeros where no face was found."""
        return self._points(self.kpt_path(self.number_of(index)), 68)

    def load_kpt_dense(self, index: int) -> np.ndarray:
        """478 points of a tracked frame, (478, 2) float64, continuous pixels; zeros where no face was found."""
        return self._points(self.kpt_dense_path(self.number_of(index)), 478)

    def checkpoint_path(self, index: int) -> Path:
        """The .frame file of a tracked frame."""
        return self.checkpoint_dir / f"{index:05d}.frame"

    def raw_path(self, index: int) -> Path:
        """A tracked frame before it is smoothed."""
        return self.raw_dir / f"{index:05d}.npz"

    def mesh_path(self, index: int) -> Path:
        """The mesh of a tracked frame."""
        return self.mesh_dir / f"{index:05d}.ply"

    def depth_path(self, index: int) -> Path:
        """The depth picture of a tracked frame."""
        return self.depth_dir / f"{index:05d}.png"

    def explained_path(self, index: int) -> Path:
        """The picture that a tracked frame explains, copied beside the checkpoint."""
        return self.explained_dir / f"{index:05d}{self.image_suffix}"

    def review_path(self, index: int) -> Path:
        """The review frame of a tracked frame."""
        return self.video_dir / f"{index:05d}.jpg"

    def _points(self, path: Path, count: int) -> np.ndarray:
        points = files.read_array(path)
        if points.shape != (count, 2) or not np.isfinite(points).all():
            raise InputError(f"{path}: expected ({count}, 2) finite numbers, found {points.shape}; run landmarks again")
        return points.astype(np.float64)

    # ---- records

    def load_crop(self) -> Crop:
        """The crop record."""
        data = files.read_json(self.crop_path)
        try:
            return Crop(
                box_px=None if data["box_px"] is None else tuple(data["box_px"]),
                box_from=data["box_from"],
                source_to_crop=np.array(data["source_to_crop"], np.float64),
                source_size=tuple(data["source_size"]),
                crop_size=tuple(data["crop_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.crop_path}: damaged ({error}); delete it and run the stage crop again") from error

    def save_crop(self, crop: Crop) -> None:
        """Writes the crop record."""
        files.write_json(self.crop_path, {**vars(crop), "source_to_crop": crop.source_to_crop.tolist()})

    def load_bbox(self) -> np.ndarray:
        """The crop box, (4,) int64 [xmin, xmax, ymin, ymax] in source pixels.

        Raises:
            InputError: damaged, or not four numbers of a box with an extent.
        """
        remedy = "delete it to have it made again"
        try:
            value = self._load_box()
            box = np.asarray(value, np.float64).reshape(-1)
        except torch_zip.NOT_READ as error:
            raise InputError(f"{self.bbox_path}: not a crop box ({type(error).__name__}); {remedy}") from error
        if len(box) != 4 or not np.isfinite(box).all() or box[1] - box[0] < 2 or box[3] - box[2] < 2:
            raise InputError(f"{self.bbox_path}: expected [xmin, xmax, ymin, ymax], found {box.tolist()}; {remedy}")
        return box.astype(np.int64)

    def _load_box(self) -> Any:
        """What bbox.pt holds; a tensor and the format before zip files are left to torch."""
        try:
            return torch_zip.load(self.bbox_path)
        except FileNotFoundError:
            raise
        except torch_zip.NOT_READ:
            import torch

            from tracker.safe_pickle import numpy_allowed

            with numpy_allowed():
                return torch.load(self.bbox_path, weights_only=True)

    def save_bbox(self, box_px: np.ndarray) -> None:
        """Writes the crop box as metrical-tracker does: a `torch.save` file of a numpy array."""
        files.save_torch_arrays(self.bbox_path, np.asarray(box_px, np.int64))

    def load_identity(self) -> np.ndarray:
        """The shape code of identity.npy, (300,) float32.

        Raises:
            InputError: not a .npy array, another size, not finite.
        """
        code = files.read_array(self.identity_path)
        remedy = "replace it with a MICA code, or delete it to have identity estimated"
        if code.size != IDENTITY_SIZE or code.dtype.kind not in "fi":
            raise InputError(
                f"{self.identity_path}: expected ({IDENTITY_SIZE},) numbers, found {code.shape} {code.dtype}; {remedy}"
            )
        if not np.isfinite(code).all():
            raise InputError(f"{self.identity_path}: holds NaN or infinity; {remedy}")
        return code.reshape(-1).astype(np.float32)

    def save_identity(self, code: np.ndarray) -> None:
        """Writes identity.npy and claims it, unless the user's lies there.

        Args:
            code: (300,) FLAME shape coefficients.
        """
        if self.identity_is_given():
            return
        data = array_bytes(np.asarray(code, np.float32))
        # The claim first, and beside the earlier ones: at no moment is there a file of ours without one.
        claims = {*self._identity_claims(), hashlib.sha256(data).hexdigest()}
        files.write_json(self._identity_claims_path, sorted(claims))
        files.write_bytes(self.identity_path, data)

    def identity_is_given(self) -> bool:
        """Whether identity.npy is there and the user's: other bytes than the stage identity has ever written."""
        if not self.identity_path.is_file():
            return False
        return sha256(self.identity_path) not in self._identity_claims()

    @property
    def _identity_claims_path(self) -> Path:
        """Hashes of the identity.npy files that this project has written here."""
        return self.input_dir / "manifests" / "identity_npy.json"

    def _identity_claims(self) -> list[str]:
        return files.read_json(self._identity_claims_path) if self._identity_claims_path.exists() else []

    def load_providers(self) -> Providers:
        """The record of where the landmarks came from."""
        data: dict[str, Any] = files.read_json(self.providers_path)
        try:
            return Providers(data["dense"], data["sparse"], tuple(data["present"]), tuple(data["found_by"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.providers_path}: damaged ({error}); run the stage landmarks again") from error

    def save_providers(self, providers: Providers) -> None:
        """Writes the record of where the landmarks came from, with the count of missing frames."""
        files.write_json(self.providers_path, {**vars(providers), "missing": providers.missing})

    # ---- ownership

    def source_is_given(self) -> bool:
        """Whether source/ holds the user's own frames rather than frames that this project extracted.

        Frames that we extracted and the user then changed (names or sizes differ from the manifest) are the user's.
        """
        if not self.source_paths():
            return False
        made = manifest.read(self.manifest_path("frames"))
        if made is None or self.source_dir.name not in made.outputs:
            return True
        return made.complete and made.outputs[self.source_dir.name] != manifest.listing(self.source_dir)
