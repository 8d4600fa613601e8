"""report.json: what the track is worth, frame by frame and in one summary."""

import csv
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from stages import files
from stages.context import StageContext
from stages.subject import Subject
from tracker.frame_read import load_frame

if TYPE_CHECKING:
    # Torch is not needed to read a report.
    from stages.clip_files import CalibrationRecord

STATUSES = ("ok", "poor", "lost")


def write_report(subject: Subject, record: "CalibrationRecord", texture: dict[str, Any]) -> dict[str, Any]:
    """Builds the report from the checkpoints and writes it.

    Args:
        subject: a tracked subject.
        record: its calibration.
        texture: what is known of the fit of a texture space, for the summary.

    Returns:
        `summary` (counts, medians, camera, texture), and `frames` (status, errors, time of each).
    """
    milliseconds = _timings(subject)
    frames, fitted, detected = [], [], []
    for index in subject.frame_indices():
        frame = load_frame(subject.checkpoint_path(index))
        track = frame["track"]
        fitted.append(track["landmarks478"])
        detected.append(subject.load_kpt_dense(index))
        frames.append(
            {
                "frame": index,
                "status": track["status"],
                "reprojection_px": _number(track["reprojection_px"]),
                "photometric_l1": _number(track["photometric_l1"]),
                "correlation": _number(track["correlation"]),
                "steps": int(track["steps"]),
                "outcome": track["outcome"],
                "milliseconds": milliseconds.get(index),
            }
        )
    summary = _summary(subject, record, frames, (np.array(fitted), np.array(detected)))
    report = {"summary": summary | {"texture": texture}, "frames": frames}
    files.write_json(subject.report_path, report)
    return report


def summarise(report: dict[str, Any], context: StageContext) -> None:
    """One line for people, and the manifest's notes."""
    summary = report["summary"]
    counts = ", ".join(f"{summary[status]} {status}" for status in STATUSES if summary[status])
    error = summary["reprojection_px_median"]
    logger.info(
        f"tracking: {counts}; median error {'none' if error is None else f'{error:.2f}'} px, "
        f"{summary['milliseconds_median']} ms a frame"
    )
    bad = [frame["frame"] for frame in report["frames"] if frame["status"] == "lost"]
    if bad:
        logger.warning(f"tracking: lost {len(bad)} frames, from {bad[0]} to {bad[-1]}; they hold a guess")
    context.notes.update({status: summary[status] for status in STATUSES})


def warn_of_focal_length(subject: Subject) -> None:
    """One line, the last of a run, where the clip does not tell the focal length.

    Args:
        subject: a tracked subject.

    Raises:
        InputError: the report is missing or damaged.
    """
    summary = files.read_json(subject.report_path)["summary"]
    if summary["focal_observed"]:
        return
    interval = summary["focal_full_frame_px_95"]
    between = "" if interval is None else f", 95 %: {interval[0]:.0f} to {interval[1]:.0f}"
    logger.warning(
        f"{subject.name}: the clip hardly tells the focal length ({summary['focal_full_frame_px']:.0f} px{between}); "
        f"give focal_length or camera_file if you know it"
    )


def _summary(
    subject: Subject,
    record: "CalibrationRecord",
    frames: list[dict[str, Any]],
    points: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:
    from tracker.landmark_set import is_detected

    fitted, detected = points
    full = subject.load_crop().full_frame_intrinsics(record.intrinsics)
    errors = np.linalg.norm(fitted - detected, axis=2)[[is_detected(points) for points in detected]]
    has_errors = bool(np.isfinite(errors).any())
    spread = float(record.log_focal_std)
    times = [frame["milliseconds"] for frame in frames if frame["milliseconds"] is not None]
    return {
        "frames": len(frames),
        **{status: sum(frame["status"] == status for frame in frames) for status in STATUSES},
        "reprojection_px_median": _number(np.nanmedian(errors)) if has_errors else None,
        "reprojection_px_p95": _number(np.nanpercentile(errors, 95)) if has_errors else None,
        "photometric_l1_median": _number(_median([frame["photometric_l1"] for frame in frames])),
        "jitter_fitted_px": _number(jitter_px(fitted)),
        "jitter_detected_px": _number(jitter_px(np.where(np.isfinite(fitted), detected, np.nan))),
        "milliseconds_median": _number(_median(times), 1),
        "focal_full_frame_px": _number(full.focal_px, 1),
        "focal_full_frame_px_95": None
        if not math.isfinite(spread)
        else [_number(full.focal_px * math.exp(side * spread), 1) for side in (-2, 2)],
        "focal_given": bool(record.camera_prior[1] == 0),
        "focal_observed": record.focal_observed,
        "principal_point_full_frame_px": [_number(full.cx_px, 1), _number(full.cy_px, 1)],
        "calibration_frames": [int(index) for index in record.frames],
    }


def jitter_px(points: np.ndarray) -> float:
    """RMS second difference over time of (N, P, 2) points that are finite throughout; NaN for fewer than 3 frames."""
    if len(points) < 3:
        return float("nan")
    steady = points[:, np.isfinite(points).all((0, 2))].astype(np.float64)
    second = steady[2:] - 2 * steady[1:-1] + steady[:-2]
    return float(np.sqrt((second**2).sum(2).mean())) if second.size else float("nan")


def _timings(subject: Subject) -> dict[int, float]:
    if not subject.timings_path.exists():
        return {}
    with subject.timings_path.open(newline="") as file:
        return {int(row[0]): float(row[1]) for row in csv.reader(file) if len(row) == 2}


def _median(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else float("nan")


def _number(value: Any, digits: int = 4) -> float | None:
    """A JSON number; None for NaN, which JSON lacks."""
    return round(float(value), digits) if np.isfinite(value) else None
