"""ARKit curves of a track, for animators: `python -m stages.export.arkit output/NAME`.

Writes arkit.csv in the column layout of Live Link Face's takes and arkit.json beside the checkpoints' folder: the 52
ARKit coefficients at the clip's frame rate with timecode, then the head's and the eyes' rotations. Needs a track made
with a head whose expressions have ARKit's names: ict (all 51 but the tongue), or generic.
"""

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files, logs
from stages.config_file import load_config
from stages.subject import Subject
from tracker.command_line import OneLineParser
from tracker.config import Config
from tracker.errors import InputError, TrackerError
from tracker.frame_file import gaze_angles
from tracker.frame_read import check_head, extrinsics, load_frame, matrix_from_6d
from tracker.head.arkit import ARKIT_NAMES, FacePose, arkit_curves, arkit_name, has_arkit_names
from tracker.head_choice import load_head_model

ROTATIONS = (
    *("HeadYaw", "HeadPitch", "HeadRoll"),
    *("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
)
HEADER = ("Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in ARKIT_NAMES), *ROTATIONS)
# Heads whose expressions have names.
_NAMED_HEADS = ("ict", "generic")
# The camera looks at the face: a head that faces it has this rotation.
_FACING = np.diag([1.0, -1.0, -1.0])


def curves(subject: Subject, config: Config) -> list[dict[str, Any]]:
    """Every tracked frame's curves.

    Args:
        subject: a tracked subject.
        config: that it was tracked with.

    Returns:
        One dict a frame: `frame` of the checkpoint, `time` in seconds of the video at the config's frame rate,
        `timecode`, `status`, `values` (52,) in [0, 1], `rotations` (9,) radians in the order of `ROTATIONS`: yaw
        positive to the subject's left, pitch positive down, roll positive towards the subject's right shoulder.

    Raises:
        InputError: no checkpoints, a head's files are missing, or its expressions have no ARKit names.
    """
    paths = sorted(subject.checkpoint_dir.glob("*.frame"))
    if not paths:
        raise InputError(f"{subject.checkpoint_dir}: no checkpoints; run the tracking stage first")
    head = tracked_head(paths[0])
    names = _expression_names(config, head)
    return [_row(load_frame(path), names, head, config) for path in paths]


def tracked_head(path: Path) -> str:
    """Name of the head model that a checkpoint was tracked with.

    Raises:
        InputError: the file is damaged, or its head's expressions have no ARKit names.
    """
    head = str(load_frame(path).get("model", "flame"))
    if head not in _NAMED_HEADS:
        raise InputError(f"{path}: tracked with head '{head}', whose expressions have no names; track with head: ict")
    return head


def _expression_names(config: Config, head: str) -> tuple[str, ...]:
    """Names of the expressions that were tracked, the first `num_exp_params` of the head's.

    Raises:
        InputError: none of them is ARKit's, or the head's files are missing.
    """
    # Of the track, not what `head: auto` stands for today; and whole, to know what was cut.
    changes = {"head": head, "num_exp_params": Config.model_fields["num_exp_params"].default}
    every = load_head_model(config.model_copy(update=changes)).expression_names
    names = every[: config.num_exp_params]
    if not has_arkit_names(every):
        raise InputError(f"head '{head}' has no expressions with ARKit's names; track with head: ict")
    if not has_arkit_names(names):
        raise InputError(
            f"num_exp_params: {config.num_exp_params} leaves none of ARKit's expressions of head '{head}'; track with "
            f"{len(every)}"
        )
    lost = {arkit_name(name) for name in every} & set(ARKIT_NAMES) - {arkit_name(name) for name in names}
    if lost:
        logger.warning(
            f"num_exp_params: {config.num_exp_params} of {len(every)} were tracked; {len(lost)} of ARKit's units lack "
            f"their shape"
        )
    return names


def _row(frame: dict[str, Any], names: tuple[str, ...], head: str, config: Config) -> dict[str, Any]:
    check_head(frame, head)
    block = frame["flame"]
    jaw = matrix_from_6d(np.asarray(block["jaw"], np.float64)[0])
    gaze = gaze_angles(frame)
    face = FacePose(
        expression=np.asarray(block["exp"], np.float64)[0, : len(names)],
        eyelids=np.asarray(block["eyelids"], np.float64)[0],
        gaze=gaze,
        jaw_x=math.atan2(jaw[2, 1], jaw[2, 2]),
    )
    index = int(frame["frame_id"])
    time = (index + config.begin_frames) / config.fps
    eyes = [angle for eye in gaze.tolist() for angle in (*eye, 0.0)]
    return {
        "frame": index,
        "time": time,
        "timecode": timecode(index + config.begin_frames, config.fps),
        "status": str(frame.get("track", {}).get("status", "")),
        "values": arkit_curves(names, face),
        "rotations": np.array([*head_angles(extrinsics(frame)[0]), *eyes]),
    }


def head_angles(R: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a head-to-camera rotation (3, 3), radians: `R = F R_y(yaw) R_x(pitch) R_z(roll)`."""
    turn = _FACING @ R
    return (
        math.atan2(turn[0, 2], turn[2, 2]),
        math.asin(float(np.clip(-turn[1, 2], -1, 1))),
        math.atan2(turn[1, 0], turn[1, 1]),
    )


def timecode(number: int, fps: float) -> str:
    """Hours, minutes, seconds, frames and thousandths of a frame, as Live Link Face writes them.

    Frames are counted within the second at the next whole rate: 29.97 counts to 30, and what is left of a frame goes
    behind the point.
    """
    # A rounded number of thousandths: 25 / 25 must not fall a hair short of a second.
    seconds, rest = divmod(round(1000 * number * math.ceil(fps) / fps), 1000 * math.ceil(fps))
    frames, thousandths = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}:{frames:02d}.{thousandths:03d}"


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """The curves as CSV in Live Link Face's columns; BlendShapeCount counts the rotations too."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    count = len(ARKIT_NAMES) + len(ROTATIONS)
    for row in rows:
        numbers = [f"{value:.6f}" for value in (*row["values"], *row["rotations"])]
        writer.writerow([row["timecode"], count, *numbers])
    return text.getvalue()


def json_value(rows: Sequence[dict[str, Any]], config: Config, head: str) -> dict[str, Any]:
    """The curves as JSON: names once, then a list of values a frame."""
    return {
        "head": head,
        "fps": config.fps,
        "names": list(ARKIT_NAMES),
        "rotation_names": list(ROTATIONS),
        "rotation_unit": "radians",
        "frames": [
            {
                **{key: row[key] for key in ("frame", "time", "timecode", "status")},
                "values": [round(value, 6) for value in row["values"].tolist()],
                "rotations": [round(value, 6) for value in row["rotations"].tolist()],
            }
            for row in rows
        ],
    }


def export(output: Path, target: Path | None = None) -> tuple[Path, Path]:
    """Writes both files.

    Args:
        output: folder of a tracked subject, with config.yml and checkpoint/.
        target: folder that receives arkit.csv and arkit.json; default `output`.

    Returns:
        Their paths.

    Raises:
        InputError: not a tracked subject, a head without ARKit's names, or a target that is a file.
    """
    config_path = output / "config.yml"
    if not config_path.is_file():
        raise InputError(f"{output}: no config.yml; name the output folder of a tracked subject, e.g. output/anna")
    folder = output if target is None else target
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--to {folder}: is a file; name a folder")
    config, _ = load_config(config_path)
    subject = Subject(Path(config.actor), output, config.begin_frames, config.end_frames)
    rows = curves(subject, config)
    head = tracked_head(min(subject.checkpoint_dir.glob("*.frame")))
    files.write_text(folder / "arkit.csv", csv_text(rows))
    files.write_json(folder / "arkit.json", json_value(rows, config, head))
    return folder / "arkit.csv", folder / "arkit.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = OneLineParser(
        prog="python -m stages.export.arkit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, nargs="+", help="output folder of a tracked subject")
    parser.add_argument("--to", type=Path, help="folder that receives the files of one subject; default its own")
    logs.log_to_console()
    try:
        given = parser.parse_args(arguments)
        if given.to is not None and len(given.output) > 1:
            parser.error("--to takes one subject")
        for output in given.output:
            for path in export(output, given.to):
                logger.info(f"{path}")
    except (TrackerError, OSError) as error:
        logger.error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
