"""What the smoother does to a track with known truth: `python -m benchmarks.smoothing --cfg configs/demo.yml`.

Tracks a calibrated demo clip twice, with the smoother and without, and compares: jitter, lids in blinks, lips in
plosives, landmark and vertex errors. `--picture FILE.png` draws a blink, a plosive and the distance to the camera, with
the truth. `--cost` times the smoother alone instead, on random frames of the sizes of both head models.
"""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.track import machine

# Frames drawn before and after an event; frames over which the lips of a plosive close and open.
_AROUND = 9
_REACH = 3
_FILES = ("calibration.npz", "appearance.npz")


@dataclass(frozen=True, eq=False)
class Track:
    """One track of a clip, or its truth.

    Attributes:
        lids_mm: (N,) mean aperture of both eyes.
        lips_mm: (N,) distance between the lips.
        distance_mm: (N,) of the head from the camera, along the line of sight.
        closure: (N,) true closure of the lids, 1 closed.
        figures: of a track, by name.
    """

    lids_mm: np.ndarray
    lips_mm: np.ndarray
    distance_mm: np.ndarray
    closure: np.ndarray
    figures: dict[str, float]


def tracked(cfg: Path, overrides: list[str], smoothed: bool) -> tuple[Track, Track]:
    """Tracks a calibrated clip in a temporary folder; the track and the truth of the same frames.

    Raises:
        SystemExit: the clip is not calibrated.
    """
    from stages.config_file import load_config
    from stages.demo_score import estimates_of, truth_path
    from stages.pipeline import run_stages
    from stages.subject import Subject
    from tracker.demo.score import apertures_mm, score_frame
    from tracker.demo.score_time import score_time
    from tracker.demo.truth import load_truth
    from tracker.head_choice import load_head_model

    config, _ = load_config(cfg, tuple(overrides))
    calibrated = Subject.of(config)
    if not calibrated.calibration_path.exists():
        raise SystemExit(f"{calibrated.calibration_path}: missing; run run_tracking.py --cfg {cfg} --until calibration")
    with tempfile.TemporaryDirectory(prefix="smoothing_benchmark_") as folder:
        off = ["write_meshes=false", "write_depth=false", f"smoother.enabled={str(smoothed).lower()}"]
        config, _ = load_config(cfg, (*overrides, *off, f"save_folder={folder}"))
        subject = Subject.of(config)
        subject.output_dir.mkdir(parents=True)
        for name in _FILES:
            shutil.copyfile(calibrated.output_dir / name, subject.output_dir / name)
        run_stages(subject, config, ("tracking",), "cpu", False)
        model, truth = load_head_model(config), load_truth(truth_path(subject.input_dir))
        estimates = estimates_of(subject, model)
    good = np.array([estimate.status == "ok" for estimate in estimates])
    numbers = [estimate.frame for estimate in estimates]
    scores = [score_frame(model, truth, estimate) for estimate in estimates]
    over_time = score_time(model, truth, estimates, good)

    def apertures(params: list) -> tuple[np.ndarray, np.ndarray]:
        opened = np.array([apertures_mm(model, each) for each in params])
        return opened[:, :2].mean(1), opened[:, 2]

    closure = truth.eyelids[numbers].mean(1)
    true = Track(*apertures([truth.head_params(n) for n in numbers]), 1000 * truth.t[numbers, 2], closure, {})
    lids, lips = apertures([estimate.params for estimate in estimates])
    figures = {
        "frames, ok": float(good.sum()),
        "jitter, mm": over_time.jitter_mm,
        "jitter across the line of sight, mm": over_time.jitter_xy_mm,
        "vertices, aligned, mm": float(np.median([score.vertex_mm for score in scores])),
        "landmarks, fitted, px": float(np.median([score.landmark_px for score in scores])),
        "rotation of the mesh, degrees": float(np.median([score.mesh_rotation_degrees for score in scores])),
        "lids, gain": over_time.lid_gain,
        "lids, error around its median, mm RMS": _spread(lids - true.lids_mm),
        "blinks, lowest point, of the truth's": over_time.blink_depth,
        "blinks, at the true moment, of the truth's": _share(lids, true.lids_mm, blinks(true)),
        "lips, gain": over_time.lip_gain,
        "lips, error around its median, mm RMS": _spread(lips - true.lips_mm),
        "plosives, at the true moment, of the truth's": _share(lips, true.lips_mm, plosives(true)),
    }
    return Track(lids, lips, np.array([1000 * estimate.t[2] for estimate in estimates]), closure, figures), true


def _spread(error: np.ndarray) -> float:
    return float(np.sqrt(((error - np.median(error)) ** 2).mean()))


def blinks(true: Track) -> list[int]:
    """Frames in which the lids are lowest in a blink."""
    shut = true.closure > 0.6
    near = [true.lids_mm[max(i - 2, 0) : i + 3].min() for i in range(len(shut))]
    return [i for i in np.flatnonzero(shut) if true.lids_mm[i] == near[i] and i >= _REACH and i + _REACH < len(shut)]


def plosives(true: Track) -> list[int]:
    """Frames in which the lips are nearest, having closed and opening again by 2 mm within three frames."""
    lips, found = true.lips_mm, []
    for i in range(_REACH, len(lips) - _REACH):
        before, after = lips[i - _REACH : i + 1], lips[i : i + _REACH + 1]
        if lips[i] == min(before.min(), after.min()) and min(before.max(), after.max()) - lips[i] > 2:
            found.append(i)
    return found


def _share(found: np.ndarray, true: np.ndarray, moments: list[int]) -> float:
    """Mean over moments of how far an aperture came down from what it is three frames around, found over true."""
    if not moments:
        return float("nan")
    drops = [[max(x[i - _REACH], x[i + _REACH]) - x[i] for x in (found, true)] for i in moments]
    return float(np.mean([drop[0] / drop[1] for drop in drops]))


def table(rows: dict[str, tuple[Track, Track]]) -> str:
    """Figures of each clip, without and with."""
    lines = [" " * 46 + "".join(f"{name:>20}" for name in rows)]
    for label in next(iter(rows.values()))[0].figures:
        cells = [f"{raw.figures[label]:.2f} -> {smooth.figures[label]:.2f}" for raw, smooth in rows.values()]
        lines.append(f"{label:<46}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def draw(path: Path, raw: Track, smooth: Track, true: Track) -> None:
    """A blink, a plosive and the distance, without and with the smoother, beside the truth."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    events = [
        ("blink: opening of the lids, mm", "lids_mm", blinks(true)),
        ("plosive: opening of the lips, mm", "lips_mm", plosives(true)),
    ]
    for axis, (title, name, moments) in zip(axes, events, strict=False):
        value = getattr(true, name)
        middle = max(moments, key=lambda i: min(value[i - _REACH], value[i + _REACH]) - value[i])
        shown = np.arange(max(middle - _AROUND, 0), min(middle + _AROUND + 1, len(value)))
        for track, style in ((true, "k-"), (raw, "C1.--"), (smooth, "C0.-")):
            axis.plot(shown, getattr(track, name)[shown], style, linewidth=1.3)
        axis.set_title(title, fontsize=10)
    frames = np.arange(len(true.distance_mm))
    axes[2].axhline(0, color="k", linewidth=1.3, label="truth")
    for track, style, label in ((raw, "C1--", "as tracked"), (smooth, "C0-", "smoothed")):
        error = track.distance_mm - true.distance_mm
        axes[2].plot(frames, error - error.mean(), style, linewidth=1.1, label=label)
    axes[2].set_title("distance: error around its mean, mm", fontsize=10)
    axes[2].legend(fontsize=8, loc="lower center")
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axis.set_xlabel("frame", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def cost(count: int) -> str:
    """Milliseconds a frame of the smoother alone, for as many unknowns as the generic head and FLAME have."""
    import torch

    from tracker.evidence import Evidence
    from tracker.problem import Bounds
    from tracker.settings import SmootherSettings
    from tracker.smoother import FixedLag, RawFrame, Smoother
    from tracker.state import FrameState

    double, lines = torch.float64, []
    for expressions in (50, 100):
        size, rng = 15 + expressions, np.random.default_rng(0)
        unit = torch.tensor([-1.0, 1.0], dtype=double)
        bounds = Bounds(unit.repeat(expressions, 1), unit, unit.repeat(2, 1))
        stds = torch.full((size,), 0.1, dtype=double)
        smoother = Smoother(stds, 1.0, 1.0, bounds, torch.zeros(size, dtype=torch.bool))
        frames = []
        for _ in range(count):
            rows = torch.from_numpy(rng.standard_normal((2 * size, size))) * 5
            still = torch.eye(3, dtype=double)
            parts = [torch.zeros(*shape, dtype=double) for shape in ((2, 2), (2,), (expressions,), (9, 3))]
            state = FrameState(still, torch.tensor([0, 0, 0.5], dtype=double), still, *parts)
            H = rows.T @ rows
            frames.append(RawFrame(state, Evidence(H, H @ torch.from_numpy(0.7 * rng.standard_normal(size)))))
        best = np.inf
        for _ in range(3):
            lag = FixedLag(smoother, SmootherSettings())
            start = time.perf_counter()
            for frame in frames:
                lag.add(frame)
            lag.finish()
            best = min(best, (time.perf_counter() - start) * 1000 / count)
        lines.append(f"{expressions} expressions: {best:.2f} ms a frame, best of 3 runs of {count} frames")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.smoothing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", type=Path, nargs="+", default=[], help="configs of demo clips, calibrated")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--picture", type=Path, help="also draw the first clip's curves to this .png")
    parser.add_argument("--cost", action="store_true", help="time the smoother alone")
    given = parser.parse_args(arguments)
    if bool(given.cfg) == given.cost:
        parser.error("give either --cfg or --cost")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if given.cost:
        print(cost(100))
        return
    from stages import logs

    logs.log_to_console("ERROR")
    rows: dict[str, tuple[Track, Track]] = {}
    for place, cfg in enumerate(given.cfg):
        raw, true = tracked(cfg, given.overrides, smoothed=False)
        smooth, _ = tracked(cfg, given.overrides, smoothed=True)
        rows[cfg.stem] = (raw, smooth)
        if place == 0 and given.picture is not None:
            draw(given.picture, raw, smooth, true)
    print("without -> with the smoother")
    print(table(rows))


if __name__ == "__main__":
    sys.exit(main())
