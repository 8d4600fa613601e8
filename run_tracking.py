"""Tracks the head in one or more videos: `python run_tracking.py --cfg configs/duda.yml`.

`python run_tracking.py assets` says which models and weights are there, and fetches what may be fetched.

Exit codes: 0 all tracked; 1 usage or bad input; 2 a subject failed (the others were still run).
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

# The solver's matrices are small: a second thread gains a tenth on an idle machine, and on a busy one the threads'
# waiting for each other made a solve ten times slower. Before numpy is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from stages import solver_start

if __name__ == "__main__":
    solver_start.start_early(sys.argv[1:])
    # No garbage is made while libraries are loaded.
    gc.disable()

from loguru import logger

from stages import logs, pipeline
from stages.config_file import load_config
from stages.subject import Subject
from tracker.allocator import keep_freed_memory, share_one_heap
from tracker.command_line import OneLineParser
from tracker.config import Config
from tracker.errors import InputError, TrackerError

BAD_INPUT, SUBJECT_FAILED, INTERRUPTED = 1, 2, 130
# What may go wrong with one subject and must not stop the next: named errors, a full disk or missing rights, no
# memory, a library that gives up on its data. Programming errors (TypeError, KeyError, …) are not caught.
_SUBJECT_FAILURES = (TrackerError, OSError, MemoryError, RuntimeError, ArithmeticError)


# Where Linux shows a driver that torch's CUDA or ROCm could use (the third under Windows); elsewhere there is neither.
_GPU_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line.

    Raises:
        InputError: an unknown option or a missing one.
    """
    parser = OneLineParser(
        prog="run_tracking.py",
        description="Tracks the head in videos; one config file a subject.",
        epilog="Exit codes: 0 all tracked; 1 usage or bad input; 2 a subject failed (the others were still run).",
    )
    parser.add_argument("--cfg", nargs="+", required=True, type=Path, metavar="FILE", help="one config file a subject")
    parser.add_argument("--stages", metavar="A,B", help=f"only these stages: {', '.join(pipeline.STAGES)}")
    parser.add_argument("--from", dest="first", metavar="A", help="start with this stage")
    parser.add_argument("--until", dest="last", metavar="B", help="stop after this stage")
    parser.add_argument("--force", action="store_true", help="run the chosen stages although they are up to date")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override a config key"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="overrides the config's device")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and why, and do nothing")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    share_one_heap()
    keep_freed_memory()
    logs.log_to_console()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["assets"]:
        return _assets(given[1:])
    try:
        args = parse_arguments(arguments)
        overrides = (*args.overrides, *([f"device={args.device}"] if args.device else []))
        names = pipeline.select_stages(args.stages, args.first, args.last)
        configs = [_config(path, overrides) for path in args.cfg]
        _check_distinct(configs)
        devices = [_device(config.device) for config in configs]
    except InputError as error:
        logger.error(str(error))
        return BAD_INPUT
    try:
        codes = [_run(config, names, device, args) for config, device in zip(configs, devices, strict=True)]
    except KeyboardInterrupt:
        logger.error("interrupted; the same command continues where it stopped")
        return INTERRUPTED
    if len(codes) > 1 and any(codes):
        logger.error(f"{len(codes) - codes.count(0)} of {len(codes)} subjects failed")
        return SUBJECT_FAILED
    return max(codes)


def _assets(arguments: Sequence[str]) -> int:
    """The subcommand `assets`; returns the exit code."""
    from stages import assets

    try:
        return assets.main(arguments)
    except (InputError, OSError) as error:
        logger.error(str(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        logger.error("interrupted")
        return INTERRUPTED


def _config(path: Path, overrides: tuple[str, ...]) -> Config:
    config, ignored = load_config(path, overrides)
    if ignored:
        logger.warning(f"{path}: metrical-tracker's {', '.join(ignored)} have no effect here")
    return config


def _check_distinct(configs: Sequence[Config]) -> None:
    """Two configs of the same output folder would overwrite each other's results."""
    folders = [Subject.of(config).output_dir.absolute() for config in configs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f"--cfg: two configs write {folder}; give one of them another config_name or save_folder")


def _device(wanted: str) -> str:
    if wanted == "cpu" or (wanted == "auto" and not any(Path(path).exists() for path in _GPU_DRIVERS)):
        # torch takes a second to import, which the first stages do not need.
        return "cpu"
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch finds no CUDA device here; use --device cpu")
    return "cuda" if torch.cuda.is_available() else "cpu"


def _run(config: Config, names: Sequence[str], device: str, args: argparse.Namespace) -> int:
    """One subject from its first chosen stage to its last; returns its exit code."""
    subject = Subject.of(config)
    try:
        if args.dry_run:
            for name, runs, reason in pipeline.plan(subject, config, names, args.force):
                sys.stdout.write(f"{subject.name}  {name: <11}  {'run ' if runs else 'skip'}  {reason}\n")
            return 0
        with logs.log_to_file(subject.log_path):
            return _run_logged(subject, config, names, device, args.force)
    except _SUBJECT_FAILURES as error:
        # Only what happens before train.log is open (no right to write there) or in a dry run comes here.
        logger.error(f"{subject.name}: {_one_line(error)}")
        return BAD_INPUT


def _run_logged(subject: Subject, config: Config, names: Sequence[str], device: str, force: bool) -> int:
    logger.info(f"{subject.name}: {subject.input_dir} -> {subject.output_dir} on {device}, profile {config.profile}")
    try:
        pipeline.run_stages(subject, config, names, device, force)
        if "tracking" in names:
            from stages.report import warn_of_focal_length

            warn_of_focal_length(subject)
    except _SUBJECT_FAILURES as error:
        logger.error(f"{subject.name}: {_one_line(error)}")
        logger.bind(file_only=True).opt(exception=error).debug("traceback")
        return BAD_INPUT if isinstance(error, InputError) else SUBJECT_FAILED
    return 0


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, TrackerError | OSError) else f"{type(error).__name__}: {text}; see train.log"


def _leave(code: int) -> NoReturn:
    """Ends the process; taking interpreter and libraries apart first would take a quarter of a second."""
    solver_start.end_unused()
    for stream in (sys.stdout, sys.stderr):
        # None where the descriptor was closed from the start; broken where the reader has gone.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    _leave(main())
