"""Encoding pictures to videos with ffmpeg; written under a temporary name, then renamed."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import ffmpeg
import numpy as np

from stages.files import TEMPORARY_SUFFIX
from stages.video import CODEC_THREADS, ffmpeg_binary
from tracker.errors import SubjectError

# yuv420p is the only layout that all browsers play; +faststart puts the index first, so that playing starts at once.
_H264 = {
    "vcodec": "libx264",
    "pix_fmt": "yuv420p",
    "movflags": "+faststart",
    "preset": "superfast",
    "threads": CODEC_THREADS,
}


class PictureEncoder:
    """Joins JPEG pictures, as they come, to an H.264 mp4 and a Motion-JPEG avi (the pictures as they are).

    Use as a context manager: the videos appear under their names when the block ends without an error. The same
    pictures give the same bytes, however long each was waited for.
    """

    def __init__(self, fps: float, mp4: Path, avi: Path, crf: int) -> None:
        """Starts ffmpeg.

        Args:
            fps: frames a second, Hz.
            mp4: output path.
            avi: output path.
            crf: H.264 constant rate factor.
        """
        self._paths = (mp4, avi)
        # By default ffmpeg looks at five seconds of pictures before it codes the first one.
        options = {"framerate": fps, "threads": CODEC_THREADS, "analyzeduration": 1}
        source = ffmpeg.input("pipe:", format="image2pipe", vcodec="mjpeg", **options)
        # JPEG is full-range; the conversion to the range that players expect of H.264 is spelt out.
        ranged = source.filter("scale", in_range="full", out_range="tv")
        h264 = {**_H264, "crf": crf, "color_range": "tv", "format": "mp4"}
        outputs = ffmpeg.merge_outputs(
            ranged.output(str(_temporary(mp4)), **h264),
            source.output(str(_temporary(avi)), vcodec="copy", format="avi"),
        )
        self._messages = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115, closed in __exit__
        self._process = subprocess.Popen(_quiet(outputs), stdin=subprocess.PIPE, stderr=self._messages)

    def __enter__(self) -> "PictureEncoder":
        return self

    def add(self, jpeg: bytes) -> None:
        """Appends a picture of even width and height, all of one size; waits while ffmpeg is busy."""
        assert self._process.stdin is not None  # opened as a pipe above
        with suppress(BrokenPipeError):  # ffmpeg ended early; its words follow when the block ends
            self._process.stdin.write(jpeg)

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Finishes the videos.

        Raises:
            SubjectError: ffmpeg failed; the message gives its words.
        """
        assert self._process.stdin is not None  # opened as a pipe above
        if kind is not None:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        with self._messages as messages:
            if kind is None and self._process.returncode == 0:
                for path in self._paths:
                    os.replace(_temporary(path), path)
                return
            messages.seek(0)
            words = messages.read()
        for path in self._paths:
            _temporary(path).unlink(missing_ok=True)
        if kind is None:
            raise SubjectError(_failure(self._paths[0], words))


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
    temporary = _temporary(mp4)
    command = _quiet(source.output(str(temporary), **_H264, crf=crf, format="mp4"))
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


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY_SUFFIX)


def _quiet(output: "ffmpeg.nodes.OutputStream") -> list[str]:
    quiet = output.global_args("-hide_banner", "-nostdin", "-loglevel", "error").overwrite_output()
    return list(quiet.compile(cmd=ffmpeg_binary()))


def _failure(path: Path, words: str) -> str:
    lines = words.strip().splitlines()
    return f"{path}: ffmpeg could not write it ({lines[-1] if lines else 'no reason given'}); is the disk full?"
