"""Stage identity: where the subject's shape comes from; written to identity.json for the calibration.

identity.json: `source` ('file': the FLAME shape code of identity.npy; 'mica': the code that MICA's networks give to
frames of the clip; 'joint': estimated with the camera), `head` (name of the head model), `shape` (the 300 coefficients,
or null), `reason` (one sentence), `mica` (weights, runtime, frames, spread; null without it).
"""

from pathlib import Path
from typing import Any

from loguru import logger

from stages import files
from stages.context import StageContext
from stages.subject import Subject
from tracker.config import Config
from tracker.detectors.providers import five_points_provider
from tracker.errors import InputError
from tracker.head_choice import head_name

NAME = "identity"
RESUMES = False


def config_part(config: Config) -> dict[str, Any]:
    """The head model, with `auto` resolved, and with FLAME what MICA depends on."""
    part: dict[str, Any] = {"head": head_name(config)}
    if _has_mica(config):
        part |= {"mica_frames": config.mica_frames, "points": five_points_provider(config.providers.boxes)}
        part |= {"begin_frames": config.begin_frames, "end_frames": config.end_frames}
    return part


def inputs(subject: Subject, config: Config) -> list[Path]:
    """The user's identity.npy, if it is there; else MICA's weights and export, pictures and landmarks."""
    if subject.identity_is_given():
        return [subject.identity_path]
    if not _has_mica(config):
        return []
    weights = Path(config.mica_path)
    export = weights.with_suffix(".onnx")
    pictures = [subject.images_dir, subject.kpt_dense_dir, subject.crop_path]
    return [weights, *([export] if export.is_file() else []), *pictures]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """The record, and MICA's folder. identity.npy is a copy for other programs, which several configs may share."""
    runs = _has_mica(config) and not subject.identity_is_given()
    return [subject.identity_record_path, *([subject.mica_dir] if runs else [])]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Checks identity.npy, also where the head model cannot use it, or runs MICA; records what to calibrate with.

    Raises:
        InputError: identity.npy is not a finite (300,) array; mica.tar is damaged, or not where the config says.
    """
    head = head_name(config)
    code = subject.load_identity() if subject.identity_is_given() else None
    mica: dict[str, Any] | None = None
    source = "joint"
    if code is not None:
        if head == "flame":
            source, reason = "file", f"{subject.identity_path} given"
        else:
            reason = (
                f"{subject.identity_path} is a FLAME code and the head model is {head}; identity is estimated instead"
            )
            code = None
    elif _has_mica(config):
        from stages.mica_code import run_mica

        result = run_mica(subject, config, context.device)
        if result is None:
            reason = f"no frame with a face for {config.mica_path}; identity is estimated with the camera"
        else:
            source, code, mica = "mica", result.code, result.record
            subject.save_identity(code)
            reason = f"{config.mica_path} on {len(mica['frames'])} frames"
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


def _has_mica(config: Config) -> bool:
    """Whether MICA's weights are there and the head model can use its code."""
    return head_name(config) == "flame" and Path(config.mica_path).is_file()
