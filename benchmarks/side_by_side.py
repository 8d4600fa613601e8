"""Tracks of one clip beside each other: `python -m benchmarks.side_by_side output/generic output/ict --frames 0 60`.

Prints a table of what `report.json` and the review say of each track, and with `--picture` writes the same review
frames of all tracks below one another, so that one sees what a head model or a setting changes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages import files
from stages.subject import Subject
from tracker.errors import InputError, TrackerError

_LABEL_PX = 28
_COLUMNS = {
    "head": ("head", "{}"),
    "ok/poor/lost": ("counts", "{}"),
    "reprojection, median": ("reprojection_px_median", "{:.2f} px"),
    "95 %": ("reprojection_px_p95", "{:.2f} px"),
    "overlay": ("overlay_db", "{:.1f} dB"),
    "colour L1": ("photometric_l1_median", "{:.4f}"),
    "jitter": ("jitter_fitted_px", "{:.2f} px"),
    "focal length": ("focal_full_frame_px", "{:.0f} px"),
}


def figures(output: Path) -> dict[str, Any]:
    """What the report and the review say of a track.

    Args:
        output: an output folder.

    Returns:
        `report.json`'s summary with `head`, `counts` and `overlay_db` (None without a review).

    Raises:
        InputError: the folder holds no finished track.
    """
    subject = Subject(output, output)
    if not subject.report_path.is_file():
        raise InputError(f"{output}: no report.json; track the clip first")
    found: dict[str, Any] = dict(files.read_json(subject.report_path)["summary"])
    found["counts"] = "/".join(str(found[status]) for status in ("ok", "poor", "lost"))
    found["head"] = files.read_json(subject.identity_record_path)["head"]
    reviewed = subject.review_record_path.is_file()
    found["overlay_db"] = files.read_json(subject.review_record_path)["psnr_db_median"] if reviewed else None
    return found


def table(outputs: Sequence[Path]) -> str:
    """A row a track, in Markdown."""
    lines = [f"| track | {' | '.join(_COLUMNS)} |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for output in outputs:
        found = figures(output)
        cells = ["-" if found.get(key) is None else form.format(found[key]) for key, form in _COLUMNS.values()]
        lines.append(f"| {output.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sheet(outputs: Sequence[Path], frames: Sequence[int]) -> np.ndarray:
    """Review frames of all tracks, frame by frame, each under its name; (H, W, 3) uint8 RGB.

    Raises:
        InputError: a track lacks one of the frames.
    """
    rows = []
    for frame in frames:
        for output in outputs:
            path = Subject(output, output).review_path(frame)
            if not path.is_file():
                raise InputError(f"{path}: no such review frame; choose other --frames, or run the stage review")
            picture = files.read_image(path)
            label = np.full((_LABEL_PX, picture.shape[1], 3), 32, np.uint8)
            text = f"{output.name}, frame {frame}"
            cv2.putText(label, text, (8, _LABEL_PX - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
            rows.append(np.concatenate([label, picture]))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path, nargs="+", help="output folders of tracks of one clip")
    parser.add_argument("--frames", type=int, nargs="+", default=[0], help="tracked frames of the picture")
    parser.add_argument("--picture", type=Path, help="file for the review frames, .jpg or .png")
    options = parser.parse_args(arguments)
    try:
        print(table(options.outputs))
        if options.picture is not None:
            files.write_image(options.picture, sheet(options.outputs, options.frames))
    except TrackerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
