"""The pictures of source/ one after another: decoded from their video again where that gives the same pixels.

Decoding a part of a 1080p video frame takes 2 ms, reading its PNG 18 ms. With `source_format: none` there is only the
video.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from loguru import logger

from stages import files, manifest, video
from stages.ahead import in_order
from stages.subject import VIDEO_SUFFIXES, Subject
from tracker.errors import InputError
from tracker.file_hash import content_hash

Box = tuple[int, int, int, int]
# A JPEG of source/ differs from its video's frame by about 1 level in the mean; another frame or box by far more.
_JPEG_LEVELS = 4.0
_THREADS = 2
_UNDER_WAY = 4
# The container's duration and the decoded frames may differ by one at either end.
_ROUNDING_FRAMES = 2
# Pictures so many frames apart may as well be ones shortly before: coders put up to three in a row on which no other
# depends, seldom more.
_FAR_APART = 4
# Note in the manifest of the stage frames: it has looked at the video, and extracts the pictures beside later stages.
POSTPONED = "postponed"


@dataclass(frozen=True, eq=False)
class SourcePictures:
    """The clip before it is cropped.

    Attributes:
        subject: one after the stage frames.
        paths: pictures of source/; empty where they stay in the video.
        clip: the video and the frame rate, where the pictures were extracted from it or stay in it; else None.
        size: (height, width) pixels of the first picture.
        expected: number of pictures; of a video as the container's duration says, with empty `paths` None where it does
            not.
    """

    subject: Subject
    paths: list[Path]
    clip: tuple[Path, float] | None
    size: tuple[int, int]
    expected: int | None

    @classmethod
    def of(cls, subject: Subject) -> "SourcePictures":
        """The pictures of a subject.

        Raises:
            InputError: neither source/ nor the video that it stands for is there.
        """
        paths = subject.source_paths()
        clip = extracted_from(subject)
        told = None if clip is None else video.probe(clip[0]).frames_at(clip[1])
        if paths:
            height, width = files.read_image(paths[0]).shape[:2]
            # The same number whether or not source/ is there yet: frames are sampled by it.
            return cls(subject, paths, clip, (height, width), min(told or len(paths), len(paths)))
        made = manifest.read(subject.manifest_path("frames"))
        if clip is None or made is None or "size" not in made.notes:
            raise InputError(f"{subject.source_dir}: no pictures; run the stage frames first")
        height, width = made.notes["size"]
        return cls(subject, paths, clip, (height, width), told)

    def sample(self, numbers: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """The pictures of some 0-based numbers, ascending; those beyond the end of a damaged video are missing.

        Of a video, numbers that lie far apart stand for the frames about there, see `video.decode_frames`; also where
        source/ was extracted from it, so that the same pictures come with and without.
        """
        nearly = len(numbers) > 1 and min(b - a for a, b in pairwise(numbers)) >= _FAR_APART
        if self.clip is not None and (nearly or not self.paths):
            yield from video.decode_frames(*self.clip, chosen=numbers, nearly=nearly)
        else:
            yield from in_order(files.read_image, [self.paths[number] for number in numbers], 1, 2)

    def parts(self, box_px: Box) -> Iterator[np.ndarray]:
        """The part of each picture within a box, in order.

        Args:
            box_px: (xmin, xmax, ymin, ymax) within the first picture, upper ends excluded.

        Yields:
            (ymax - ymin, xmax - xmin, 3) uint8 RGB. Parts of the video that source/ was extracted from; where source/
            is the user's, the video is gone or its first frame is not the first picture, parts of the files.

        Raises:
            InputError: a damaged picture, or one of another size.
        """
        if not self.paths and self.clip is not None:
            yield from video.decode_frames(*self.clip, box_px)
            return
        first = files.read_image(self.paths[0])
        done = 0
        if self.clip is not None:
            for part in video.decode_frames(*self.clip, box_px):
                if done == len(self.paths) or (done == 0 and not _same(part, _part(first, box_px), self.paths[0])):
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

        yield from in_order(read, self.paths[done:], _THREADS, _UNDER_WAY)


def source_input(subject: Subject) -> Path:
    """What stands for the source pictures in a manifest: the video that they come from or stay in, or else source/."""
    clip = extracted_from(subject)
    if clip is not None:
        return clip[0]
    made = manifest.read(subject.manifest_path("frames"))
    if made is not None and made.complete and made.config["source_format"] == "none" and not subject.source_paths():
        # Another video lies there now.
        return subject.given_file or subject.input_dir / str(made.notes["source"])
    return subject.source_dir


def clip_length(subject: Subject, fps: float) -> int:
    """Pictures of a clip as far as can be told before it is decoded; 0 where nothing can be told."""
    count = len(subject.source_paths())
    if count:
        return count
    try:
        clip = find_clip(subject)
        return (video.probe(clip).frames_at(fps) or 0) if clip.suffix.lower() in VIDEO_SUFFIXES else 1
    except InputError:
        return 0


def find_clip(subject: Subject) -> Path:
    """The subject's video or picture.

    Raises:
        InputError: none, or more than one.
    """
    if subject.given_file is not None:
        return subject.given_file
    folder = subject.input_dir
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it and put the video there as {folder / 'video.mp4'}")
    present = sorted(path for path in folder.iterdir() if path.is_file())
    videos = [path for path in present if path.suffix.lower() in VIDEO_SUFFIXES]
    named = [path for path in videos if path.stem == "video"]
    pictures = [path for path in present if path.suffix.lower() in files.IMAGE_SUFFIXES]
    found = named or videos or pictures
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:4])
        raise InputError(f"{folder}: several clips ({names}); keep one, or name it video.mp4")
    raise InputError(
        f"{folder}: no video; looked for source/ with pictures, video.mp4 ({' '.join(VIDEO_SUFFIXES[1:5])} …) and one "
        f"picture ({' '.join(files.IMAGE_SUFFIXES)})"
    )


def lost_frames(clip: Path, expected: int | None, found: int) -> int:
    """How many frames a truncated video lacks; warns of them."""
    lost = max((expected or 0) - found, 0)
    if lost <= _ROUNDING_FRAMES:
        return 0
    logger.warning(f"{clip}: damaged or truncated: {found} of {expected} frames could be decoded, {lost} are lost")
    return lost


def extracted_from(subject: Subject) -> tuple[Path, float] | None:
    """The video that source/ is extracted from or stays in, as it was then, and the frame rate; None without one."""
    made = manifest.read(subject.manifest_path("frames"))
    if made is None or not (made.complete or made.notes.get(POSTPONED)) or subject.source_is_given():
        return None
    clip = subject.given_file or subject.input_dir / str(made.notes["source"])
    if clip.suffix.lower() not in VIDEO_SUFFIXES or not clip.is_file():
        return None
    stamp = clip.stat()
    if list(made.inputs.values()) != [_hash(clip.absolute(), (stamp.st_size, stamp.st_mtime_ns))]:
        return None
    return clip, float(made.config["fps"])


@cache
def _hash(video: Path, _stamp: tuple[int, int]) -> str:
    """Hash of a video, which a run asks for several times."""
    return content_hash(video)


def _part(image: np.ndarray, box_px: Box) -> np.ndarray:
    xmin, xmax, ymin, ymax = box_px
    return image[ymin:ymax, xmin:xmax]


def _same(part: np.ndarray, expected: np.ndarray, path: Path) -> bool:
    if part.shape != expected.shape:
        return False
    if path.suffix == ".png":
        return bool((part == expected).all())
    return float(np.abs(part.astype(np.int16) - expected).mean()) < _JPEG_LEVELS
