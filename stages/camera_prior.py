"""What the config and the crop say of the camera before anything is solved."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.camera_file import known_camera
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.config import Config

if TYPE_CHECKING:
    from tracker.joint_problem import CameraPrior


def prior_config(config: Config) -> dict[str, Any]:
    """The part of the config that the camera's mean depends on; its spread has keys of the calibration."""
    return {
        "focal_length": config.focal_length,
        "camera_file": config.camera_file,
        "fix_principal_point": config.fix_principal_point,
        "calibration": {"focal_factor": config.calibration.focal_factor},
    }


def camera_files(config: Config) -> list[Path]:
    """`camera_file`, if it is there; empty otherwise."""
    camera = Path(config.camera_file)
    return [camera] if config.camera_file and camera.is_file() else []


def camera_prior(subject: Subject, config: Config, warn: bool = True) -> "CameraPrior":
    """Prior of the crop's camera from the full picture's; a known one has no spread.

    Args:
        subject: whose crop.
        config: the run's.
        warn: say that the lens of `camera_file` bends straight lines.

    Raises:
        InputError: `camera_file` is missing, damaged, or of another picture.
    """
    from tracker.joint_problem import CameraPrior

    crop = subject.load_crop()
    height, width = crop.source_size
    if config.camera_file:
        mean = crop.crop_intrinsics(known_camera(Path(config.camera_file), crop.source_size, warn))
        return CameraPrior(mean.focal_px, 0.0, (mean.cx_px, mean.cy_px), 0.0)
    longer = max(height, width)
    known = config.focal_length is not None
    focal = config.focal_length if config.focal_length is not None else config.calibration.focal_factor * longer
    mean = crop.crop_intrinsics(Intrinsics(focal, width / 2, height / 2))
    centre, centre_std = (mean.cx_px, mean.cy_px), config.calibration.centre_std * longer * crop.scale
    if config.fix_principal_point:
        centre, centre_std = (crop.crop_size[1] / 2, crop.crop_size[0] / 2), 0.0
    return CameraPrior(mean.focal_px, 0.0 if known else config.calibration.focal_log_std, centre, centre_std)
