"""Draws review frames in a process of its own, so that drawing does not hold the interpreter that the solver needs.

`python -m stages.drawing CONFIG` reads frame numbers from its standard input, a line each, draws each frame, and
answers with a line of JSON. It ends with its input, so it does not outlive the run that started it, however that ends.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.manifest import ROOT
from tracker.errors import InputError, SubjectError, TrackerError


class DrawingProcess:
    """The process, seen from the run that feeds it."""

    def __init__(self, config_path: Path) -> None:
        """Starts it for the subject of a resolved config file."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stages.drawing", str(config_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def __enter__(self) -> "DrawingProcess":
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def draw(self, index: int) -> tuple[int, float | None]:
        """Draws one frame; its number and the overlay's PSNR.

        Raises:
            InputError: a file of the frame is missing or damaged.
            SubjectError: the process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Where the process has gone, what it said last says why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{index}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SubjectError(
                f"review: the drawing process ended with code {self._process.wait()} at frame {index}; run again, it "
                "goes on there"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(str(answer["error"]))
        return index, answer["psnr_db"]


def answer_all(draw: Callable[[int], float | None]) -> None:
    """Answers every line of the standard input until it ends."""
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"psnr_db": draw(int(line))}
        except TrackerError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(config_path: Path) -> None:
    """Draws frames of a resolved config's subject."""
    from stages.config_file import load_config
    from stages.review import make_painter
    from stages.subject import Subject
    from tracker.frame_file import load_frame

    config, _ = load_config(config_path)
    subject = Subject.of(config)
    painter = None

    def draw(index: int) -> float | None:
        nonlocal painter
        painter = painter or make_painter(subject, config)
        return painter.draw(index, load_frame(subject.checkpoint_path(index)))[1]

    answer_all(draw)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
