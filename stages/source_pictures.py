"""The pictures of source/ one after another: decoded from their video again where that gives the same pixels.

Decoding a part of a 1080p video frame takes 2 ms, reading its PNG 18 ms.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages import files, manifest, video
from stages.ahead import in_order
from stages.subject import VIDEO_SUFFIXES, Subject
from tracker.errors import InputError

Box = tuple[int, int, int, int]
# A JPEG of source/ differs from its video's frame by about 1 level in the mean; another frame or box by far more.
_JPEG_LEVELS = 4.0
_THREADS = 2
_UNDER_WAY = 4


def source_parts(subject: Subject, box_px: Box) -> Iterator[np.ndarray]:
    """The part of each source picture within a box, in order.

    Args:
        subject: one with source/.
        box_px: (xmin, xmax, ymin, ymax) within the first picture, upper ends excluded.

    Yields:
        (ymax - ymin, xmax - xmin, 3) uint8 RGB. Parts of the video that source/ was extracted from; where source/ is
        the user's, the video is gone or its first frame is not the first picture, parts of the files.

    Raises:
        InputError: a damaged picture, or one of another size.
    """
    paths = subject.source_paths()
    first = files.read_image(paths[0])
    done = 0
    clip = extracted_from(subject)
    if clip is not None:
        for part in video.decode_frames(*clip, box_px):
            if done == len(paths) or (done == 0 and not _same(part, _part(first, box_px), paths[0])):
                break
            done += 1
            yield part

    def read(path: Path) -> np.ndarray:
        image = files.read_image(path)
        if image.shape != first.shape:
            raise InputError(
                f"{path}: {image.shape[:2]} pixels, the first frame has {first.shape[:2]}; sizes must be equal"
            )
        return _part(image, box_px)

    yield from in_order(read, paths[done:], _THREADS, _UNDER_WAY)


def extracted_from(subject: Subject) -> tuple[Path, float] | None:
    """The video that source/ was extracted from, as it was then, and the frame rate; None where there is none."""
    made = manifest.read(subject.manifest_path("frames"))
    if made is None or not made.complete or subject.source_is_given():
        return None
    clip = subject.given_file or subject.input_dir / str(made.notes["source"])
    if clip.suffix.lower() not in VIDEO_SUFFIXES or not clip.is_file():
        return None
    if list(made.inputs.values()) != [manifest.content_hash(clip)]:
        return None
    return clip, float(made.config["fps"])


def _part(image: np.ndarray, box_px: Box) -> np.ndarray:
    xmin, xmax, ymin, ymax = box_px
    return image[ymin:ymax, xmin:xmax]


def _same(part: np.ndarray, expected: np.ndarray, path: Path) -> bool:
    if part.shape != expected.shape:
        return False
    if path.suffix == ".png":
        return bool((part == expected).all())
    return float(np.abs(part.astype(np.int16) - expected).mean()) < _JPEG_LEVELS
