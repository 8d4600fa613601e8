"""Peak memory against the length of the clip: `python -m benchmarks.memory --cfg configs/demo.yml --frames 250 5000`.

The subject's video is played over and over, its coded pictures as they are, to each number of frames; the pipeline then
runs on it in a process of its own and in an empty folder, from the video to the review video (or `--until` an earlier
stage). Given, for each length: the peak of the resident memory of the process and, sampled ten times a second, of the
process with the ffmpeg processes that it starts; seconds, and milliseconds a frame. Memory is flat when the ratio to
the first length is near 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parent.parent
_SAMPLE_S = 0.1
_MIB = 1024 * 1024


def loop_clip(video: Path, target: Path, frames: int, fps: float) -> None:
    """Writes `frames` frames of a video that starts again at its end; nothing is coded anew.

    Args:
        video: the clip.
        target: output path, same container.
        frames: how many frames.
        fps: the clip's frame rate, Hz.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-stream_loop", "-1", "-i", str(video)]
    subprocess.run([*command, "-t", f"{frames / fps:.4f}", "-an", "-c", "copy", str(target)], check=True)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all that it started, bytes; 0 once it is gone (Linux)."""
    total = 0
    waiting = [pid]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            pages = int((folder / "statm").read_text().split()[1])
            children = [path.read_text().split() for path in folder.glob("task/*/children")]
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
        waiting += [int(child) for group in children for child in group]
    return total


def watch(process: "subprocess.Popen[bytes]") -> int:
    """Waits for a process; the peak of `resident_bytes` meanwhile."""
    peak = 0
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(_SAMPLE_S):
            peak = max(peak, resident_bytes(process.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        process.wait()
    finally:
        ended.set()
        thread.join()
    return peak


def measure(cfg: Path, overrides: list[str], frames: int, until: str) -> dict[str, float]:
    """Runs the pipeline on `frames` frames; its figures.

    Raises:
        SystemExit: the subject has no video, or the run failed.
    """
    from stages.config_file import load_config

    config, _ = load_config(cfg, tuple(overrides))
    actor = Path(config.actor)
    videos = [actor] if actor.is_file() else sorted(actor.glob("video.*"))
    if not videos:
        raise SystemExit(f"{actor}: no video.* there; the clip is looped from a video")
    with tempfile.TemporaryDirectory(prefix="memory_benchmark_") as name:
        folder = Path(name)
        (folder / "input").mkdir()
        loop_clip(videos[0], folder / "input" / f"video{videos[0].suffix}", frames, config.fps)
        placed = [*overrides, f"actor={folder / 'input'}", f"save_folder={folder / 'output'}", "config_name=clip"]
        sets = [part for override in placed for part in ("--set", override)]
        command = [sys.executable, str(ROOT / "run_tracking.py"), "--cfg", str(cfg.absolute()), "--until", until, *sets]
        start = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT) as process:
            peak = watch(process)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise SystemExit(f"{cfg}: the run on {frames} frames failed, see above")
        made = len(list((folder / "input" / "source").iterdir()))
    return {"frames": made, "seconds": seconds, "peak_mib": peak / _MIB}


def table(rows: list[dict[str, float]]) -> str:
    """One line a length, with ratios to the first."""
    lines = ["frames    peak, MiB   ratio   ms a frame"]
    for row in rows:
        ratio = row["peak_mib"] / rows[0]["peak_mib"]
        each = 1000 * row["seconds"] / row["frames"]
        lines.append(f"{row['frames']:6.0f} {row['peak_mib']:12.0f} {ratio:7.3f} {each:12.1f}")
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", type=Path, required=True, help="config of the subject")
    parser.add_argument("--frames", type=int, nargs="+", default=[250, 5000], help="lengths of the clip")
    parser.add_argument("--until", default="review", help="last stage that runs")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args(arguments)
    if min(given.frames) < 1:
        parser.error("--frames must be at least 1")
    return given


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    rows = [measure(given.cfg, given.overrides, frames, given.until) for frames in given.frames]
    print(f"{given.cfg}, until {given.until}; the process with its ffmpeg processes")
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
