"""What a run says: loguru on the console and in train.log, a progress bar a stage, TensorBoard scalars."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from loguru import logger
from tqdm import tqdm

from stages.scalars import ScalarWriter

T = TypeVar("T")

_CONSOLE_FORMAT = "<dim>{time:HH:mm:ss}</dim> <level>{level: <7}</level> {message}"
_FILE_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <8} {name}:{line} {message}"


def log_to_console(level: str = "INFO") -> None:
    """Short lines on standard error, written so that they do not tear a progress bar apart."""
    logger.remove()
    logger.add(
        lambda line: tqdm.write(line, file=sys.stderr, end=""),
        format=_CONSOLE_FORMAT,
        level=level,
        filter=lambda record: not record["extra"].get("file_only", False),
        colorize=sys.stderr.isatty(),
        # A traceback belongs into train.log; the console gets the one line that helps.
        backtrace=False,
        diagnose=False,
    )


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Adds everything, tracebacks included, to a subject's train.log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = logger.add(path, format=_FILE_FORMAT, level="DEBUG", diagnose=False, encoding="utf-8")
    try:
        yield
    finally:
        logger.remove(sink)


def progress(items: Iterable[T], stage: str, total: int | None = None, line: int = 0) -> Iterator[T]:
    """Passes items through a bar with frames a second and the time left; one log line at the end.

    Args:
        items: one item a frame.
        stage: name shown before the bar.
        total: number of items, where `items` does not know.
        line: lines below the first bar, for a stage that runs beside another.

    Yields:
        The items.
    """
    start = time.perf_counter()
    # disable=None: no bar where standard error is not a terminal, e.g. in a batch job's log.
    bar = tqdm(
        items,
        f"{stage: <11}",
        total,
        unit="frame",
        dynamic_ncols=True,
        leave=False,
        disable=None,
        position=line or None,
    )
    done = 0
    for item in bar:
        yield item
        done += 1
    seconds = time.perf_counter() - start
    logger.info(f"{stage}: {done} frames in {seconds:.1f} s, {done / max(seconds, 1e-9):.1f} frames/s")


@contextmanager
def scalar_writer(folder: Path) -> Iterator[ScalarWriter]:
    """A TensorBoard writer that starts its folder afresh, so that a repeated stage does not draw two curves."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with ScalarWriter(folder) as writer:
        yield writer
