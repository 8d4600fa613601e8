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
    frames, points = [], _PointFigures()
    for index in subject.frame_indices():
        frame = load_frame(subject.checkpoint_path(index))
        track = frame["track"]
        points.add(track["landmarks478"], subject.load_kpt_dense(index))
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
    summary = _summary(subject, record, frames, points)
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
    points: "_PointFigures",
) -> dict[str, Any]:
    full = subject.load_crop().full_frame_intrinsics(record.intrinsics)
    errors = np.concatenate(points.errors_px) if points.errors_px else np.empty(0)
    spread = float(record.log_focal_std)
    times = [frame["milliseconds"] for frame in frames if frame["milliseconds"] is not None]
    return {
        "frames": len(frames),
        **{status: sum(frame["status"] == status for frame in frames) for status in STATUSES},
        "reprojection_px_median": _number(np.median(errors)) if len(errors) else None,
        "reprojection_px_p95": _number(np.percentile(errors, 95)) if len(errors) else None,
        "photometric_l1_median": _number(_median([frame["photometric_l1"] for frame in frames])),
        "jitter_fitted_px": _number(points.fitted.px),
        "jitter_detected_px": _number(points.detected.px),
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


class Jitter:
    """RMS second difference over time of points that are finite throughout, frame by frame."""

    def __init__(self) -> None:
        self._last: list[np.ndarray] = []
        self._squares: np.ndarray | None = None
        self._triples = 0

    def add(self, points: np.ndarray) -> None:
        """Takes the (P, 2) points of the next frame; NaN where there is none."""
        self._last = [*self._last[-2:], points.astype(np.float64)]
        if self._squares is None:
            self._squares = np.zeros(len(points))
        # A point that is missing once is NaN in its sum from then on.
        self._squares += 0 * self._last[-1].sum(1)
        if len(self._last) == 3:
            before, now, after = self._last
            self._squares += np.square(after - 2 * now + before).sum(1)
            self._triples += 1

    @property
    def px(self) -> float:
        """The figure; NaN for fewer than 3 frames, or without such a point."""
        if self._squares is None or not self._triples or not np.isfinite(self._squares).any():
            return float("nan")
        return float(np.sqrt(np.nanmean(self._squares) / self._triples))


class _PointFigures:
    """Errors and jitter of the landmarks; of a frame only its errors are kept, two kilobytes."""

    def __init__(self) -> None:
        self.fitted, self.detected = Jitter(), Jitter()
        self.errors_px: list[np.ndarray] = []

    def add(self, fitted: np.ndarray, detected: np.ndarray) -> None:
        """Takes the (478, 2) points of the next frame, the fitted ones NaN where the model lacks them."""
        self.fitted.add(fitted)
        self.detected.add(np.where(np.isfinite(fitted), detected, np.nan))
        # All zeros: no face.
        if detected.any():
            errors = np.linalg.norm(fitted - detected, axis=1)
            self.errors_px.append(errors[np.isfinite(errors)].astype(np.float32))


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
