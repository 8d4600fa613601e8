"""Decoding videos to pictures with ffmpeg: the binary of imageio-ffmpeg, or the system's."""

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

import ffmpeg
import imageio_ffmpeg
import numpy as np

from tracker.errors import InputError

# ffmpeg's quality scale for JPEG runs from 2 (best that it still codes well) to 31.
_JPEG_QSCALE = 2
_BLOCK_PX = 8
_PIPE_BYTES = 1 << 20
# With two cores both are busy while a video is decoded or coded; several threads then cost a sixth more time, and 40 MB
# when coding; 0: as ffmpeg likes.
CODEC_THREADS = 1 if (os.cpu_count() or 1) <= 2 else 0


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
    stamp = path.stat()
    if stamp.st_size == 0:
        raise InputError(f"{path}: the video is empty (0 bytes); copy it again")
    return _probe(path.absolute(), path, (stamp.st_size, stamp.st_mtime_ns))


@cache
def _probe(_absolute: Path, path: Path, _stamp: tuple[int, int]) -> VideoInfo:
    """The same for a file that is not empty; every stage asks it of the same video."""
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


def decode_frames(
    path: Path,
    fps: float,
    box_px: tuple[int, int, int, int] | None = None,
    chosen: Sequence[int] | None = None,
    nearly: bool = False,
) -> Iterator[np.ndarray]:
    """Decodes a video, resampled in time to `fps`; ffmpeg works ahead by a frame or two on threads of its own.

    Presentation times (also of a variable frame rate) and rotation metadata are honoured: both are ffmpeg's defaults.
    A damaged stream is decoded as far as it goes.

    Args:
        path: the video.
        fps: frames a second, Hz.
        box_px: (xmin, xmax, ymin, ymax) within the picture, upper ends excluded: only this part is converted to RGB.
        chosen: 0-based numbers of the frames wanted, ascending; the others are decoded but not converted.
        nearly: frames on which no other depends are not decoded, which is half of the work on H.264: the frame before
            stands for such a one, or at the clip's end none.

    Yields:
        (H, W, 3) uint8 RGB each.

    Raises:
        InputError: ffmpeg could decode no frame at all.
    """
    skipped = {"skip_frame": "noref"} if nearly else {}
    stream = ffmpeg.input(str(path), threads=CODEC_THREADS, **skipped).video.filter("fps", fps)
    if chosen is not None:
        # Times anew: a gap would be filled with copies.
        stream = stream.filter("select", "+".join(f"eq(n,{number})" for number in chosen)).filter("setpts", "N")
    inner = (slice(None), slice(None))
    if box_px is not None:
        # Whole blocks of subsampled colour (at most 4 x 4 pixels) and of ordered dither (8 x 8), so that the pixels
        # come out as those of the whole picture.
        xmin, xmax, ymin, ymax = box_px
        x, y = xmin // _BLOCK_PX * _BLOCK_PX, ymin // _BLOCK_PX * _BLOCK_PX
        wide, high = (-(-(end - start) // _BLOCK_PX) * _BLOCK_PX for start, end in ((x, xmax), (y, ymax)))
        stream = stream.filter("crop", f"min({wide},iw-{x})", f"min({high},ih-{y})", x, y)
        inner = (slice(ymin - y, ymax - y), slice(xmin - x, xmax - x))
    # PPM: raw RGB that tells its size, which after rotation and cropping nobody else here knows.
    output = stream.output("pipe:1", format="image2pipe", vcodec="ppm", pix_fmt="rgb24")
    command = output.global_args("-hide_banner", "-nostdin", "-loglevel", "error").compile(cmd=ffmpeg_binary())
    with tempfile.TemporaryFile("w+", errors="replace") as messages:
        count = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, bufsize=-1) as process:
            assert process.stdout is not None  # opened as a pipe above
            _widen(process.stdout)
            try:
                while (frame := _read_ppm(cast(BufferedReader, process.stdout))) is not None:
                    count += 1
                    yield frame[inner]
            finally:
                # Reached early when the reader gives up (Ctrl-C, or it has seen enough).
                process.kill()
        if not count:
            raise InputError(_no_frame(path, messages))


def _widen(pipe: IO[bytes]) -> None:
    """Lets a pipe hold a megabyte, where the system can: a 1080p frame passes in 6 turns instead of 95."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # the user's limit is used up
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _read_ppm(pipe: BufferedReader) -> np.ndarray | None:
    """The next picture; None at the end, also where it is cut short."""
    if pipe.readline() != b"P6\n":
        return None
    width, height = (int(word) for word in pipe.readline().split())
    pipe.readline()  # the largest value, 255
    frame = np.empty((height, width, 3), np.uint8)
    return frame if pipe.readinto(frame.reshape(-1).data) == frame.size else None


def extract_jpegs(path: Path, folder: Path, fps: float) -> Iterator[int]:
    """Decodes a video to folder/00001.jpg and so on; otherwise as `decode_frames`.

    Args:
        path: the video.
        folder: an existing, empty folder.
        fps: frames a second, Hz.

    Yields:
        Once a frame written, its number so far.

    Raises:
        InputError: ffmpeg could decode no frame at all.
    """
    command = (
        ffmpeg.input(str(path))
        .video.filter("fps", fps)
        .output(str(folder / "%05d.jpg"), **{"qscale:v": _JPEG_QSCALE})
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
            raise InputError(_no_frame(path, messages))


def _no_frame(path: Path, messages: IO[str]) -> str:
    messages.seek(0)
    said = messages.read().strip().splitlines()
    return f"{path}: no frame could be decoded ({said[0] if said else 'no reason given'}); replace it"


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
