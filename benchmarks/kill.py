"""Kills the pipeline in every stage and compares: `python -m benchmarks.kill --cfg configs/demo.yml --frames 24`.

One copy of the subject runs through undisturbed. In another the process is killed (SIGKILL) in the middle of each stage
and the same command is given again. Then all files of both are compared, byte by byte. Left out are accounts of runs
and of time: logs, manifests, timings.csv and the milliseconds in report.json. The stage identity writes one small file
by a rename, so there is no middle in which to kill it.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.track import ROOT, copy_input

# In the middle of each stage: so many files match this pattern.
MIDDLES = {
    "frames": ("input/*/source.*.tmp/*", 3),
    "crop": ("input/*/images/*", 5),
    "landmarks": ("input/*/kpt_dense/*.npy", 5),
    "calibration": ("output/*/camera/00001.jpg", 1),
    "tracking": ("output/*/checkpoint/*.frame", 5),
    "review": ("output/*/video/*.jpg", 5),
}
_TIMEOUT_S = 1800
_ACCOUNTS = ("train.log", "timings.csv")
_ACCOUNT_FOLDERS = ("manifests", "logs")


def command(cfg: Path, overrides: list[str], last: str) -> list[str]:
    """The command line that runs a subject up to a stage, in the folder that holds its input/ and output/."""
    placed = [*overrides, "actor=input/subject", "save_folder=output", "config_name=subject"]
    sets = [part for override in placed for part in ("--set", override)]
    return [sys.executable, str(ROOT / "run_tracking.py"), "--cfg", str(cfg.absolute()), *sets, "--until", last]


def kill_in(stage: str, arguments: list[str], home: Path) -> bool:
    """Starts a run and kills it in the middle of a stage; False where the run had ended by then."""
    pattern, count = MIDDLES[stage]
    deadline = time.monotonic() + _TIMEOUT_S
    with subprocess.Popen(arguments, cwd=home, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(home.glob(pattern))) < count:
            if time.monotonic() > deadline:
                process.kill()
                raise SystemExit(f"{stage}: no {pattern} after {_TIMEOUT_S} s")
            time.sleep(0.002)
        ended = process.poll() is not None
        process.kill()
    return not ended


def results(home: Path) -> dict[str, str]:
    """Hash of every result file, by its path."""
    found = {}
    for path in sorted(home.rglob("*")):
        inner = path.relative_to(home)
        if path.is_file() and path.name not in _ACCOUNTS and not set(_ACCOUNT_FOLDERS) & set(inner.parts):
            data = _timeless(path) if path.name == "report.json" else path.read_bytes()
            found[str(inner)] = hashlib.sha256(data).hexdigest()
    return found


def _timeless(report: Path) -> bytes:
    """report.json without its milliseconds."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(inner) for key, inner in value.items() if not key.startswith("milliseconds")}
        return [stripped(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(stripped(json.loads(report.read_text()))).encode()


def compare(cfg: Path, overrides: list[str], frames: int) -> bool:
    """Runs both copies; prints a line a stage and the verdict; True where every file is the same."""
    from stages.config_file import load_config

    config, _ = load_config(cfg, tuple(overrides))
    with tempfile.TemporaryDirectory(prefix="kill_benchmark_") as name:
        calm, killed = Path(name) / "calm", Path(name) / "killed"
        for home in (calm, killed):
            copy_input(config, home / "input/subject", frames)
        subprocess.run(command(cfg, overrides, "review"), cwd=calm, check=True, stderr=subprocess.DEVNULL)
        for stage in MIDDLES:
            arguments = command(cfg, overrides, stage)
            hit = kill_in(stage, arguments, killed)
            subprocess.run(arguments, cwd=killed, check=True, stderr=subprocess.DEVNULL)
            print(f"{stage: <11}  {'killed, continued' if hit else 'ended before it could be killed'}", flush=True)
        undisturbed, after = results(calm), results(killed)
    different = sorted(key for key in undisturbed.keys() | after.keys() if undisturbed.get(key) != after.get(key))
    print(f"{len(undisturbed)} files, {len(different)} differ{': ' + ', '.join(different[:5]) if different else ''}")
    return not different


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 where every file is the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True, help="config of the subject")
    parser.add_argument("--frames", type=int, default=24, help="about this many frames from the clip's start; 0: all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    return 0 if compare(given.cfg, given.overrides, given.frames) else 1


if __name__ == "__main__":
    sys.exit(main())
