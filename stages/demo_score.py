"""How far a track of a clip with known truth is from it: reads the subject's files, writes score.json, prints a table.

Part of the tool `stages.demo`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages import files
from stages.config_file import load_config
from stages.manifest import ROOT
from stages.report import STATUSES
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.demo.score import Estimate, relative_rotation_degrees, score_frame
from tracker.demo.score_time import score_time
from tracker.demo.truth import Truth, load_truth
from tracker.errors import InputError
from tracker.file_hash import sha256
from tracker.frame_file import extrinsics, head_params, load_frame
from tracker.head.model import HeadModel
from tracker.head.store import load_head

GENERIC_HEAD = ROOT / "assets" / "generic_head.npz"
# A frame shows the face if at least this share of it is in the picture.
_PRESENT = 0.5


def truth_path(clip: Path) -> Path:
    """Where a clip's truth lies."""
    return clip / "truth.npz"


def estimates_of(subject: Subject, model: HeadModel) -> list[Estimate]:
    """What a subject's checkpoints say, carried from the crop to the uncropped video."""
    crop = subject.load_crop()
    found = []
    for index in subject.frame_indices():
        frame = load_frame(subject.checkpoint_path(index))
        R, t, lens = extrinsics(frame)
        detected = subject.load_kpt_dense(index)
        centre = crop.to_source(np.array([[lens.cx_px, lens.cy_px]]))[0]
        found.append(
            Estimate(
                frame=subject.number_of(index) - 1,
                params=head_params(frame, model),
                R=R,
                t=t,
                intrinsics=Intrinsics(lens.focal_px / crop.scale, float(centre[0]), float(centre[1])),
                detected478_px=crop.to_source(detected) if detected.any() else None,
                status=frame["track"]["status"],
            )
        )
    return found


def score(clip: Path, output: Path, head: Path = GENERIC_HEAD) -> dict[str, float]:
    """Measures a track of a demo clip and writes output/score.json.

    Args:
        clip: the input folder, with truth.npz, crop.json and landmarks.
        output: the output folder, with checkpoint/.
        head: the head model that both the clip and the track were made with.

    Returns:
        The clip's figures: medians and 95th percentiles over the frames that show the face, the same (`…_ok_median`)
        over those of them that the track calls ok, and counts.

    Raises:
        InputError: another head model, or files that are missing.
    """
    truth = load_truth(truth_path(clip))
    if truth.model_digest != sha256(head):
        raise InputError(f"{truth_path(clip)}: made with another version of {head.name}; make the clip again")
    model = load_head(head)
    begin, end = _skipped_frames(output)
    subject = Subject(clip, output, begin, end)
    estimates = estimates_of(subject, model)
    present = truth.inside(model)[[estimate.frame for estimate in estimates]] >= _PRESENT
    if not present.any():
        raise InputError(f"{truth_path(clip)}: no tracked frame shows the face; there is nothing to score")
    shown = [estimate for estimate, here in zip(estimates, present, strict=True) if here]
    frames = [asdict(score_frame(model, truth, estimate)) for estimate in shown]
    relative = relative_rotation_degrees(truth, shown)
    for record, value, estimate in zip(frames, relative, shown, strict=True):
        record |= {"relative_rotation_degrees": float(value), "status": estimate.status}
    good = np.array([estimate.status == "ok" for estimate in shown])
    summary = {
        **_counts(truth, estimates, present),
        **_medians(frames),
        **_medians_of_good(truth, shown, frames),
        **_focal(truth, shown, subject),
        **{key: value for key, value in asdict(score_time(model, truth, shown, good)).items() if math.isfinite(value)},
    }
    clean = [{key: _number(value) for key, value in record.items()} for record in frames]
    files.write_json(output / "score.json", {"summary": summary, "frames": clean})
    return summary


def _skipped_frames(output: Path) -> tuple[int, int]:
    """begin_frames and end_frames of the run that made the track, from its saved config."""
    path = Subject(output, output).config_path
    if not path.exists():
        raise InputError(f"{path}: missing; track the demo first: python run_tracking.py --cfg configs/demo.yml")
    config, _ = load_config(path)
    return config.begin_frames, config.end_frames


def _counts(truth: Truth, estimates: Sequence[Estimate], present: np.ndarray) -> dict[str, float]:
    """Frames by what the track says of them; `absent_claimed`: frames without a face that it calls ok."""
    said = {name: sum(estimate.status == name for estimate in estimates) for name in STATUSES}
    status = np.array([estimate.status for estimate in estimates])
    return {
        "frames_true": len(truth),
        "frames_tracked": len(estimates),
        **{f"frames_{name}": count for name, count in said.items()},
        "frames_absent": int((~present).sum()),
        "absent_claimed": int(((status == "ok") & ~present).sum()),
    }


def _medians_of_good(truth: Truth, shown: Sequence[Estimate], frames: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The medians of the frames called ok; what a lost frame says must not turn the others' relative rotation."""
    good = [place for place, estimate in enumerate(shown) if estimate.status == "ok"]
    if not good:
        return {}
    relative = relative_rotation_degrees(truth, [shown[place] for place in good])
    records = [
        frames[place] | {"relative_rotation_degrees": float(value)} for place, value in zip(good, relative, strict=True)
    ]
    return {key.replace("_median", "_ok_median").replace("_p95", "_ok_p95"): x for key, x in _medians(records).items()}


def _medians(frames: Sequence[dict[str, Any]]) -> dict[str, float]:
    summary = {}
    for key in (key for key in frames[0] if key not in ("frame", "status")):
        values = np.array([record[key] for record in frames])
        values = values[np.isfinite(values)]
        if len(values):
            summary[f"{key}_median"] = float(np.median(values))
            summary[f"{key}_p95"] = float(np.percentile(values, 95))
    return summary


def _focal(truth: Truth, estimates: Sequence[Estimate], subject: Subject) -> dict[str, float]:
    """The focal length's error, and whether the interval that the run reports (report.json) holds the truth."""
    true = truth.intrinsics.focal_px
    focal = float(np.median([estimate.intrinsics.focal_px for estimate in estimates]))
    found = {"focal_px": focal, "focal_error_percent": 100 * abs(focal / true - 1), "focal_true_px": true}
    reported = files.read_json(subject.report_path)["summary"] if subject.report_path.exists() else {}
    interval = reported.get("focal_full_frame_px_95")
    if interval is not None and not reported.get("focal_given"):
        low, high = interval
        found |= {"focal_low_px": low, "focal_high_px": high, "focal_interval_holds": float(low <= true <= high)}
    return found


def _number(value: Any) -> Any:
    """As JSON has it, which lacks NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


_ROWS = (
    ("vertices, rigidly aligned", "vertex_mm", "mm"),
    ("  along the normal", "normal_mm", "mm"),
    ("  along the surface", "tangential_mm", "mm"),
    ("vertices in camera space", "camera_mm", "mm"),
    ("size, true over found", "scale", ""),
    ("rotation", "rotation_degrees", "degrees"),
    ("rotation, relative", "relative_rotation_degrees", "degrees"),
    ("rotation of the mesh", "mesh_rotation_degrees", "degrees"),
    ("landmarks, fitted", "landmark_px", "px"),
    ("landmarks, detected", "detection_px", "px"),
    ("jaw", "jaw_degrees", "degrees"),
    ("gaze", "gaze_degrees", "degrees"),
    ("eyelids", "eyelid", ""),
    ("eyelids, aperture", "lid_aperture_mm", "mm"),
    ("lips, aperture", "lip_aperture_mm", "mm"),
)
_FOLLOWING = (
    ("  in the picture's plane", "jitter_xy_mm", "mm"),
    ("blinks, depth", "blink_depth", "of the truth's"),
    ("lids, gain", "lid_gain", "of the truth's"),
    ("lips, gain", "lip_gain", "of the truth's"),
    ("lids, too far open", "lid_bias_mm", "mm, median"),
    ("lips, too far open", "lip_bias_mm", "mm, median"),
)


def table(summary: dict[str, float]) -> str:
    """The figures as a table for people; with columns of the frames called ok, where others are not."""
    apart = 0 < summary["frames_ok"] < summary["frames_tracked"]
    heads = ("median", "95 %", *(("ok", "ok, 95 %") if apart else ()))
    lines = [f"{'error against the truth':<28}" + "".join(f"{head:>9}" for head in heads)]
    for label, key, unit in _ROWS:
        if f"{key}_median" in summary:
            names = ("median", "p95", *(("ok_median", "ok_p95") if apart else ()))
            values = "".join(f"{summary.get(f'{key}_{name}', math.nan):9.2f}" for name in names)
            lines.append(f"{label:<28}{values} {unit}".rstrip())
    figures: list[tuple[str, float, str]] = []
    if "jitter_mm" in summary:
        own = (
            f"mm RMS error of second differences; the track's own {summary['jitter_found_mm']:.2f}, the truth's "
            f"{summary['jitter_true_mm']:.2f}"
        )
        figures.append(("jitter", summary["jitter_mm"], own))
    for label, key, unit in _FOLLOWING:
        if key in summary:
            figures.append((label, summary[key], unit))
    figures.append(("focal length", summary["focal_error_percent"], f"% ({summary['focal_px']:.0f} px)"))
    lines += [f"{label:<28}{value:9.2f}{'':>9} {unit}" for label, value, unit in figures]
    if "focal_interval_holds" in summary:
        word = "holds" if summary["focal_interval_holds"] else "MISSES"
        span = f"{summary['focal_low_px']:.0f} to {summary['focal_high_px']:.0f} px"
        lines.append(f"{'focal length, 95 %':<28}{word:>9}{'':>9} {span}, true {summary['focal_true_px']:.0f}")
    counts = ", ".join(f"{summary[f'frames_{name}']:.0f} {name}" for name in STATUSES)
    lines.append(
        f"{'frames tracked':<28}{summary['frames_tracked']:9.0f}{'':>9} of {summary['frames_true']:.0f}: {counts}"
    )
    if summary["frames_absent"]:
        claimed = f"of these called ok: {summary['absent_claimed']:.0f}"
        lines.append(f"{'frames without the face':<28}{summary['frames_absent']:9.0f}{'':>9} {claimed}")
    return "\n".join(lines)
