"""The clip's appearance in FLAME's texture space, for `flame.tex` and `flame.sh` of the checkpoints and the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages.appearance_file import load_appearance
from stages.subject import Subject
from tracker.config import Config
from tracker.errors import InputError
from tracker.frame_file import TextureCode
from tracker.head.model import HeadModel
from tracker.head_choice import head_name, model_files
from tracker.texture_fit import FEWEST_TEXELS, fit_texture
from tracker.texture_space import NAMES, find_texture_space, open_texture_space


@dataclass(frozen=True, eq=False)
class ClipTexture:
    """What goes into the checkpoints, and what the report says of it.

    Attributes:
        code: coefficients and gain.
        summary: `space` (file or null), `modes`, `gain`, `residual`, `texels`, `reason`.
    """

    code: TextureCode
    summary: dict[str, Any]


def texture_files(config: Config) -> list[Path]:
    """The texture space's file, if there is one for the head model of a config."""
    if head_name(config) != "flame":
        return []
    file = find_texture_space(config.tex_space_path, model_files(config))
    return [] if file is None else [file]


def clip_texture(subject: Subject, config: Config, model: HeadModel) -> ClipTexture:
    """Fits the texture space to the clip's appearance.

    Args:
        subject: calibrated.
        config: its `tex_space_path` and `tex_params`.
        model: the head model.

    Returns:
        The fit; zeros, and why, where there is no space or nothing to fit it to.

    Raises:
        InputError: the space or the appearance is damaged, or `tex_params` is more than the space holds.
    """
    files = texture_files(config)
    if not files:
        return _nothing(config, _why_none(config))
    space = open_texture_space(files[0])
    # The default stands for all of a smaller space.
    count = min(config.tex_params, space.modes)
    if count < config.tex_params != Config.model_fields["tex_params"].default:
        raise InputError(f"tex_params: {config.tex_params} is more than the {space.modes} that {space.path} holds")
    look = load_appearance(subject.appearance_path)
    fit = fit_texture(space, model, (look.albedo, look.valid), count)
    if fit is None:
        return _nothing(config, f"less than {FEWEST_TEXELS} texels of the face were seen")
    logger.info(
        f"tracking: appearance fitted to {space.path}, {count} modes, residual {fit.residual:.3f}, "
        f"brightness {fit.gain.mean():.2f}"
    )
    summary = {
        "space": str(space.path),
        "modes": count,
        "gain": [round(float(gain), 4) for gain in fit.gain],
        "residual": round(fit.residual, 5),
        "texels": fit.texels,
        "reason": "",
    }
    code = np.pad(fit.code, (0, config.tex_params - count))
    return ClipTexture(TextureCode(code, fit.gain), summary)


def _nothing(config: Config, reason: str) -> ClipTexture:
    summary = {"space": None, "modes": 0, "gain": [1.0, 1.0, 1.0], "residual": None, "texels": 0, "reason": reason}
    return ClipTexture(TextureCode(np.zeros(config.tex_params), np.ones(3)), summary)


def _why_none(config: Config) -> str:
    name = head_name(config)
    if name != "flame":
        reason = f"flame.tex is zero: texture spaces belong to FLAME, the head model is {name}"
    elif config.tex_space_path:
        reason = f"flame.tex is zero: {config.tex_space_path} of tex_space_path is not there"
    else:
        reason = f"flame.tex is zero: no {' or '.join(NAMES)} beside the FLAME model"
    if config.tex_space_path:
        logger.warning(f"tracking: {reason}")
    return reason
