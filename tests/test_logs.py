"""Console, train.log, progress and TensorBoard."""

import time
from pathlib import Path

import pytest
from loguru import logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stages import logs
from stages.context import StageContext
from stages.subject import Subject


def test_console_is_short_and_the_file_has_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.log_to_console()
    with logs.log_to_file(tmp_path / "out" / "train.log"):
        logger.info("hello")
        try:
            raise ValueError("deep inside")
        except ValueError as error:
            logger.error("one line")
            logger.bind(file_only=True).opt(exception=error).debug("traceback")
    logger.info("after")
    console = capsys.readouterr().err
    assert [line.split(maxsplit=2)[2] for line in console.splitlines()] == ["hello", "one line", "after"]
    text = (tmp_path / "out" / "train.log").read_text()
    assert "ValueError: deep inside" in text
    assert "test_logs" in text
    assert "after" not in text


def test_file_is_continued(tmp_path: Path) -> None:
    for line in ("first", "second"):
        with logs.log_to_file(tmp_path / "train.log"):
            logger.info(line)
    assert [row.split()[-1] for row in (tmp_path / "train.log").read_text().splitlines()] == ["first", "second"]


def test_progress_passes_items_and_reports_speed(capsys: pytest.CaptureFixture[str]) -> None:
    logs.log_to_console()
    assert list(logs.progress(iter("abc"), "crop", 3)) == ["a", "b", "c"]
    assert "crop: 3 frames in 0.0 s" in capsys.readouterr().err


def test_scalars_replace_those_of_an_earlier_run(tmp_path: Path) -> None:
    context = StageContext("tracking", Subject(tmp_path / "in", tmp_path / "out"), "cpu")
    for value in (1.0, 2.0):
        with context.scalars() as writer:
            writer.add_scalar("residual", value, 7)
    folder = tmp_path / "out" / "logs" / "tracking"
    assert len(list(folder.iterdir())) == 1
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("residual")] == [(7, 2.0)]


def test_scalars_are_those_that_tensorboard_reads(tmp_path: Path) -> None:
    points = [(0, 0.0), (1, -2.5), (127, 1e-8), (128, 3.5e37), (70_000, float("inf"))]
    with logs.scalar_writer(tmp_path) as writer:
        for step, value in points:
            writer.add_scalar("tracking/ü" + 200 * "x", value, step)
            writer.add_scalar("other", step, step)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    read = [(event.step, event.value) for event in events.Scalars("tracking/ü" + 200 * "x")]
    assert read == [(step, pytest.approx(value, rel=1e-6)) for step, value in points]
    assert [event.value for event in events.Scalars("other")] == [step for step, _ in points]
    assert abs(events.Scalars("other")[0].wall_time - time.time()) < 60
