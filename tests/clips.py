"""Small clips for tests, made with ffmpeg and scikit-image's public-domain portrait."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from stages.video import ffmpeg_binary


def portrait() -> np.ndarray:
    """(512, 512, 3) uint8 RGB, one face of about 110 px."""
    return data.astronaut()


def swaying(count: int, size: int = 320) -> list[np.ndarray]:
    """The portrait's head, cut out and swaying by some pixels; one face in every picture."""
    image = portrait()[:400, 30:430]
    pictures = []
    for i in range(count):
        shift = np.array([[1, 0, 6 * np.sin(0.4 * i)], [0, 1, 4 * np.cos(0.3 * i)]])
        moved = cv2.warpAffine(image, shift, (image.shape[1], image.shape[0]), borderMode=cv2.BORDER_REPLICATE)
        pictures.append(cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA))
    return pictures


def encode(pictures: list[np.ndarray], path: Path, *options: str, fps: float = 25) -> Path:
    """Writes pictures as a video; `options` go to ffmpeg before the file name."""
    height, width = pictures[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [ffmpeg_binary(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-pix_fmt", "yuv420p", *options, str(path)]
    frames = np.ascontiguousarray(np.stack(pictures)).tobytes()
    subprocess.run(command, input=frames, check=True, capture_output=True)
    return path


def ffmpeg(*options: str) -> None:
    """Runs ffmpeg with these options."""
    subprocess.run([ffmpeg_binary(), "-y", "-loglevel", "error", *options], check=True, capture_output=True)


def plain(count: int, size: tuple[int, int] = (120, 160)) -> list[np.ndarray]:
    """Pictures (height, width) without a face whose grey level tells their index: 20 + 8 i."""
    return [np.full((*size, 3), 20 + 8 * i, np.uint8) for i in range(count)]


def level(picture: np.ndarray) -> int:
    """Index of a picture of `plain` from its grey level."""
    return round((float(picture.mean()) - 20) / 8)
