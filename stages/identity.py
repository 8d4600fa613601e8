"""Stage identity: where the subject's shape comes from; written to identity.json for the calibration.

identity.json: `source` ('file': the FLAME shape code of identity.npy; 'joint': estimated with the camera), `head` (name
of the head model), `shape` (the 300 coefficients, or null), `reason` (one sentence).
"""

from pathlib import Path
from typing import Any

from loguru import logger

from stages import files
from stages.context import StageContext
from stages.subject import Subject
from tracker.config import Config
from tracker.head_choice import head_name

NAME = "identity"
RESUMES = False

MICA_PATH = Path("assets/mica.tar")


def config_part(config: Config) -> dict[str, Any]:
    """The head model, with `auto` resolved."""
    return {"head": head_name(config)}


def inputs(subject: Subject, config: Config) -> list[Path]:
    """identity.npy, if it is there."""
    return [subject.identity_path] if subject.identity_path.exists() else []


def outputs(subject: Subject, config: Config) -> list[Path]:
    """The record."""
    return [subject.identity_record_path]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Checks identity.npy, also where the head model cannot use it, and records what the calibration shall do.

    Raises:
        InputError: identity.npy is not a finite (300,) array.
    """
    head = head_name(config)
    code = subject.load_identity() if subject.identity_path.exists() else None
    use = code is not None and head == "flame"
    if use:
        reason = f"{subject.identity_path} given"
    elif code is not None:
        reason = f"{subject.identity_path} is a FLAME code and the head model is {head}; identity is estimated instead"
    else:
        reason = "no identity.npy; identity is estimated with the camera"
        if MICA_PATH.exists():
            reason += f" ({MICA_PATH} is not used by this version)"
    logger.info(f"identity: {reason}")
    record = {
        "source": "file" if use else "joint",
        "head": head,
        "shape": code.tolist() if use and code is not None else None,
        "reason": reason,
    }
    files.write_json(subject.identity_record_path, record)
    context.notes["source"] = record["source"]
