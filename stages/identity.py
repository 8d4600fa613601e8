"""Stage identity: where the subject's shape comes from; written to identity.json for the calibration.

identity.json: `source` ('file': the FLAME shape code of identity.npy; 'mica': the code that MICA's networks give to
frames of the clip; 'joint': estimated with the camera), `head` (name of the head model), `shape` (the 300 coefficients,
or null), `reason` (one sentence), `mica` (weights, runtime, frames, spread; null without it).
"""

from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.camera_prior import camera_files, prior_config
from stages.context import StageContext
from stages.subject import Subject
from tracker.config import Config
from tracker.detectors.providers import five_points_provider
from tracker.errors import InputError
from tracker.head_choice import head_name

NAME = "identity"
RESUMES = False


def config_part(config: Config) -> dict[str, Any]:
    """The head model, with `auto` resolved, and with FLAME what MICA depends on: frames, their points, the camera."""
    part: dict[str, Any] = {"head": head_name(config)}
    if _has_mica(config):
        part |= {"mica_frames": config.mica_frames, "points": five_points_provider(config.providers.boxes).name}
        part |= {"begin_frames": config.begin_frames, "end_frames": config.end_frames}
        part |= prior_config(config)
    return part


def inputs(subject: Subject, config: Config) -> list[Path]:
    """What MICA depends on: its files, the detector's, the camera's, pictures; else identity.npy, if it is there."""
    if not _runs_mica(subject, config):
        return [subject.identity_path] if subject.identity_path.exists() else []
    weights = Path(config.mica_path)
    export = weights.with_suffix(".onnx")
    pictures = [subject.images_dir, subject.kpt_dense_dir, subject.crop_path]
    detector = five_points_provider(config.providers.boxes).files
    return [weights, *([export] if export.is_file() else []), *detector, *camera_files(config), *pictures]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """The record, and MICA's folder. identity.npy is a copy for other programs, which several configs may share."""
    return [subject.identity_record_path, *([subject.mica_dir] if _runs_mica(subject, config) else [])]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Checks identity.npy, also where the head model cannot use it, or runs MICA; records what to calibrate with.

    Raises:
        InputError: identity.npy is not a finite (300,) array; mica.tar is damaged, or not where the config says; with
            MICA, `camera_file` is missing or damaged.
    """
    head = head_name(config)
    code, mica, source = None, None, "joint"
    if _runs_mica(subject, config):
        from stages.mica_code import run_mica

        result = run_mica(subject, config, context.device)
        if result is None:
            reason = f"no frame with a face for {config.mica_path}; identity is estimated with the camera"
        else:
            source, code, mica = "mica", result.code, result.record
            subject.save_identity(code)
            reason = f"{config.mica_path} on {len(mica['frames'])} frames"
    elif subject.identity_path.exists():
        code, source, reason = _from_file(subject, head)
    elif head == "flame" and config.mica_path != Config.model_fields["mica_path"].default:
        raise InputError(f"mica_path: {config.mica_path} does not exist; correct it, or leave it out")
    elif Path(config.mica_path).is_file():
        reason = f"{config.mica_path} makes FLAME codes and the head model is {head}; identity is estimated instead"
    else:
        reason = f"no identity.npy, no {config.mica_path}; identity is estimated with the camera"
    logger.info(f"identity: {reason}")
    shape = None if code is None else code.tolist()
    record = {"source": source, "head": head, "shape": shape, "reason": reason, "mica": mica}
    files.write_json(subject.identity_record_path, record)
    context.notes["source"] = source


def _from_file(subject: Subject, head: str) -> tuple[np.ndarray | None, str, str]:
    """Code, source and reason from identity.npy: the user's, or MICA's of an earlier run whose weights are gone.

    Raises:
        InputError: not a finite (300,) array, also where the head model cannot use it.
    """
    code, path = subject.load_identity(), subject.identity_path
    if head != "flame":
        return None, "joint", f"{path} is a FLAME code and the head model is {head}; identity is estimated instead"
    if subject.identity_is_given():
        return code, "file", f"{path} given"
    return code, "mica", f"{path}, by MICA in an earlier run"


def _runs_mica(subject: Subject, config: Config) -> bool:
    """Whether the networks are asked."""
    return _has_mica(config) and not subject.identity_is_given()


def _has_mica(config: Config) -> bool:
    """Whether MICA's weights are there and the head model can use its code."""
    return head_name(config) == "flame" and Path(config.mica_path).is_file()
