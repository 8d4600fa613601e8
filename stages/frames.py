"""Stage frames: video to source/00001.png on, at the config's frame rate.

A source/ folder that the user filled is left alone, and a single picture is a clip of one frame. With `source_format:
none` a video's frames stay in it: source/ is not made, and the stage crop decodes them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files, video
from stages.ahead import in_order
from stages.context import StageContext
from stages.source_pictures import find_clip, lost_frames
from stages.subject import Subject
from tracker.config import Config
from tracker.errors import InputError
from tracker.png import encode_png

NAME = "frames"
RESUMES = False

# FaceMesh looks at the face at 192 x 192; a picture below a third of that shows no eyelids to track.
MIN_SIDE_PX = 64
# Coding a picture runs in numba, outside the interpreter's lock.
_THREADS = 2
_UNDER_WAY = 4


def config_part(config: Config) -> dict[str, Any]:
    """Frame rate and format."""
    return {"fps": config.fps, "source_format": config.source_format}


def inputs(subject: Subject, config: Config) -> list[Path]:
    """The video, the picture, or the user's own source/ folder."""
    return [subject.source_dir] if subject.source_is_given() else [find_clip(subject)]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """The folder source/, unless the user filled it."""
    return [] if subject.source_is_given() else [subject.source_dir]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Extracts the frames, or checks the user's.

    Raises:
        InputError: no video, or one that cannot be decoded; pictures that are too small.
    """
    if subject.source_is_given():
        count = len(subject.source_paths())
        logger.info(f"frames: {subject.source_dir} is given, {count} pictures; the video is not read")
        _check_size(subject.source_paths()[0], subject.source_paths()[0])
        context.notes.update(frames=count, source="given")
        return
    clip = find_clip(subject)
    for left_over in subject.input_dir.glob(f"{subject.source_dir.name}.*{files.TEMPORARY_SUFFIX}"):
        files.remove(left_over)
    if config.source_format == "none" and clip.suffix.lower() not in files.IMAGE_SUFFIXES:
        _leave_in_video(clip, config, context)
        files.remove(subject.source_dir)  # an empty folder may be there
        return
    if context.may_postpone and config.source_format == "png" and clip.suffix.lower() not in files.IMAGE_SUFFIXES:
        # The crops are cut from the video; the pictures, which take longer, are made while the solver calibrates.
        _leave_in_video(clip, config, context)
        context.postponed = lambda: _fill_source(clip, subject, config, context)
        return
    _fill_source(clip, subject, config, context)


def _fill_source(clip: Path, subject: Subject, config: Config, context: StageContext) -> None:
    """Makes source/ from the video or the picture; it appears when it is whole."""
    # A name of this process: the ffmpeg of a killed run may still be writing, and must not write in here.
    temporary = subject.source_dir.with_name(f"{subject.source_dir.name}.{os.getpid()}{files.TEMPORARY_SUFFIX}")
    temporary.mkdir(parents=True)
    if clip.suffix.lower() in files.IMAGE_SUFFIXES:
        files.write_image(temporary / "00001.png", files.read_image(clip))
        lost = 0
    else:
        lost = _extract(clip, temporary, config, context)
    _check_size(files.list_images(temporary)[0], clip)
    files.remove(subject.source_dir)  # an empty folder may be there
    temporary.rename(subject.source_dir)
    context.notes.clear()
    context.notes.update(frames=len(subject.source_paths()), source=clip.name, lost=lost)


def _leave_in_video(clip: Path, config: Config, context: StageContext) -> None:
    """Checks the first frame and notes its size; the stage crop decodes the rest."""
    video.probe(clip)
    first = next(video.decode_frames(clip, config.fps))
    _check_sides(first, clip)
    context.notes.update(source=clip.name, size=list(first.shape[:2]))


def _extract(clip: Path, folder: Path, config: Config, context: StageContext) -> int:
    """Decodes the video; returns how many frames a truncated file lacks."""
    expected = video.probe(clip).frames_at(config.fps)
    if config.source_format == "jpg":
        written: Iterator[object] = video.extract_jpegs(clip, folder, config.fps)
    else:
        frames = enumerate(video.decode_frames(clip, config.fps), 1)
        written = in_order(lambda job: _write(folder, *job), frames, _THREADS, _UNDER_WAY)
    for _ in context.progress(written, expected):
        pass
    return lost_frames(clip, expected, len(files.list_images(folder)))


def _write(folder: Path, number: int, frame: np.ndarray) -> None:
    # The folder itself is a temporary one.
    (folder / f"{number:05d}.png").write_bytes(encode_png(frame))


def _check_size(path: Path, given: Path) -> None:
    """Refuses pictures that no face detector can use; `given` is what the user can replace."""
    _check_sides(files.read_image(path), given)


def _check_sides(image: np.ndarray, given: Path) -> None:
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(
            f"{given}: an image of {width} x {height} pixels is too small; at least {MIN_SIDE_PX} a side are needed"
        )
