"""Stage review: a picture a tracked frame that shows how well the track explains it, and videos that join them.

Writes video/%05d.jpg, video.mp4, video.avi and review.json: `psnr_db`, of the colour overlay inside the face, one
number a frame (null where no face is seen), and `psnr_db_median`. A killed run goes on where it stopped. While
the stage tracking runs, frames are drawn and coded as its checkpoints appear.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.ahead import in_order
from stages.context import StageContext
from stages.drawing import Rehearsal, make_painter
from stages.encode import PictureEncoder
from stages.subject import Subject
from tracker.config import Config
from tracker.frame_read import load_frame
from tracker.head_choice import head_name, model_files

NAME = "review"
RESUMES = True

# Drawing runs in numba and OpenCV, which release the interpreter lock: a second thread pays, a third waits for cores.
_THREADS = 2
_UNDER_WAY = 4
# Beside the solver too: it takes as long for a frame as one thread does, and what is left at the end is half of it.
_THREADS_BESIDE = 2


def config_part(config: Config) -> dict[str, Any]:
    """How the videos are coded, and how checkpoints are read."""
    return {
        "head": head_name(config),
        "num_shape_params": config.num_shape_params,
        "num_exp_params": config.num_exp_params,
        "begin_frames": config.begin_frames,
        "end_frames": config.end_frames,
        "fps": config.fps,
        "review": config.review.model_dump(),
    }


def inputs(subject: Subject, config: Config) -> list[Path]:
    """Checkpoints, pictures, landmarks, appearance and the head model's files."""
    return [
        subject.checkpoint_dir,
        subject.explained_dir,
        subject.appearance_path,
        subject.kpt_dir,
        subject.kpt_dense_dir,
        *model_files(config),
    ]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """Review frames, videos, figures."""
    return [
        subject.review_record_path,
        subject.review_progress_path,
        subject.video_mp4_path,
        subject.video_avi_path,
        subject.video_dir,
    ]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Draws all frames, then joins them.

    Raises:
        InputError: a checkpoint, picture or the appearance is missing or damaged.
        SubjectError: ffmpeg failed.
    """
    indices = subject.frame_indices()
    done = _finished(subject) if context.resume else {}
    with ExitStack() as stack:
        drawer = _drawer(subject, config, context) if len(done) < len(indices) else None
        pictures = _pictures(drawer, indices, done, context)
        encoder = stack.enter_context(
            PictureEncoder(config.fps, subject.video_mp4_path, subject.video_avi_path, config.review.crf)
        )
        for index, psnr in context.progress(pictures, len(indices)):
            if index not in done:
                done[index] = psnr
                with subject.review_progress_path.open("a") as file:
                    file.write(json.dumps([index, psnr]) + "\n")
            encoder.add(subject.review_path(index).read_bytes())
    with context.scalars() as scalars:
        for index in indices:
            if (psnr := done[index]) is not None:
                scalars.add_scalar("review/psnr_db", psnr, index)
    known = [value for value in done.values() if value is not None]
    median = round(float(np.median(known)), 3) if known else None
    files.write_json(subject.review_record_path, {"psnr_db_median": median, "psnr_db": [done[i] for i in indices]})
    subject.review_progress_path.unlink(missing_ok=True)
    context.notes.update({"frames": len(indices), "psnr_db_median": median})
    quality = "no face seen" if median is None else f"overlay {median:.1f} dB in the median"
    logger.info(f"review: {subject.video_mp4_path}, {quality}")


def prepare(subject: Subject, config: Config) -> Rehearsal:
    """Kernels and head model of the drawing, loaded on a thread."""
    return Rehearsal(config)


@dataclass(frozen=True, eq=False)
class _Drawer:
    """Writes the review frame of a number, gives it back with the overlay's PSNR; how many may do so at once."""

    draw: Callable[[int], tuple[int, float | None]]
    threads: int


def _drawer(subject: Subject, config: Config, context: StageContext) -> "_Drawer":
    """How frames are drawn."""
    painter = make_painter(subject, config, None if context.prepared is None else context.prepared.model())
    threads = _THREADS if context.leader is None else _THREADS_BESIDE
    return _Drawer(lambda index: painter.draw(index, load_frame(subject.checkpoint_path(index))), threads)


def _finished(subject: Subject) -> dict[int, float | None]:
    """Frames that an interrupted run finished, with their PSNR: those noted whose picture is there."""
    if not subject.review_progress_path.exists():
        return {}
    done: dict[int, float | None] = {}
    for line in subject.review_progress_path.read_text().splitlines():
        try:
            index, psnr = json.loads(line)
        except ValueError:
            break  # the line that the kill cut short
        if subject.review_path(index).exists():
            done[index] = psnr
    return done


def _pictures(
    drawer: "_Drawer | None", indices: range, done: dict[int, float | None], context: StageContext
) -> Iterator[tuple[int, float | None]]:
    """Number and PSNR of each frame in order, once its picture is there; those not done are drawn on threads."""
    finished = dict(done)

    def frames() -> Iterator[int]:
        for index in indices:
            if index not in finished:
                context.wait_for(context.subject.checkpoint_path(index))
            yield index

    def draw(index: int) -> tuple[int, float | None]:
        return (index, finished[index]) if index in finished or drawer is None else drawer.draw(index)

    return in_order(draw, frames(), _THREADS if drawer is None else drawer.threads, _UNDER_WAY)
