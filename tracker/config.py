"""Typed configuration of one subject's run. The only place where a default lives.

Names and meanings are metrical-tracker's where it has them, so that its YAML files run here. Reading YAML, overrides
and error messages are in `stages/config_file.py`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tracker.settings import CalibrationSettings, EnergySettings, SmootherSettings, TrackingSettings

SETTINGS = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

# Keys of metrical-tracker's configs/config.py (all its versions) that steer its Adam schedule or name files which this
# project finds with its head models. They are accepted, so that its YAML files run, and change nothing.
LEGACY_KEYS = frozenset(
    {
        "rotation_lr",
        "translation_lr",
        "raster_update",
        "pyr_levels",
        "sampling",
        "iters",
        "kernel_size",
        "sigma",
        "w_pho",
        "w_lmks",
        "w_lmks_lid",
        "w_lmks_mouth",
        "w_lmks_iris",
        "w_lmks_oval",
        "w_exp",
        "w_shape",
        "w_tex",
        "w_jaw",
        "flame_template_path",
        "flame_lmk_path",
    }
)


# What each profile sets where the file does not. preview is for a first look at a clip: landmarks and one pyramid
# level of small pictures (on clips with truth a level of 256 pixels alone turned out better than one of 512 alone: it
# reaches farther), half the samples, one round of calibration, no source, mesh and depth files, no PNG at all, small
# review frames.
PROFILES: dict[str, dict[str, Any]] = {
    "full": {},
    "preview": {
        "source_format": "none",
        "image_size": (256, 256),
        "crop_format": "bmp",
        "write_meshes": False,
        "write_depth": False,
        "calibration": {"frames": 6, "samples": 1200, "rounds": 1, "joint_steps": 2, "texture_size": 256},
        "tracking": {"levels": 1, "samples": 1200},
        "review": {"panel_px": 256, "jpeg_quality": 85},
    },
}


class ReviewSettings(BaseModel):
    """The review frames and the video that joins them."""

    model_config = SETTINGS

    panel_px: int = Field(
        1024, ge=64, le=4096, description="Width of each of the four panels of a review frame at most, pixels."
    )
    jpeg_quality: int = Field(92, ge=1, le=100, description="Quality of the review frames video/%05d.jpg, 1 to 100.")
    crf: int = Field(20, ge=0, le=51, description="H.264 constant rate factor of video.mp4; 0 lossless, 51 worst.")


class ProviderSettings(BaseModel):
    """Which detectors are asked; `auto` takes what is on the machine, says what it found and where it looked."""

    model_config = SETTINGS

    landmarks: Literal["auto", "fan", "facemesh478"] = Field(
        "auto",
        description="Source of the 68 points: face-alignment's 2DFAN4 (its weights must be on the machine), the 478 "
        "points, or auto: the first that is there.",
    )
    boxes: Literal["auto", "insightface", "face-alignment", "facemesh"] = Field(
        "auto",
        description="Who looks for faces that FaceMesh does not find by itself, and for MICA's five points: "
        "insightface (antelopev2 or buffalo_l), face-alignment's detectors, mediapipe alone, or auto: the first that "
        "is there.",
    )


class Config(BaseModel):
    """Everything a run depends on besides the files of the subject."""

    model_config = SETTINGS

    actor: str = Field(
        min_length=1,
        description="Folder of the subject (input/<name>), or one video or picture file; relative to where you run.",
    )
    config_name: str = Field(
        "", description="Name of the folder in save_folder; empty: the config file's name without .yml."
    )
    save_folder: str = Field("./output/", min_length=1, description="Folder that receives one folder a subject.")
    profile: Literal["full", "preview"] = Field(
        "full", description="preview: other defaults, for a fast first look (see below); keys that you set win."
    )

    fps: float = Field(25.0, gt=0, le=1000, description="Frames a second taken from the video, Hz.")
    source_format: Literal["png", "jpg", "none"] = Field(
        "png",
        description="Format of source/ frames: png is lossless, jpg takes about a tenth of the disk, none leaves them "
        "in the video.",
    )
    begin_frames: int = Field(0, ge=0, description="Frames left out at the start of the clip, frames.")
    end_frames: int = Field(0, ge=0, description="Frames left out at the end of the clip, frames.")

    image_size: tuple[int, int] = Field(
        (512, 512),
        description="Size of the tracked picture (height, width) or one number for a square, pixels, 64 to 4096, even.",
    )
    crop_image: bool = Field(
        True, description="Crop to the head; false: the whole frame, scaled to fit image_size without distortion."
    )
    crop_format: Literal["png", "bmp"] = Field(
        "png",
        description="Format of images/ frames, both lossless: png is packed, bmp takes three times the disk and a "
        "tenth of the time.",
    )
    crop: Literal["median", "first"] = Field(
        "median", description="Box from the median landmarks of a sample of the clip, or from the first frame."
    )
    bbox_scale: float = Field(
        2.5, ge=1, le=10, description="Side of the crop as a multiple of the landmarks' longer extent, ratio."
    )

    face: int = Field(
        0, ge=0, le=9, description="Which face to follow where there are several, by size: 0 the largest, 1 the next."
    )
    head: Literal["auto", "flame", "ict", "generic"] = Field(
        "auto",
        description="Head model; auto: FLAME if its file is there, else ICT-FaceKit if its folder is, else the generic "
        "head.",
    )
    head_path: str = Field("", description="File or folder of the head model; empty: the model's usual place.")
    flame_geom_path: str = Field(
        "assets/FLAME2020/generic_model.pkl", description="FLAME geometry file, or the folder that holds it."
    )
    num_shape_params: int = Field(300, ge=0, le=500, description="Identity modes used, at most what the model has.")
    num_exp_params: int = Field(100, ge=0, le=500, description="Expression modes used, at most what the model has.")

    tex_space_path: str = Field(
        "",
        description="FLAME's texture space, FLAME_texture.npz or FLAME_albedo_from_BFM.npz; empty: the one beside "
        "the FLAME model, if any.",
    )
    tex_params: int = Field(140, ge=1, le=500, description="Coefficients of the texture space in flame.tex.")

    mica_path: str = Field(
        "assets/mica.tar",
        description="MICA's weights; with FLAME and without an identity.npy of yours they give the identity.",
    )
    mica_frames: int = Field(
        8, ge=1, le=100, description="Frames that MICA sees: the most frontal, neutral and sharp ones, apart in time."
    )
    keyframes: tuple[int, ...] = Field(
        (),
        description="Frames of the joint calibration, counted after begin_frames; `auto` or empty: spread in yaw and "
        "pitch, with closed lids and an open mouth.",
    )
    optimize_shape: bool = Field(False, description="Fit identity in the calibration; false: keep the given one.")
    optimize_jaw: bool = Field(False, description="Fit the jaw rotation besides the expression.")
    focal_length: float | None = Field(
        None, gt=0, description="Known focal length of the uncropped picture, pixels; empty: estimated."
    )
    camera_file: str = Field(
        "",
        description="Calibration file of a known camera (OpenCV's .yml .xml .json, or .npz or .json with K); holds "
        "focal length and principal point. Empty: none.",
    )
    fix_principal_point: bool = Field(
        False, description="Hold the principal point at the centre of the tracked picture (some readers drop it)."
    )

    write_meshes: bool = Field(True, description="Write mesh/, a PLY a frame.")
    write_depth: bool = Field(True, description="Write depth/, a 16-bit picture a frame.")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where torch finds it, else CPU.")

    providers: ProviderSettings = Field(ProviderSettings(), description="Detectors of landmarks and faces.")
    energy: EnergySettings = Field(EnergySettings(), description="Noise of the data, spread of the priors.")
    calibration: CalibrationSettings = Field(CalibrationSettings(), description="Joint solve.")
    tracking: TrackingSettings = Field(TrackingSettings(), description="Per-frame solve.")
    smoother: SmootherSettings = Field(SmootherSettings(), description="Smoothing over time.")
    review: ReviewSettings = Field(ReviewSettings(), description="Review frames and video.")

    @field_validator("image_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        """One number stands for a square."""
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("image_size")
    @classmethod
    def _image_size_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side < 64 or side > 4096 or side % 2 for side in value):
            raise ValueError("expected even sides from 64 to 4096 pixels")
        return value

    @field_validator("keyframes")
    @classmethod
    def _keyframes_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(index < 0 for index in value) or len(set(value)) != len(value):
            raise ValueError("expected distinct frame numbers from 0")
        return value

    @field_validator("config_name")
    @classmethod
    def _one_folder(cls, value: str) -> str:
        if "/" in value or "\\" in value or value in (".", ".."):
            raise ValueError("expected a plain folder name")
        return value

    @model_validator(mode="after")
    def _square_crop(self) -> "Config":
        if self.crop_image and self.image_size[0] != self.image_size[1]:
            raise ValueError("image_size must be square when crop_image is true")
        return self

    @model_validator(mode="after")
    def _one_camera(self) -> "Config":
        both = [name for name in ("focal_length", "fix_principal_point") if self.camera_file and getattr(self, name)]
        if both:
            raise ValueError(f"expected camera_file or {both[0]}, not both: the file holds it; remove one")
        return self


def field_paths(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Dotted paths of all fields, sections included, in the order of declaration."""
    paths = []
    for name, info in model.model_fields.items():
        paths.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            paths += field_paths(info.annotation, f"{prefix}{name}.")
    return paths


def with_profile(data: dict[str, Any]) -> dict[str, Any]:
    """Fills in what the profile named in a config file's data sets and the data does not.

    Args:
        data: keys and values as a file gives them; sections are dicts.

    Returns:
        The data with the profile's keys; unchanged where it names no profile or an unknown one, which `Config` refuses.
    """
    filled = dict(data)
    for key, value in PROFILES.get(str(data.get("profile")), {}).items():
        given = filled.get(key, {} if isinstance(value, dict) else value)
        filled[key] = {**value, **given} if isinstance(value, dict) and isinstance(given, dict) else given
    return filled
