"""Times the whole pipeline on a subject: `python -m benchmarks.track --cfg configs/demo.yml --frames 30`.

Each run starts in a process of its own and in an empty temporary folder, from the video (or source/) to the review
video. Given: milliseconds a frame of each stage (median and interquartile range over runs; the calibration's cost is
the clip's, so it falls with the number of frames; the review runs beside tracking and counts with what it takes longer)
and of the solver (over frames), frames a second of the whole pipeline with and without start-up, solver steps a frame,
peak memory of the larger process, and the track's own error figures, so that speed is not bought with accuracy unseen.
With `--against` two configurations run in turn and are compared:

    python -m benchmarks.track --cfg configs/demo.yml --against tracking.levels=2 --repeats 5

With `--sweep` the pipeline runs at several values of `frames` (the clip's length) or of a config key, and a line is
fitted to the processor time of the whole run, ffmpeg and the solver's process included. Cost is linear when the line
explains it (R^2 near 1):

    python -m benchmarks.track --cfg configs/demo.yml --sweep frames=60,120,240
    python -m benchmarks.track --cfg configs/demo.yml --sweep tracking.samples=1000,2000,4000
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# A first short run compiles numba's kernels and brings libraries into the page cache; it is not counted.
WARM_UP_FRAMES = 12
_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
Quartiles = dict[str, tuple[float, float, float]]
_ERRORS = {"landmark error, px": "reprojection_px", "jitter, px": "jitter_px", "overlay, dB": "psnr_db"}


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "numba", "mediapipe")},
        "commit": _commit(),
    }


def _commit() -> str:
    """The project's commit, '-dirty' where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def copy_input(config: Any, target: Path, frames: int) -> Path:
    """What the user gave of a subject, in a folder of its own; the clip cut to `frames` where that is not 0.

    Returns:
        The actor's path, a folder.

    Raises:
        SystemExit: the subject has neither video nor pictures.
    """
    actor = Path(config.actor)
    target.mkdir(parents=True)
    for name in ("identity.npy", *(["bbox.pt"] if _box_is_given(actor) else [])):
        if (actor / name).is_file():
            shutil.copyfile(actor / name, target / name)
    found = [actor] if actor.is_file() else sorted(p for p in actor.glob("video.*") if p.is_file())
    if found:
        suffix = found[0].suffix
        _cut(found[0], target / f"video{suffix}", frames / config.fps if frames else None)
        return target
    pictures = sorted((actor / "source").glob("*.*"))
    if not pictures:
        raise SystemExit(f"{actor}: neither video.* nor source/ there; nothing to time")
    (target / "source").mkdir()
    for path in pictures[: frames or None]:
        shutil.copyfile(path, target / "source" / path.name)
    return target


def _box_is_given(actor: Path) -> bool:
    """Whether bbox.pt is the user's rather than made by the stage crop."""
    record = actor / "crop.json"
    return not record.is_file() or json.loads(record.read_text())["box_from"] == "user"


def _cut(video: Path, target: Path, seconds: float | None) -> None:
    """The first seconds of a video, its coded pictures as they are."""
    if seconds is None:
        shutil.copyfile(video, target)
        return
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", str(video), "-t", f"{seconds:.4f}"]
    subprocess.run([*command, "-c", "copy", str(target)], check=True)


def worker(cfg: Path, overrides: tuple[str, ...]) -> None:
    """Runs all stages in this process and prints one JSON line: seconds a stage, peak memory, the track's figures."""
    from stages import files, logs, pipeline
    from stages.config_file import load_config
    from stages.subject import Subject

    logs.log_to_console("WARNING")
    config, _ = load_config(cfg, overrides)
    subject = Subject.of(config)
    seconds = pipeline.run_stages(subject, config, pipeline.STAGES, "cpu", False)
    report, review = files.read_json(subject.report_path), files.read_json(subject.review_record_path)
    figures = {
        "pictures": len(subject.image_numbers()),
        "stages_s": seconds,
        # Kilobytes on Linux. A process starts with the peak of the one that started it: the parent must stay small.
        "cpu_s": sum(_processor_seconds(who) for who in _PROCESSES),
        # The larger of the two processes: from 60 frames on the solver has one of its own.
        "peak_mib": max(resource.getrusage(who).ru_maxrss for who in _PROCESSES) / 1024,
        "solver_ms": [frame["milliseconds"] for frame in report["frames"]],
        "steps": [frame["steps"] for frame in report["frames"]],
        "reprojection_px": report["summary"]["reprojection_px_median"],
        "jitter_px": report["summary"]["jitter_fitted_px"],
        "psnr_db": review["psnr_db_median"],
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _processor_seconds(who: int) -> float:
    """User and system time of this process, or of the children that it has waited for."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def run_once(cfg: Path, overrides: list[str], frames: int) -> dict[str, Any]:
    """One run from video to review video in an empty folder; its figures, with the seconds seen from outside."""
    from stages.config_file import load_config

    with tempfile.TemporaryDirectory(prefix="track_benchmark_") as name:
        folder = Path(name)
        config, _ = load_config(cfg, tuple(overrides))
        actor = copy_input(config, folder / "input" / Path(config.actor).stem, frames)
        placed = [*overrides, f"actor={actor}", f"save_folder={folder / 'output'}"]
        sets = [part for override in placed for part in ("--set", override)]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.track", "--worker", "--cfg", str(cfg.absolute()), *sets],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{cfg}: a run with {' '.join(overrides) or 'no override'} failed, see above")
    return {**json.loads(done.stdout.splitlines()[-1]), "total_s": seconds}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """25 %, median, 75 %."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


def summarise(runs: list[dict[str, Any]]) -> Quartiles:
    """Quartiles of each figure: over runs, and over the frames of all runs for the solver's."""
    count = [run["pictures"] for run in runs]
    rows = {
        f"{stage}, ms a frame": [1000 * run["stages_s"][stage] / n for run, n in zip(runs, count, strict=True)]
        for stage in runs[0]["stages_s"]
    }
    rows["solver alone, ms a frame"] = [ms for run in runs for ms in run["solver_ms"] if ms is not None]
    rows["solver steps a frame"] = [steps for run in runs for steps in run["steps"]]
    inside = [sum(run["stages_s"].values()) for run in runs]
    rows["all stages, frames/s"] = [n / s for n, s in zip(count, inside, strict=True)]
    rows["with start-up, frames/s"] = [n / run["total_s"] for n, run in zip(count, runs, strict=True)]
    rows["processor time, ms a frame"] = [1000 * run["cpu_s"] / n for run, n in zip(runs, count, strict=True)]
    rows["peak memory, MiB"] = [run["peak_mib"] for run in runs]
    for label, key in _ERRORS.items():
        known = [run[key] for run in runs if run[key] is not None]
        if known:
            rows[label] = known
    return {label: quartiles(values) for label, values in rows.items()}


def table(variants: dict[str, Quartiles], ratio: bool) -> str:
    """Rows of median and interquartile range; with `ratio` also that of the medians, second variant to first."""
    letters = [chr(ord("A") + place) for place in range(len(variants))]
    lines = [f"{letter}: {name}" for letter, name in zip(letters, variants, strict=True)]
    lines.append(" " * 28 + "".join(f"{letter:>12}{'':22}" for letter in letters) + ("     B/A" if ratio else ""))
    for label in next(iter(variants.values())):
        cells = [variant.get(label, (np.nan,) * 3) for variant in variants.values()]
        row = "".join(f"{f'{cell[1]:12.2f}  ({cell[0]:.2f} to {cell[2]:.2f})':<34}" for cell in cells)
        lines.append(f"{label:<28}{row}" + (f"{cells[1][1] / cells[0][1]:8.3f}" if ratio and cells[0][1] else ""))
    return "\n".join(line.rstrip() for line in lines)


def measure(variants: dict[str, list[str]], cfg: Path, frames: int, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Runs the variants in turn, each `repeats` times; the order turns round every time, so that drift cancels."""
    run_once(cfg, next(iter(variants.values())), min(WARM_UP_FRAMES, frames or WARM_UP_FRAMES))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for repeat in range(repeats):
        for name in list(variants)[:: 1 if repeat % 2 == 0 else -1]:
            runs[name].append(run_once(cfg, variants[name], frames))
            print(f"run {repeat + 1} of {repeats}, {name}: {runs[name][-1]['total_s']:.1f} s", file=sys.stderr)
    return runs


def sweep(key: str, values: list[int], given: argparse.Namespace) -> list[tuple[int, float]]:
    """Runs at each value in turn, up and down; (value, median processor seconds) each.

    For `frames` the value is that of the pictures that were cut from the clip, which a video's keyframes may round.
    """
    run_once(given.cfg, given.overrides, WARM_UP_FRAMES)
    found: dict[int, list[dict[str, Any]]] = {value: [] for value in values}
    for repeat in range(given.repeats):
        for value in values[:: 1 if repeat % 2 == 0 else -1]:
            varied = [] if key == "frames" else [f"{key}={value}"]
            run = run_once(given.cfg, [*given.overrides, *varied], value if key == "frames" else given.frames)
            found[value].append(run)
            print(f"run {repeat + 1} of {given.repeats}, {key} {value}: {run['cpu_s']:.1f} s", file=sys.stderr)
    return [
        (runs[0]["pictures"] if key == "frames" else value, float(np.median([run["cpu_s"] for run in runs])))
        for value, runs in found.items()
    ]


def fit_line(points: list[tuple[int, float]]) -> tuple[float, float, float]:
    """Slope, intercept and R^2 of the least-squares line through points of different x."""
    x, y = np.array(points, np.float64).T
    slope, intercept = np.polyfit(x, y, 1)
    left, spread = np.square(y - slope * x - intercept).sum(), np.square(y - y.mean()).sum()
    return float(slope), float(intercept), float(1 - left / spread) if spread > 0 else 1.0


def sweep_table(key: str, points: list[tuple[int, float]]) -> str:
    """The measured points, and the line through them."""
    slope, intercept, r_squared = fit_line(points)
    lines = [f"{key:<20}{'processor s':>12}{'line':>9}"]
    lines += [f"{x:<20}{y:12.2f}{intercept + slope * x:9.2f}" for x, y in points]
    return "\n".join([*lines, f"{intercept:.2f} s + {1000 * slope:.3f} ms x {key}, R^2 {r_squared:.4f}"])


def _swept(text: str) -> tuple[str, list[int]]:
    """`KEY=N,N,N` of the command line: at least three different numbers."""
    key, _, numbers = text.partition("=")
    values = sorted({int(number) for number in numbers.split(",")})
    if not key or len(values) < 3 or values[0] < 1:
        raise ValueError(text)
    return key, values


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.track", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", type=Path, required=True, help="config of the subject")
    parser.add_argument(
        "--frames",
        type=int,
        default=0,
        help="about this many frames from the clip's start, cut without coding them anew; 0: all",
    )
    parser.add_argument("--repeats", type=int, default=3, help="counted runs of each configuration")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--against", action="append", default=[], metavar="KEY=VALUE", help="what a second configuration changes"
    )
    parser.add_argument(
        "--sweep", type=_swept, metavar="KEY=N,N,N", help="frames or a config key, and at least three values of it"
    )
    parser.add_argument("--json", type=Path, help="also write machine, summary and all runs to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.repeats < 1 or given.frames < 0:
        parser.error("--repeats must be at least 1, --frames at least 0")
    if given.sweep and given.against:
        parser.error("--sweep and --against cannot be combined")
    return given


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    if given.worker:
        worker(given.cfg, tuple(given.overrides))
        return
    if given.sweep:
        facts, points = machine(), sweep(*given.sweep, given)
        print(", ".join(f"{key} {value}" for key, value in facts.items()))
        print(sweep_table(given.sweep[0], points))
        if given.json:
            given.json.write_text(json.dumps({"machine": facts, "sweep": given.sweep[0], "points": points}) + "\n")
        return
    variants = {" ".join(given.overrides) or "as configured": given.overrides}
    if given.against:
        variants[" ".join(given.against)] = [*given.overrides, *given.against]
    facts = machine()
    runs = measure(variants, given.cfg, given.frames, given.repeats)
    summary = {name: summarise(these) for name, these in runs.items()}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{given.cfg}, {next(iter(runs.values()))[0]['pictures']} frames, {given.repeats} runs: median (25 to 75 %)")
    print(table(summary, ratio=len(variants) == 2))
    if given.json:
        given.json.write_text(json.dumps({"machine": facts, "summary": summary, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
