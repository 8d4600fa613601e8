"""Stage crop: source/ to images/, cut to the head, and the map between the two (bbox.pt, crop.json)."""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.ahead import in_order
from stages.context import StageContext
from stages.records import Crop
from stages.source_pictures import SourcePictures, lost_frames, source_input
from stages.subject import Subject
from tracker.camera import to_cv2_pixels
from tracker.config import Config
from tracker.cropping import CropGeometry, geometry, head_box, landmark_bounds
from tracker.detectors.facemesh import Face
from tracker.detectors.finder import FaceFinder
from tracker.detectors.follow import common_face
from tracker.detectors.landmark_maps import ibug68_from_478
from tracker.detectors.providers import box_opener, boxes_provider
from tracker.errors import InputError, SubjectError

NAME = "crop"
RESUMES = False

# Enough for a median that a few bad or missing frames do not move, at 15 to 40 ms a 1080p frame.
SAMPLE_FRAMES = 25
_THREADS = 2
_UNDER_WAY = 4


def config_part(config: Config) -> dict[str, Any]:
    """Size, format, and the way the box is found."""
    part: dict[str, Any] = {
        "crop_image": config.crop_image,
        "image_size": list(config.image_size),
        "crop_format": config.crop_format,
    }
    if config.crop_image:
        part |= {"crop": config.crop, "bbox_scale": config.bbox_scale, "face": config.face}
        part |= {"begin_frames": config.begin_frames, "end_frames": config.end_frames}
        part["boxes"] = boxes_provider(config.providers.boxes).name
    return part


def inputs(subject: Subject, config: Config) -> list[Path]:
    """The source frames or their video, the user's bbox.pt, and the weights by which the box is found."""
    if not config.crop_image:
        return [source_input(subject)]
    if _box_is_given(subject, config):
        return [source_input(subject), subject.bbox_path]
    return [source_input(subject), *boxes_provider(config.providers.boxes).files]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """images/, the record, and bbox.pt unless the user made it. The record goes last: it says whose bbox.pt is."""
    own_box = [subject.bbox_path] if config.crop_image and not _box_is_given(subject, config) else []
    return [subject.images_dir, *own_box, subject.crop_path]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Finds the box and cuts all frames.

    Raises:
        InputError: a damaged bbox.pt or frame; frames of different sizes.
        SubjectError: no face in the sampled frames.
    """
    pictures = SourcePictures.of(subject)
    size = pictures.size
    if not config.crop_image:
        box, box_from = np.array([0, size[1], 0, size[0]]), "whole frame"
    elif _box_is_given(subject, config):
        box, box_from = subject.load_bbox(), "user"
    else:
        box, box_from = _find_box(pictures, config, context), "landmarks"
    try:
        cut = geometry(_four(box), size, config.image_size)
    except ValueError as error:
        raise InputError(f"{subject.bbox_path}: {error}; delete it to have it made again") from error
    # The record first: once bbox.pt is there, it must say that we made it.
    record = Crop(None if box_from == "whole frame" else _four(box), box_from, cut.affine(), size, cut.size)
    subject.save_crop(record)
    logger.info(
        f"crop: box x {cut.box_px[0]} to {cut.box_px[1]}, y {cut.box_px[2]} to {cut.box_px[3]} of {size[1]} x "
        f"{size[0]} ({box_from}), scaled by {cut.scale:.3f} to {cut.size[1]} x {cut.size[0]}"
    )
    count = sum(1 for _ in context.progress(_cut_all(pictures, cut), pictures.expected))
    if box_from == "landmarks":
        # After the pictures: torch writes this file, and may be imported while they are cut.
        subject.save_bbox(box)
    context.notes.update(frames=count, box_from=box_from)
    if config.source_format == "none" and not pictures.paths and pictures.clip is not None:
        context.notes["lost"] = lost_frames(pictures.clip[0], pictures.expected, count)


def _box_is_given(subject: Subject, config: Config) -> bool:
    """Whether bbox.pt is the user's: there is one, and our record does not claim that very box."""
    if not config.crop_image or not subject.bbox_path.exists():
        return False
    if not subject.crop_path.exists():
        return True
    record = subject.load_crop()
    return record.box_from != "landmarks" or record.box_px != _four(subject.load_bbox())


def _find_box(pictures: SourcePictures, config: Config, context: StageContext) -> np.ndarray:
    """The box from the subject's landmarks in a sample of the tracked frames.

    Raises:
        SubjectError: no face in any of them.
    """
    subject = pictures.subject
    # A video that does not tell its length is sampled at its start.
    count = SAMPLE_FRAMES if pictures.expected is None else pictures.expected
    tracked = range(count)[subject.begin_frames : count - subject.end_frames]
    if not tracked:
        raise InputError(
            f"{subject.source_dir}: begin_frames {subject.begin_frames} and end_frames {subject.end_frames} leave none "
            f"of its {count} pictures; lower them"
        )
    if config.crop == "first":
        sample, wanted = list(tracked), 1
    else:
        picks = np.linspace(0, len(tracked) - 1, min(SAMPLE_FRAMES, len(tracked))).round().astype(int)
        sample, wanted = [tracked[i] for i in picks], len(picks)
    provider = boxes_provider(config.providers.boxes)
    context.notes["boxes"] = provider.name
    with FaceFinder(box_opener(provider, context.device), one_clip=True) as finder:
        bounds = _sample_bounds(finder, pictures.sample(sample), wanted, config.face)
    if not bounds:
        which = f"no frame shows {config.face + 1} faces" if config.face else "no face"
        raise SubjectError(
            f"{subject.input_dir}: {which} in {len(sample)} frames of the clip; check the video, or give the head's "
            f"place as {subject.bbox_path}, or set crop_image: false"
        )
    box = head_box(np.median(np.stack(bounds), 0), pictures.size, config.bbox_scale)
    outside = sum(b[0] < box[0] or b[1] > box[1] or b[2] < box[2] or b[3] > box[3] for b in bounds)
    if outside:
        logger.warning(
            f"crop: the face leaves the crop in {outside} of {len(bounds)} sampled frames; raise bbox_scale "
            f"({config.bbox_scale}) or set crop_image: false"
        )
    context.notes["sampled_faces"] = f"{len(bounds)} of {len(sample)}"
    return box


def _sample_bounds(
    finder: FaceFinder, sample: Generator[np.ndarray, None, None], wanted: int, rank: int
) -> list[np.ndarray]:
    """Landmark bounds (4,) in cv2 pixels of the subject's face in `wanted` pictures."""
    found: list[list[Face]] = []
    with closing(sample):
        for image in sample:
            faces, _ = finder.find(image, rank + 1)
            if len(faces) > rank:
                found.append(faces)
            if len(found) == wanted:
                break
    chosen = common_face(found, rank)
    return [landmark_bounds(to_cv2_pixels(ibug68_from_478(face.points_px))) for face in chosen]


def _cut_all(pictures: SourcePictures, cut: CropGeometry) -> Iterator[None]:
    subject = pictures.subject

    def write(job: tuple[int, np.ndarray]) -> None:
        number, part = job
        files.write_image(subject.image_path(number), cut.resize(part))

    subject.images_dir.mkdir(parents=True, exist_ok=True)
    return in_order(write, enumerate(pictures.parts(cut.box_px), 1), _THREADS, _UNDER_WAY)


def _four(box: np.ndarray) -> tuple[int, int, int, int]:
    a, b, c, d = (int(value) for value in box)
    return a, b, c, d
