"""Decoding videos to pictures with ffmpeg: the binary of imageio-ffmpeg, or the system's."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

from tracker.errors import InputError

# ffmpeg's quality scale for JPEG runs from 2 (best that it still codes well) to 31.
_JPEG_QSCALE = 2
# zlib level 1: a 1080p frame in 20 ms; level 6 takes three times as long for about a tenth fewer bytes.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class VideoInfo:
    """What ffmpeg says of a video before decoding it.

    Attributes:
        duration_s: seconds, None where the container does not say.
    """

    duration_s: float | None

    def frames_at(self, fps: float) -> int | None:
        """Frames expected at a frame rate, None where the duration is unknown."""
        return None if self.duration_s is None else max(round(self.duration_s * fps), 1)


def ffmpeg_binary() -> str:
    """Path of an ffmpeg binary.

    Raises:
        InputError: there is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise InputError(
            "no ffmpeg: reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg binary"
        ) from error


def probe(path: Path) -> VideoInfo:
    """Reads a video's header.

    Raises:
        InputError: empty, truncated before its index, not a video.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the video is empty (0 bytes); copy it again")
    command = [ffmpeg_binary(), "-hide_banner", "-nostdin", "-i", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stderr
    if "moov atom not found" in text and _is_mp4(path):
        raise InputError(f"{path}: truncated mp4 (its index, the moov atom written last, is missing); copy it again")
    if not re.search(r"Stream #\S+.*: Video:", text):
        found = "no video stream in it" if "Stream #" in text else "not a video that ffmpeg can read"
        raise InputError(f"{path}: {found}; replace it with a video")
    duration = re.search(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    if duration is None:
        return VideoInfo(None)
    hours, minutes, seconds = (float(part) for part in duration.groups())
    return VideoInfo(3600 * hours + 60 * minutes + seconds)


def _is_mp4(path: Path) -> bool:
    """Whether the file begins as an MP4 or QuickTime file; ffmpeg goes by the name alone when it looks for an index."""
    with path.open("rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")


def extract_frames(path: Path, folder: Path, fps: float, image_format: str) -> Iterator[int]:
    """Decodes a video to folder/00001.<image_format> and so on, resampled in time to `fps`.

    Presentation times (also of a variable frame rate) and rotation metadata are honoured: both are ffmpeg's defaults.
    A damaged stream is decoded as far as it goes.

    Args:
        path: the video.
        folder: an existing, empty folder.
        fps: frames a second, Hz.
        image_format: 'png' or 'jpg'.

    Yields:
        Once a frame written, its number so far.

    Raises:
        InputError: ffmpeg could decode no frame at all.
    """
    quality = {"qscale:v": _JPEG_QSCALE} if image_format == "jpg" else {"compression_level": _PNG_LEVEL}
    command = (
        ffmpeg.input(str(path))
        .video.filter("fps", fps)
        .output(str(folder / f"%05d.{image_format}"), **quality)
        .global_args("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1")
        .compile(cmd=ffmpeg_binary())
    )
    with tempfile.TemporaryFile("w+", errors="replace") as messages:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, text=True) as process:
            try:
                yield from _count(process)
            finally:
                # Reached early when the reader gives up (Ctrl-C); ffmpeg must not go on writing.
                process.kill()
        if not any(folder.iterdir()):
            messages.seek(0)
            said = messages.read().strip().splitlines()
            raise InputError(
                f"{path}: no frame could be decoded ({said[0] if said else 'no reason given'}); replace it"
            )


def _count(process: "subprocess.Popen[str]") -> Iterator[int]:
    """Frame numbers from ffmpeg's progress report, each once."""
    done = 0
    assert process.stdout is not None  # opened as a pipe above
    for line in process.stdout:
        if line.startswith("frame="):
            written = int(line.removeprefix("frame="))
            while done < written:
                done += 1
                yield done
    process.wait()
