"""Accuracy on clips with known truth: `python -m benchmarks.accuracy --clips default:7 yaw50:3 --out /tmp/accuracy`.

A clip is `VARIANT:SEED` (variants: `python -m stages.demo list`), or the name of a scanned clip that lies beside the
repository (`truth_e`). Each is rendered once, tracked in a process of its own and scored; one table has a row a clip.
`--set` changes the configuration, `--against` runs a second one on the same clips and compares. `--ablation` runs the
configurations of the table `ABLATION` and prints one row each. What is already in the folder and up to date is not run
again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scans import is_scan, scan_folder, scan_row, single_threaded
from benchmarks.track import ROOT, machine

# Clips of the family whose figures are published.
DEFAULT_CLIPS = (
    "default:7",
    "default:11",
    "person:3",
    "yaw50:3",
    "wide:5",
    "tele:13",
    "sidelight:8",
    "hand:5",
    "away:2",
)
FRAMES = 100
# What the tracker is run with; a demo clip comes without an identity code.
_CONFIG = {"head": "generic", "optimize_shape": True, "optimize_jaw": True}

_LOOSE = (
    "tracking.rotation_std=10",
    "tracking.translation_std_mm=1000",
    "tracking.expression_std=10",
    "tracking.jaw_change_std=10",
    "tracking.gaze_change_std=10",
    "tracking.eyelid_change_std=10",
    "tracking.light_std=10",
)
_NO_COLOURS = ("energy.photometric_weight=0",)
_NO_OFFSETS = ("calibration.offset_std_mm=0", "calibration.measured_offsets=false")
_NO_JOINT = ("calibration.joint_steps=0",)
_NO_SMOOTHER = ("smoother.enabled=false",)
# Each row has what the one before lacks, up to the default; those after add to the default what is off in it.
ABLATION: dict[str, tuple[str, ...]] = {
    "landmarks only": (*_NO_COLOURS, *_NO_OFFSETS, *_LOOSE, *_NO_JOINT, *_NO_SMOOTHER),
    "+ landmark offsets": (*_NO_COLOURS, *_LOOSE, *_NO_JOINT, *_NO_SMOOTHER),
    "+ colours": (*_LOOSE, *_NO_JOINT, *_NO_SMOOTHER),
    "+ time": (*_NO_JOINT, *_NO_SMOOTHER),
    "+ joint solve": _NO_SMOOTHER,
    "+ smoother (default)": (),
    "default without outline": ("calibration.contour_weight=0",),
    "default + 16 more frames in the joint solve": ("calibration.refine_frames=16",),
    "default + flow in every frame": ("energy.flow_always=true",),
}

Row = dict[str, Any]
# Heading, key of the row, digits.
_DEMO_COLUMNS = (
    ("vertex mm", "vertex_mm_median", 2),
    ("normal", "normal_mm_median", 2),
    ("tangent.", "tangential_mm_median", 2),
    ("rel rot", "relative_rotation_degrees_median", 2),
    ("mesh rot", "mesh_rotation_degrees_median", 2),
    ("focal %", "focal_percent", 1),
    ("95 %", "focal_holds", 0),
    ("jitter mm", "jitter_mm", 2),
    ("scale", "scale_median", 3),
    ("blink", "blink_depth", 2),
    ("lips", "lip_gain", 2),
)
_SCAN_COLUMNS = (
    ("rigid mm", "rigid_mm", 2),
    ("scaled", "one_scale_mm", 2),
    ("mean: rig.", "mean_rigid_mm", 2),
    ("scaled", "mean_one_scale_mm", 2),
    ("rel rot", "relative_rotation_degrees", 2),
    ("mesh rot", "mesh_rotation_degrees", 2),
    ("focal %", "focal_percent", 1),
    ("95 %", "focal_holds", 0),
    ("jitter mm", "jitter_mm", 2),
    ("scale", "scale", 3),
)


def parse_clip(text: str) -> tuple[str, int | None]:
    """`VARIANT:SEED` or a scanned clip's name: name, and the seed where there is one.

    Raises:
        SystemExit: neither.
    """
    from tracker.demo.variants import VARIANTS

    name, _, seed = text.partition(":")
    if name in VARIANTS and seed.isdecimal():
        return name, int(seed)
    if not seed and is_scan(name):
        return name, None
    raise SystemExit(
        f"--clips {text}: expected VARIANT:SEED with a variant of {', '.join(VARIANTS)}, or a clip in {scan_folder('')}"
    )


def prepare(text: str, folder: Path, frames: int) -> Path:
    """Makes a clip's input folder; one that is there already and the same is kept.

    Args:
        text: see `parse_clip`.
        folder: of all clips.
        frames: length of a rendered clip.

    Returns:
        The input folder.
    """
    from stages.demo import make
    from stages.demo_score import GENERIC_HEAD, truth_path
    from tracker.demo.truth import load_truth
    from tracker.demo.variants import variant
    from tracker.file_hash import sha256

    name, seed = parse_clip(text)
    clip = folder / text.replace(":", "_")
    if seed is None:
        if not (clip / "video.mp4").exists():
            clip.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(scan_folder(name) / "video.mp4", clip / "video.mp4")
        return clip
    spec = variant(name, seed, frames)
    if truth_path(clip).exists() and (clip / "video.mp4").exists():
        truth = load_truth(truth_path(clip))
        if (truth.spec, truth.model_digest) == (spec.to_json(), sha256(GENERIC_HEAD)):
            return clip
    if clip.exists():
        shutil.rmtree(clip)
    make(clip, spec)
    return clip


def track(clip: Path, output: Path, overrides: Sequence[str]) -> str | None:
    """Runs the tracker in a process of its own, up to the stage tracking.

    Args:
        clip: input folder.
        output: output folder of this clip and configuration.
        overrides: `key=value` settings.

    Returns:
        None, or why it failed in a line.
    """
    from stages.files import write_text

    config = output.parent / f"{output.name}.yml"
    lines = {**_CONFIG, "actor": str(clip.resolve()), "save_folder": str(output.parent.resolve())}
    write_text(config, "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()))
    command = [sys.executable, str(ROOT / "run_tracking.py"), "--cfg", str(config), "--until", "tracking"]
    command += [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=single_threaded())
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
    return said[-1].strip() if said else f"exit code {done.returncode}"


def run_clip(text: str, clip: Path, output: Path, overrides: Sequence[str], stride: int = 1) -> Row:
    """Tracks and scores one clip.

    Args:
        text: see `parse_clip`.
        clip: its input folder.
        output: output folder of this clip and configuration.
        overrides: `key=value` settings.
        stride: every how many frames of a scanned clip are judged.

    Returns:
        Its figures, `clip` and `seconds`; only `clip` and `failed` where the tracker failed.
    """
    from stages.demo_score import score

    output.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    failed = track(clip, output, overrides)
    if failed is not None:
        return {"clip": text, "failed": failed}
    seconds = time.perf_counter() - start
    name, seed = parse_clip(text)
    if seed is None:
        return {"clip": text, "seconds": seconds, **scan_row(name, clip, output, stride)}
    figures = score(clip, output)
    signed = 100 * (figures["focal_px"] / figures["focal_true_px"] - 1)
    holds = figures.get("focal_interval_holds")
    return {"clip": text, "seconds": seconds, **figures, "focal_percent": signed, "focal_holds": holds}


def averaged(rows: Sequence[Row]) -> Row:
    """Medians over clips of what the clips have in common; focal lengths by their size, without sign."""
    done = [row for row in rows if "failed" not in row]
    known: dict[str, list[float]] = {}
    for row in done:
        for key, value in row.items():
            if isinstance(value, int | float):
                known.setdefault(key, []).append(abs(value) if key == "focal_percent" else value)
    summary: Row = {key: float(np.median(values)) for key, values in known.items()}
    for status in ("ok", "poor", "lost"):
        summary[f"frames_{status}"] = sum(known.get(f"frames_{status}", []))
    summary["focal_holds"] = float(np.mean(known["focal_holds"])) if "focal_holds" in known else None
    return {**summary, "clip": f"median of {len(done)}"}


def cells(row: Row, columns: Sequence[tuple[str, str, int]]) -> list[str]:
    """A row's cells: name, frames by status, figures."""
    if "failed" in row:
        return [row["clip"], "failed: " + row["failed"]]
    found = [row["clip"], "/".join(f"{row[f'frames_{status}']:.0f}" for status in ("ok", "poor", "lost"))]
    for _, key, digits in columns:
        value = row.get(key)
        if value is None:
            found.append("-")
        elif key == "focal_holds":
            found.append({1.0: "holds", 0.0: "MISSES"}.get(value, f"{100 * value:.0f} %"))
        else:
            found.append(f"{value:+.{digits}f}" if key == "focal_percent" else f"{value:.{digits}f}")
    return found


def table(rows: Sequence[Row], markdown: bool = False) -> str:
    """Rows of rendered clips, then of scanned ones, with a line of medians under more than one."""
    parts = []
    for columns, chosen in (
        (_DEMO_COLUMNS, [row for row in rows if ":" in row["clip"] or "vertex_mm_median" in row]),
        (_SCAN_COLUMNS, [row for row in rows if ":" not in row["clip"] and "vertex_mm_median" not in row]),
    ):
        if not chosen:
            continue
        last = [averaged(chosen)] if len([row for row in chosen if "failed" not in row]) > 1 and not markdown else []
        head = ["clip", "ok/poor/lost", *(heading for heading, _, _ in columns)]
        parts.append(_lines([head, *(cells(row, columns) for row in [*chosen, *last])], markdown))
    return "\n\n".join(parts)


def _lines(lines: Sequence[Sequence[str]], markdown: bool) -> str:
    if markdown:
        ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
        return "\n".join("| " + " | ".join(line) + " |" for line in ruled)
    wide = [max(len(line[k]) for line in lines if len(line) > 2) for k in range(len(lines[0]))]
    shown = []
    for line in lines:
        # A failure has words instead of figures.
        width = wide if len(line) > 2 else [*wide[:1], 0]
        shown.append(
            "  ".join(f"{x:>{w}}" if k else f"{x:<{w}}" for k, (x, w) in enumerate(zip(line, width, strict=True)))
        )
    return "\n".join(shown)


def measure(given: argparse.Namespace, variants: dict[str, Sequence[str]]) -> dict[str, list[Row]]:
    """Runs every configuration on every clip; the configurations take turns.

    Args:
        given: the command line.
        variants: name of each configuration and its settings.
    """
    rows: dict[str, list[Row]] = {name: [] for name in variants}
    for text in given.clips:
        clip = prepare(text, given.out / "clips", given.frames)
        for place, (name, overrides) in enumerate(variants.items()):
            row = run_clip(text, clip, given.out / f"run{place}" / clip.name, overrides, given.stride)
            rows[name].append(row)
            words = row.get("failed") or f"{row['seconds']:.0f} s"
            print(f"{text}, {name}: {words}", file=sys.stderr)
    return rows


def ablation_table(rows: dict[str, list[Row]]) -> str:
    """Markdown: one row a configuration, medians over the clips."""
    parts = []
    for scanned in (False, True):
        chosen = {name: [row for row in these if (":" not in row["clip"]) == scanned] for name, these in rows.items()}
        done = {name: [row for row in these if "failed" not in row] for name, these in chosen.items()}
        lines = [{**averaged(these), "clip": name} for name, these in done.items() if these]
        lines += [
            {"clip": f"{name}, {row['clip']}", "failed": row["failed"]}
            for name, these in chosen.items()
            for row in these
            if "failed" in row
        ]
        if lines:
            columns = _SCAN_COLUMNS if scanned else _DEMO_COLUMNS
            head = ["configuration", "ok/poor/lost", *(heading for heading, _, _ in columns)]
            parts.append(_lines([head, *(cells(line, columns) for line in lines)], markdown=True))
    return "\n\n".join(parts)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clips", nargs="+", default=list(DEFAULT_CLIPS), metavar="CLIP", help="VARIANT:SEED or a scan"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder that receives clips, tracks and results.json")
    parser.add_argument("--frames", type=int, default=FRAMES, help="length of rendered clips")
    parser.add_argument(
        "--stride", type=int, default=1, help="judge only every n-th frame of a scanned clip; above 1 without jitter"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--against", action="append", default=[], metavar="KEY=VALUE", help="what a second configuration changes"
    )
    parser.add_argument("--ablation", action="store_true", help="run the configurations of ABLATION, on top of --set")
    given = parser.parse_args(arguments)
    if given.ablation and given.against:
        parser.error("--ablation compares configurations of its own; leave out --against")
    for text in given.clips:
        parse_clip(text)
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if any clip failed."""
    given = parse(arguments)
    variants: dict[str, Sequence[str]] = {" ".join(given.overrides) or "as configured": given.overrides}
    if given.ablation:
        variants = {name: [*given.overrides, *overrides] for name, overrides in ABLATION.items()}
    elif given.against:
        variants[" ".join([*given.overrides, *given.against])] = [*given.overrides, *given.against]
    rows = measure(given, variants)
    facts = machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if given.ablation:
        print(ablation_table(rows))
    else:
        for name, these in rows.items():
            print(f"\n{name}\n{table(these)}")
    text = json.dumps({"machine": facts, "configurations": variants, "rows": rows}, indent=1)
    (given.out / "results.json").write_text(text + "\n")
    return int(any("failed" in row for these in rows.values() for row in these))


if __name__ == "__main__":
    sys.exit(main())
