"""Stage landmarks: images/ to kpt_dense/ (478 FaceMesh points) and kpt/ (68 iBUG points)."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.ahead import in_order
from stages.context import StageContext
from stages.records import Crop, Providers
from stages.source_pictures import clip_length
from stages.subject import Subject
from tracker.config import Config
from tracker.detectors import facemesh, fan
from tracker.detectors.facemesh import Face, FaceMesh
from tracker.detectors.finder import FaceFinder
from tracker.detectors.follow import FaceFollower
from tracker.detectors.landmark_maps import ibug68_from_478
from tracker.detectors.providers import FAN, Provider, box_opener, boxes_provider, landmarks_provider
from tracker.errors import SubjectError

NAME = "landmarks"
# FaceMesh carries its track from picture to picture: only a run from the first picture on repeats itself.
RESUMES = False

# Faces that the tracking graph follows at once. The subject's points are the same, bit by bit, for 1 and for 4.
_FACES_FOLLOWED = 4
# Searching tiles costs about 0.1 s a picture; in a long stretch without a face every tenth picture is enough.
_SEARCH_EVERY = 10
_SEARCH_FIRST = 5

SparsePoints = Callable[[np.ndarray, Face], np.ndarray]


def config_part(config: Config) -> dict[str, Any]:
    """Which face, and which providers; their weights are inputs."""
    return {
        "face": config.face,
        "landmarks": landmarks_provider(config.providers.landmarks).name,
        "boxes": boxes_provider(config.providers.boxes).name,
    }


def inputs(subject: Subject, config: Config) -> list[Path]:
    """The pictures, the crop record, and the weights of the providers."""
    chosen = landmarks_provider(config.providers.landmarks), boxes_provider(config.providers.boxes)
    return [subject.images_dir, subject.crop_path, *(path for provider in chosen for path in provider.files)]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """Both folders of points and the record of providers."""
    return [subject.kpt_dir, subject.kpt_dense_dir, subject.providers_path]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Detects the points in every picture; zeros where there is no face.

    Raises:
        InputError: a provider is named whose weights are missing, or they are damaged.
        SubjectError: no face in the whole clip.
    """
    chosen, boxes = landmarks_provider(config.providers.landmarks), boxes_provider(config.providers.boxes)
    sparse_name = chosen.name
    sparse = _sparse(sparse_name, context.device)
    logger.info(f"landmarks: 68 points by {_said(chosen)}; faces that FaceMesh misses by {_said(boxes)}")
    # Beside the stage crop not all pictures are there yet; their number is that of the clip, as far as it tells.
    count = (len(subject.image_numbers()) if context.leader is None else clip_length(subject, config.fps)) or None
    # The graphs start once there is a picture: starting them mutes the console, on which crop says what it found.
    context.wait_for(subject.image_path(1))
    found_by: list[str] = []
    with _Tracking() as tracking, FaceFinder(box_opener(boxes, context.device)) as finder:
        search = _Search(tracking, finder, _follower(subject.load_crop(), config))

        def found() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
            for number, image in _pictures(subject, _numbers(subject, context)):
                face, means = search.next(image)
                found_by.append(means)
                if face is None:
                    yield number, np.zeros((facemesh.POINT_COUNT, 2)), np.zeros((68, 2))
                else:
                    yield number, face.points_px, sparse(image, face)

        def write(points: tuple[int, np.ndarray, np.ndarray]) -> None:
            number, dense, ibug68 = points
            files.write_array(subject.kpt_dense_path(number), dense)
            files.write_array(subject.kpt_path(number), ibug68)

        # Files are written while the graph looks at the next picture.
        for _ in context.progress(in_order(write, found(), 1, 4), count):
            pass
    providers = Providers(facemesh.NAME, sparse_name, tuple(bool(means) for means in found_by), tuple(found_by))
    subject.save_providers(providers)
    _report(subject, config, providers, context)


def _numbers(subject: Subject, context: StageContext) -> Iterator[int]:
    """Numbers of all pictures; beside the stage crop each as soon as it is there."""
    if context.leader is None:
        yield from subject.image_numbers()
        return
    for number in itertools.count(1):
        context.wait_for(subject.image_path(number))
        if not subject.image_path(number).exists():
            return
        yield number


def _pictures(subject: Subject, numbers: Iterator[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Number and picture, read ahead on a thread."""

    def read(number: int) -> tuple[int, np.ndarray]:
        return number, files.read_image(subject.image_path(number))

    return in_order(read, numbers, 1, 4)


def _follower(crop: Crop, config: Config) -> FaceFollower:
    """The rule by which the subject's face is chosen.

    Crops are made around one face, so the subject's is the one nearest to their centre; in whole frames it goes by
    size.
    """
    if crop.box_px is None:
        return FaceFollower(config.face)
    box = np.array(crop.box_px, np.float64)
    centre_source_px = np.array([[(box[0] + box[1]) / 2, (box[2] + box[3]) / 2]])
    return FaceFollower(0, crop.to_crop(centre_source_px)[0])


class _Tracking:
    """FaceMesh in tracking mode: one face is followed as long as only the subject's is seen, else several.

    While it follows fewer faces than it may, the graph looks for more in every picture, which takes 2 ms of 5.5. The
    graph of several is started when it is needed: it does not know the faces yet and finds them anew.
    """

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._started = ExitStack()
        self._graph: FaceMesh | None = None
        self._alone = True

    def __enter__(self) -> "_Tracking":
        return self

    def __exit__(self, *_error: object) -> None:
        self._started.close()

    def faces(self, image: np.ndarray, follower: FaceFollower) -> list[Face]:
        """Faces in the next picture."""
        if self._graph is None:
            faces = self._start(_FACES_FOLLOWED).faces(image)
            self._alone = len(faces) == 1 and follower.matches(faces)
            return self._start(1).faces(image) if self._alone else faces
        faces = self._graph.faces(image)
        if self._alone and not follower.matches(faces):
            self._alone = False
            return self._start(_FACES_FOLLOWED).faces(image)
        return faces

    def _start(self, most: int) -> FaceMesh:
        """A graph of at most so many faces in place of the one before, which holds 50 MB."""
        self._started.close()
        self._graph = self._started.enter_context(FaceMesh(most, tracking=True))
        return self._graph


class _Search:
    """Finds the subject's face in picture after picture, by the cheapest means that succeeds."""

    def __init__(self, tracking: _Tracking, finder: FaceFinder, follower: FaceFollower) -> None:
        self._tracking = tracking
        self._finder = finder
        self._follower = follower
        self._misses = 0

    def next(self, image: np.ndarray) -> tuple[Face | None, str]:
        """The face in the next picture and the means: 'tracking', 'near', 'mesh', 'insightface', … , '' for none."""
        faces, means = self._tracking.faces(image, self._follower), "tracking"
        last = self._follower.last
        if last is not None and not self._follower.matches(faces):
            faces, means = self._finder.near(image, last.box_px), "near"
        if not self._follower.matches(faces) and self._worth_a_search():
            faces, means = self._finder.find(image, self._follower.wanted)
        face = self._follower.choose(faces)
        self._misses = 0 if face is not None else self._misses + 1
        return face, means if face is not None else ""

    def _worth_a_search(self) -> bool:
        return self._misses < _SEARCH_FIRST or self._misses % _SEARCH_EVERY == 0


def _said(provider: Provider) -> str:
    return f"{provider.name} ({provider.reason})"


def _sparse(name: str, device: str) -> SparsePoints:
    """The provider of the 68 points: picture and face to (68, 2) continuous pixels."""
    if name == FAN:
        return fan.Fan(device).points
    return lambda image, face: ibug68_from_478(face.points_px)


def _report(subject: Subject, config: Config, providers: Providers, context: StageContext) -> None:
    """Says how many pictures have a face.

    Raises:
        SubjectError: none has.
    """
    total, missing = len(providers.present), providers.missing
    if missing == total:
        which = f"no picture shows {config.face + 1} faces" if config.face else "no face found"
        raise SubjectError(
            f"{subject.input_dir}: {which} in {total} pictures of {subject.images_dir}; check the video and the crop "
            f"(bbox.pt, crop_image: false)"
        )
    means = ", ".join(f"{count} by {name}" for name, count in Counter(providers.found_by).most_common() if name)
    logger.info(
        f"landmarks: a face in {total - missing} of {total} pictures ({means}); 68 points by {providers.sparse}"
    )
    if missing:
        first = subject.image_path(providers.present.index(False) + 1).name
        logger.warning(f"landmarks: no face in {missing} of {total} pictures, the first is {first}")
    context.notes.update(frames=total, missing=missing, sparse=providers.sparse)
