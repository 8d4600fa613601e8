"""Landmarks: the detector wrappers, the choice among faces, and the stage."""

import subprocess
import sys
from pathlib import Path

import clips
import cv2
import numpy as np
import pytest

from stages import files, pipeline
from stages.records import Crop
from stages.subject import Subject
from tracker.config import Config
from tracker.detectors.facemesh import Face, FaceMesh
from tracker.detectors.finder import FaceFinder
from tracker.detectors.follow import FaceFollower, common_face
from tracker.detectors.landmark_maps import IBUG68_FROM_478, ibug68_from_478
from tracker.errors import SubjectError

ROOT = Path(__file__).resolve().parent.parent
LEFT_IRIS, RIGHT_IRIS, NOSE_TIP = 473, 468, 4


def _detect(image: np.ndarray) -> np.ndarray:
    with FaceMesh(1, tracking=False) as mesh:
        (face,) = mesh.faces(image)
    return face.points_px


def _face(x: float, y: float, size: float) -> Face:
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 22), np.linspace(-0.5, 0.5, 22)), -1).reshape(-1, 2)[:478]
    return Face(np.array([x, y]) + grid * size)


# ---- detector


def test_points_lie_on_the_face() -> None:
    points = _detect(clips.portrait())
    # Irises and nose of the portrait, read off the picture magnified.
    np.testing.assert_allclose(points[RIGHT_IRIS], [204, 101], atol=2.5)
    np.testing.assert_allclose(points[LEFT_IRIS], [247, 104], atol=2.5)
    assert points[RIGHT_IRIS, 0] < points[NOSE_TIP, 0] < points[LEFT_IRIS, 0]


def test_points_are_continuous_pixels() -> None:
    """Twice the size, twice the distance from the edge; centres counted from 0 would be off by 0.5 px.

    Measured: 0.02 to 0.05 px with the correction in `facemesh`, 0.50 to 0.55 px without, over 32 pictures of the clip
    duda; one picture alone scatters by 0.15 px.
    """
    small = clips.swaying(6, 256)
    large = [cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC) for image in small]
    difference = np.mean([_detect(b) - 2 * _detect(a) for a, b in zip(small, large, strict=True)], (0, 1))
    assert np.abs(difference).max() < 0.25


def test_mirror_images_have_mirrored_points() -> None:
    """Measured: 0.01 to 0.1 px at 256 to 768 px; without the correction -0.5 px at 256 px."""
    sums = []
    for image in clips.swaying(6, 256):
        mirrored = np.ascontiguousarray(image[:, ::-1])
        sums.append(_detect(image)[:, 0].mean() + _detect(mirrored)[:, 0].mean() - 256)
    assert abs(np.mean(sums)) < 0.3


def test_pictures_that_are_not_square_give_the_same_points() -> None:
    image = clips.portrait()
    wide = np.concatenate([image, np.zeros((512, 90, 3), np.uint8)], 1)
    assert np.abs(_detect(wide) - _detect(image)).max() < 3


def test_tracking_repeats_bit_by_bit_and_does_not_depend_on_the_number_of_faces() -> None:
    def track(max_faces: int) -> np.ndarray:
        with FaceMesh(max_faces, tracking=True) as mesh:
            return np.stack([mesh.faces(image)[0].points_px for image in clips.swaying(8)])

    first = track(1)
    np.testing.assert_array_equal(first, track(1))
    np.testing.assert_array_equal(first, track(4))


def test_map_to_68_points_is_sound() -> None:
    assert len(IBUG68_FROM_478) == 68
    detected = _detect(clips.portrait())
    points = ibug68_from_478(detected)
    np.testing.assert_array_equal(points, [detected[list(ids)].mean(0) for ids in IBUG68_FROM_478])
    jaw, nose, right_eye, left_eye = points[:17], points[27:36], points[36:42], points[42:48]
    assert (np.diff(jaw[:, 0]) > -1).all()
    assert jaw[:, 1].argmax() in (7, 8, 9)
    assert (np.diff(nose[:4, 1]) > 0).all()
    assert right_eye.mean(0)[0] < left_eye.mean(0)[0]
    assert points[48, 0] < points[54, 0]
    assert points[51, 1] < points[62, 1] <= points[66, 1] + 1 < points[57, 1] + 1


# ---- finding small faces


@pytest.mark.parametrize(("side", "means"), [(1000, "detector"), (512, "tiles"), (240, "tiles")])
def test_small_faces_in_1080p(side: int, means: str) -> None:
    """The face is about a fifth of `side`: 207, 106 and 50 px of 1920. FaceMesh by itself finds none of them."""
    scene = np.full((1080, 1920, 3), 90, np.uint8)
    scene[40 : 40 + side, 800 : 800 + side] = cv2.resize(clips.portrait(), (side, side), interpolation=cv2.INTER_AREA)
    with FaceMesh(1, tracking=False) as mesh:
        assert mesh.faces(scene) == []
    with FaceFinder() as finder:
        faces, found_by = finder.find(scene)
    assert len(faces) == 1
    expected = np.array([800, 40]) + np.array([225.1, 124.6]) * side / 512
    np.testing.assert_allclose(faces[0].centre_px, expected, atol=0.01 * side)
    assert found_by == means


def test_what_found_the_last_face_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.full((1080, 1920, 3), 90, np.uint8)
    small[40:1040, 800:1800] = cv2.resize(clips.portrait(), (1000, 1000), interpolation=cv2.INTER_AREA)
    looks: list[tuple[int, ...]] = []
    faces = FaceMesh.faces
    monkeypatch.setattr(FaceMesh, "faces", lambda mesh, image: looks.append(image.shape[:2]) or faces(mesh, image))
    with FaceFinder(one_clip=True) as finder:
        first, second = finder.find(small), finder.find(small)
        assert [means for _, means in (first, second)] == ["detector", "detector"]
        # The second time nobody looks at the whole picture in vain.
        assert [shape == (1080, 1920) for shape in looks] == [True, False, False]
        np.testing.assert_array_equal(first[0][0].points_px, second[0][0].points_px)
        # Where the detector fails, FaceMesh is asked after it.
        monkeypatch.setattr(finder, "_detect", lambda image: [])
        found, means = finder.find(clips.portrait())
        assert (len(found), means) == (1, "mesh")
    looks.clear()
    with FaceFinder() as finder:
        assert finder.find(small)[1] == finder.find(small)[1] == "detector"
        # Other pictures are not known to look alike: each is looked at as if it were the only one.
        assert [shape == (1080, 1920) for shape in looks] == [True, False, True, False]
        assert finder.find(clips.portrait())[1] == "mesh"


def test_no_face_is_found_in_nothing() -> None:
    with FaceFinder() as finder:
        assert finder.find(clips.plain(1, (360, 640))[0]) == ([], "")
        assert finder.near(clips.plain(1)[0], np.array([900.0, 900.0, 950.0, 950.0])) == []


# ---- which face


def test_the_largest_or_the_ranked_or_the_expected_face_is_chosen_first() -> None:
    faces = [_face(100, 100, 50), _face(300, 100, 80), _face(500, 100, 60)]
    assert FaceFollower(0).choose(faces) is faces[1]
    assert FaceFollower(1).choose(faces) is faces[2]
    assert FaceFollower(3).choose(faces) is None
    assert FaceFollower(0, np.array([90.0, 120.0])).choose(faces) is faces[0]


def test_the_track_is_continued_also_when_another_face_grows_larger() -> None:
    follower = FaceFollower(0)
    for i in range(10):
        mine, other = _face(100 + 10 * i, 100, 80), _face(400, 100, 60 + 10 * i)
        assert follower.choose([other, mine] if i else [mine, other]) is mine


def test_another_face_does_not_take_over_and_a_gap_widens_the_reach() -> None:
    follower = FaceFollower(0)
    follower.choose([_face(100, 100, 80)])
    assert follower.choose([_face(400, 100, 80)]) is None
    assert follower.choose([_face(110, 100, 20)]) is None
    back = _face(155, 100, 80)
    assert follower.choose([back]) is back
    for _ in range(8):
        assert follower.choose([]) is None
    far = _face(260, 100, 80)
    assert follower.choose([far]) is far


def test_common_face_outvotes_a_bad_first_picture() -> None:
    person = [_face(300 + i, 200, 100) for i in range(5)]
    pictures = [[_face(50, 50, 40)], *([face, _face(600, 50, 60)] for face in person)]
    assert common_face(pictures, 0) == person
    assert common_face(pictures, 2) == []


# ---- stage


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = Subject(tmp_path / "in", tmp_path / "out")
    _pictures(made, clips.swaying(8, 256))
    return made


def _pictures(subject: Subject, pictures: list[np.ndarray], box: tuple[int, int, int, int] | None = None) -> None:
    files.remove(subject.images_dir)
    for number, picture in enumerate(pictures, 1):
        files.write_image(subject.image_path(number), picture)
    size = pictures[0].shape[:2]
    subject.save_crop(Crop(box, "user" if box else "whole frame", np.eye(2, 3), (size[0], size[1]), (size[0], size[1])))


def _run(subject: Subject, force: bool = False, **config: object) -> None:
    pipeline.run_stages(subject, Config(actor="x", **config), ("landmarks",), "cpu", force)


def test_stage_writes_both_sets_and_the_provider(subject: Subject) -> None:
    _run(subject)
    for index in range(8):
        dense, sparse = subject.load_kpt_dense(index), subject.load_kpt(index)
        assert (dense > 20).all()
        assert (dense < 236).all()
        np.testing.assert_array_equal(sparse, ibug68_from_478(dense))
    providers = subject.load_providers()
    assert (providers.sparse, providers.missing, set(providers.found_by)) == ("facemesh478", 0, {"tracking"})
    assert np.load(subject.kpt_dense_path(1)).dtype == np.float64


def test_repeated_run_gives_the_same_files(subject: Subject) -> None:
    _run(subject)
    before = [subject.kpt_dense_path(number).read_bytes() for number in range(1, 9)]
    _run(subject, force=True)
    assert [subject.kpt_dense_path(number).read_bytes() for number in range(1, 9)] == before


def test_pictures_without_a_face_are_zeros_and_counted_and_the_track_comes_back(subject: Subject) -> None:
    pictures = clips.swaying(12, 256)
    for i in (4, 5, 6):
        pictures[i][:] = 60
    _pictures(subject, pictures)
    _run(subject)
    providers = subject.load_providers()
    assert [i for i, present in enumerate(providers.present) if not present] == [4, 5, 6]
    assert providers.missing == 3
    assert (subject.load_kpt_dense(5) == 0).all()
    assert (subject.load_kpt(5) == 0).all()
    assert (subject.load_kpt_dense(7) > 20).all()


def test_clip_without_any_face(subject: Subject) -> None:
    _pictures(subject, clips.plain(3, (256, 256)))
    with pytest.raises(SubjectError, match="no face found in 3 pictures of"):
        _run(subject)


def _two_people(swap_size_at: int) -> list[np.ndarray]:
    """A steady face on the left; on the right one that is smaller first and larger from a picture on."""
    scenes = []
    for i, head in enumerate(clips.swaying(8, 300)):
        scene = np.full((300, 600, 3), 40, np.uint8)
        scene[25:275, :250] = cv2.resize(head, (250, 250), interpolation=cv2.INTER_AREA)
        side = 300 if i >= swap_size_at else 200
        scene[:side, 300 : 300 + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
        scenes.append(scene)
    return scenes


def test_whole_frames_follow_the_face_that_was_largest_first(subject: Subject) -> None:
    _pictures(subject, _two_people(4))
    _run(subject)
    assert all(subject.load_kpt_dense(i)[:, 0].mean() < 300 for i in range(8))
    _run(subject, face=1)
    assert all(subject.load_kpt_dense(i)[:, 0].mean() > 300 for i in range(4))


def test_crops_follow_the_face_at_their_centre(subject: Subject) -> None:
    _pictures(subject, _two_people(8), box=(300, 500, 0, 200))
    _run(subject)
    assert all(subject.load_kpt_dense(i)[:, 0].mean() > 300 for i in range(8))


def test_console_is_back_after_several_threads_were_quiet(tmp_path: Path) -> None:
    code = """
import os, sys, threading
from tracker.detectors.quiet import quiet_stderr
inside, out = threading.Barrier(2), threading.Event()
def second():
    with quiet_stderr():
        inside.wait()
        out.wait()
        os.write(2, b'muted ')
thread = threading.Thread(target=second)
with quiet_stderr():
    thread.start()
    inside.wait()
    os.write(2, b'muted ')
out.set()
thread.join()
os.write(2, b'heard')
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stderr == b"heard"
