"""Encoding pictures to videos with ffmpeg; written under a temporary name, then renamed."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import ffmpeg
import numpy as np

from stages.files import TEMPORARY_SUFFIX
from stages.video import ffmpeg_binary
from tracker.errors import SubjectError

# yuv420p is the only layout that all browsers play; +faststart puts the index first, so that playing starts at once.
_H264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "movflags": "+faststart", "preset": "veryfast"}


def encode_pictures(pattern: Path, fps: float, mp4: Path, avi: Path, crf: int) -> None:
    """Joins numbered JPEG pictures to an H.264 mp4 and a Motion-JPEG avi (the pictures themselves, not coded again).

    Args:
        pattern: such as video/%05d.jpg, numbered from 0, of even width and height.
        fps: frames a second, Hz.
        mp4: output path.
        avi: output path.
        crf: H.264 constant rate factor.

    Raises:
        SubjectError: ffmpeg failed; the message gives its words.
    """
    source = ffmpeg.input(str(pattern), framerate=fps, start_number=0)
    # JPEG is full-range; the conversion to the range that players expect of H.264 is spelt out.
    ranged = source.filter("scale", in_range="full", out_range="tv")
    _run(ranged, mp4, {**_H264, "crf": crf, "color_range": "tv", "format": "mp4"})
    _run(source, avi, {"vcodec": "copy", "format": "avi"})


def encode_frames(frames: Iterable[np.ndarray], size: tuple[int, int], fps: float, mp4: Path, crf: int) -> None:
    """Encodes RGB frames as they come to an H.264 mp4.

    Args:
        frames: (H, W, 3) uint8 each.
        size: (height, width), even.
        fps: frames a second, Hz.
        mp4: output path.
        crf: H.264 constant rate factor.

    Raises:
        SubjectError: ffmpeg failed.
    """
    height, width = size
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=fps)
    temporary = mp4.with_name(mp4.name + TEMPORARY_SUFFIX)
    options = {**_H264, "crf": crf, "format": "mp4"}
    command = _command(source, temporary, options)
    with tempfile.TemporaryFile("w+", errors="replace") as messages:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages)
        assert process.stdin is not None  # opened as a pipe above
        try:
            for frame in frames:
                process.stdin.write(np.ascontiguousarray(frame).data)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg ended early; its words follow
        finally:
            if not process.stdin.closed:
                process.kill()
            process.wait()
        if process.returncode != 0:
            messages.seek(0)
            raise SubjectError(_failure(mp4, messages.read()))
    os.replace(temporary, mp4)


def _run(source: "ffmpeg.nodes.FilterableStream", path: Path, options: dict[str, object]) -> None:
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    done = subprocess.run(
        _command(source, temporary, options), capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        temporary.unlink(missing_ok=True)
        raise SubjectError(_failure(path, done.stderr))
    os.replace(temporary, path)


def _command(source: "ffmpeg.nodes.FilterableStream", temporary: Path, options: dict[str, object]) -> list[str]:
    output = source.output(str(temporary), **options)
    quiet = output.global_args("-hide_banner", "-nostdin", "-loglevel", "error").overwrite_output()
    return list(quiet.compile(cmd=ffmpeg_binary()))


def _failure(path: Path, words: str) -> str:
    lines = words.strip().splitlines()
    return f"{path}: ffmpeg could not write it ({lines[-1] if lines else 'no reason given'}); is the disk full?"
