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
from tracker.config import Config
from tracker.errors import InputError, TrackerError
from tracker.frame_file import gaze_angles
from tracker.frame_read import check_head, extrinsics, load_frame, matrix_from_6d
from tracker.head.arkit import ARKIT_NAMES, FacePose, arkit_curves, has_arkit_names
from tracker.head_choice import load_head_model

ROTATIONS = (
    *("HeadYaw", "HeadPitch", "HeadRoll"),
    *("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
)
HEADER = ("Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in ARKIT_NAMES), *ROTATIONS)
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
        InputError: no checkpoints, or the head model's expressions have no ARKit names.
    """
    model = load_head_model(config)
    if not has_arkit_names(model.expression_names):
        raise InputError(
            f"{subject.checkpoint_dir}: head '{model.name}' has no expressions with ARKit's names; track with head: ict"
        )
    paths = sorted(subject.checkpoint_dir.glob("*.frame"))
    if not paths:
        raise InputError(f"{subject.checkpoint_dir}: no checkpoints; run the tracking stage first")
    return [_row(load_frame(path), model.expression_names, model.name, config) for path in paths]


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
        InputError: not a tracked subject, or a head without ARKit's names.
    """
    config_path = output / "config.yml"
    if not config_path.is_file():
        raise InputError(f"{output}: no config.yml; name the output folder of a tracked subject, e.g. output/anna")
    config, _ = load_config(config_path)
    subject = Subject(Path(config.actor), output, config.begin_frames, config.end_frames)
    rows = curves(subject, config)
    folder = output if target is None else target
    head = str(load_frame(sorted(subject.checkpoint_dir.glob("*.frame"))[0]).get("model", ""))
    files.write_text(folder / "arkit.csv", csv_text(rows))
    files.write_json(folder / "arkit.json", json_value(rows, config, head))
    return folder / "arkit.csv", folder / "arkit.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export.arkit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, nargs="+", help="output folder of a tracked subject")
    parser.add_argument("--to", type=Path, help="folder that receives the files of one subject; default its own")
    given = parser.parse_args(arguments)
    if given.to is not None and len(given.output) > 1:
        parser.error("--to takes one subject")
    logs.log_to_console()
    try:
        for output in given.output:
            for path in export(output, given.to):
                logger.info(f"{path}")
    except TrackerError as error:
        logger.error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
