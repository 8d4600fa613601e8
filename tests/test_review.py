"""The review stage on a perfect track, and the review frame's parts."""

import dataclasses
import json
import math
import subprocess
import time

import cv2
import numpy as np
import pytest
from coverage_share import coverage

from stages import drawing, files, review
from stages.appearance_file import load_appearance
from stages.context import Leader, StageContext
from stages.encode import PictureEncoder
from stages.pipeline import run_stages
from stages.video import ffmpeg_binary
from tracker.errors import InputError, SubjectError
from tracker.frame_file import head_params, load_frame
from tracker.head.generic import load_generic
from tracker.overlay import GREEN, RED
from tracker.render import draw
from tracker.review_frame import FOOTER_PX, MOUTH_REGIONS, compose, review_head
from tracker.review_kernels import COLOURED, MEASURED


@pytest.fixture(scope="module")
def reviewed(demo_track):
    subject, config, _ = demo_track
    run_stages(subject, config, ("review",), "cpu", False)
    return subject, config


@pytest.fixture(scope="module")
def painter(reviewed):
    return drawing.make_painter(*reviewed)


def shown(painter, index: int):
    return painter.shown(index, load_frame(painter.subject.checkpoint_path(index)))


def video_frames(path) -> list[np.ndarray]:
    reader = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = reader.read()
        if not more:
            return frames
        frames.append(frame)


def test_pictures_and_videos_are_written(reviewed) -> None:
    subject, _ = reviewed
    count = len(subject.frame_indices())
    pictures = files.list_images(subject.video_dir)
    assert [path.name for path in pictures] == [f"{index:05d}.jpg" for index in range(count)]
    first = files.read_image(pictures[0])
    assert first.shape == (512 + FOOTER_PX, 4 * 512, 3)
    for path in (subject.video_mp4_path, subject.video_avi_path):
        frames = video_frames(path)
        assert len(frames) == count
        assert frames[0].shape == first.shape
        # The colours survive the coding: a wrong range or matrix is off by more than 5.
        assert abs(frames[0][..., ::-1].astype(float).mean((0, 1)) - first.mean((0, 1))).max() < 2.5
    assert not list(subject.output_dir.rglob("*.tmp"))
    assert not subject.review_progress_path.exists()


def test_mp4_plays_in_browsers(reviewed) -> None:
    subject, config = reviewed
    told = subprocess.run(
        [ffmpeg_binary(), "-i", str(subject.video_mp4_path)], capture_output=True, text=True, check=False
    )
    line = next(line for line in told.stderr.splitlines() if "Video:" in line)
    assert "h264" in line
    assert "yuv420p" in line
    assert f"{config.fps:g} fps" in line
    data = subject.video_mp4_path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_overlay_of_the_truth_matches_the_input(reviewed) -> None:
    subject, _ = reviewed
    record = files.read_json(subject.review_record_path)
    assert len(record["psnr_db"]) == len(subject.frame_indices())
    # Sensor noise, lens blur and a texture of a quarter of the texels: 33 to 37 dB measured.
    assert min(record["psnr_db"]) > 30
    assert record["psnr_db_median"] == pytest.approx(np.median(record["psnr_db"]), abs=0.01)


def test_psnr_falls_when_pose_or_light_is_wrong(painter) -> None:
    frame = shown(painter, 2)
    right = compose(painter.head, frame).psnr_db
    shifted = dataclasses.replace(frame.view, t=frame.view.t + np.array([0.004, 0, 0]))
    assert compose(painter.head, dataclasses.replace(frame, view=shifted)).psnr_db < right - 4
    assert compose(painter.head, dataclasses.replace(frame, sh=0.8 * frame.sh)).psnr_db < right - 8


def test_the_mouth_shows_the_input() -> None:
    """With the mouth wide open, no pixel of its inside is painted, but it hides what lies behind."""
    model = load_generic()
    head = review_head(model, np.ones((8, 8, 3)), np.ones((8, 8)))
    named = [name for name in MOUTH_REGIONS if name in model.regions]
    assert named
    mouth = np.zeros(model.vertex_count, bool)
    mouth[np.concatenate([model.regions[name].numpy() for name in named])] = True
    inside = mouth[head.surface.triangles].all(1)
    assert inside.any()
    assert not head.kind[inside].any()
    assert (head.kind[~inside] & COLOURED).all()
    skin = model.regions["face"].numpy()
    on_face = np.isin(head.surface.triangles, skin).all(1) & ~inside
    assert (head.kind[on_face] & MEASURED).all()


def test_lost_frame_says_so(painter) -> None:
    frame = shown(painter, 1)
    fine = compose(painter.head, frame).picture
    lost = compose(
        painter.head,
        dataclasses.replace(
            frame,
            status="lost",
            detected478_px=None,
            detected68_px=None,
            reprojection_px=math.nan,
            photometric_l1=math.nan,
        ),
    ).picture

    def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
        return int((np.abs(picture.astype(int) - colour).max(-1) < 60).sum())

    footer, landmarks = slice(512, None), (slice(0, 512), slice(1024, 1536))
    assert count(fine[footer], GREEN) > 20
    assert count(lost[footer], GREEN) == 0
    assert count(lost[footer], RED) > 60
    assert count(fine[landmarks], GREEN) > 300
    assert count(lost[landmarks], GREEN) < 30
    assert count(lost[landmarks], RED) > 300


def test_interrupted_review_goes_on(reviewed) -> None:
    subject, config = reviewed
    before = {path.name: path.read_bytes() for path in files.list_images(subject.video_dir)}
    figures = files.read_json(subject.review_record_path)
    kept, cut = subject.review_path(0), subject.review_path(1)
    stamp = kept.stat().st_mtime_ns
    # As a kill leaves it: two frames noted, the third line cut short, the other pictures and videos missing.
    lines = [json.dumps([index, figures["psnr_db"][index]]) for index in range(2)]
    subject.review_progress_path.write_text("\n".join([*lines, "[2, 3"]))
    cut.unlink()
    for path in files.list_images(subject.video_dir)[1:]:
        path.unlink()
    subject.video_mp4_path.unlink()
    review.run(subject, config, StageContext("review", subject, "cpu", resume=True))
    assert kept.stat().st_mtime_ns == stamp
    assert {path.name: path.read_bytes() for path in files.list_images(subject.video_dir)} == before
    assert files.read_json(subject.review_record_path) == figures
    assert subject.video_mp4_path.exists()


def test_damaged_appearance_is_named(reviewed, tmp_path) -> None:
    path = tmp_path / "appearance.npz"
    with pytest.raises(InputError, match="missing"):
        load_appearance(path)
    path.write_bytes(b"PK not really")
    with pytest.raises(InputError, match="damaged"):
        load_appearance(path)
    np.savez(path, albedo=np.zeros((4, 4, 3)), valid=np.zeros((5, 4)))
    with pytest.raises(InputError, match="do not fit"):
        load_appearance(path)


def test_measured_pixels_are_face_pixels(painter) -> None:
    frame = shown(painter, 0)
    drawing = draw(painter.head.surface, frame.vertices_head_m, frame.view)
    face = coverage(drawing, (painter.head.kind & MEASURED) > 0)
    everything = coverage(drawing)
    assert 0.2 < face.sum() / everything.sum() < 0.7


def test_small_panels_show_the_same_at_a_smaller_size(painter) -> None:
    frame = shown(painter, 2)
    large, small = compose(painter.head, frame), compose(painter.head, frame, panel_px=256)
    assert small.picture.shape == (256 + FOOTER_PX, 4 * 256, 3)
    shrunk = cv2.resize(large.picture[:512], (1024, 256), interpolation=cv2.INTER_AREA)
    difference = np.abs(shrunk.astype(int) - small.picture[:256]).mean((0, 2)).reshape(4, 256).mean(1)
    # Input, overlay and geometry differ by resampling alone; the lines of the landmarks stay one pixel wide.
    assert (difference[[0, 1, 3]] < 1.5).all()
    assert abs(small.psnr_db - large.psnr_db) < 3


def test_videos_are_the_same_however_long_a_picture_was_waited_for(reviewed, tmp_path) -> None:
    subject, config = reviewed
    pictures = [path.read_bytes() for path in files.list_images(subject.video_dir)]
    made = []
    for name, pause in (("a", 0), ("b", 0.05)):
        with PictureEncoder(config.fps, tmp_path / f"{name}.mp4", tmp_path / f"{name}.avi", 20) as encoder:
            for picture in pictures:
                encoder.add(picture)
                time.sleep(pause)
        made.append((tmp_path / f"{name}.mp4").read_bytes() + (tmp_path / f"{name}.avi").read_bytes())
    assert made[0] == made[1]
    # The avi holds the pictures as they are.
    assert all(picture in (tmp_path / "a.avi").read_bytes() for picture in pictures)


def _encode(folder, pictures) -> None:
    with PictureEncoder(25, folder / "a.mp4", folder / "a.avi", 20) as encoder:
        for picture in pictures:
            encoder.add(picture)


def _given_up():
    yield b"no picture"
    raise RuntimeError("given up")


def test_failed_encoding_leaves_no_video(tmp_path) -> None:
    with pytest.raises(SubjectError, match=r"a\.mp4: ffmpeg could not write it"):
        _encode(tmp_path, [b"no picture"])
    with pytest.raises(RuntimeError, match="given up"):
        _encode(tmp_path, _given_up())
    assert not list(tmp_path.iterdir())


def test_beside_tracking_the_same_is_drawn_with_what_was_prepared(reviewed) -> None:
    subject, config = reviewed
    leader = Leader()
    leader.end(failed=False)
    before = [path.read_bytes() for path in (subject.video_mp4_path, *files.list_images(subject.video_dir))]
    for path in files.list_images(subject.video_dir):
        path.unlink()
    with review.prepare(subject, config) as rehearsal:
        review.run(subject, config, StageContext("review", subject, "cpu", leader=leader, prepared=rehearsal))
        assert rehearsal.model().name == "generic"
    assert [path.read_bytes() for path in (subject.video_mp4_path, *files.list_images(subject.video_dir))] == before


def test_what_fails_in_the_rehearsal_is_said_where_its_head_is_asked_for(reviewed) -> None:
    subject, config = reviewed
    with review.prepare(subject, config.model_copy(update={"head_path": "no/such.npz"})) as rehearsal:
        pass
    with pytest.raises(InputError, match="no such head model"):
        rehearsal.model()


def test_a_checkpoint_of_another_head_is_not_drawn(painter) -> None:
    frame = load_frame(painter.subject.checkpoint_path(0))
    with pytest.raises(InputError, match="tracked with head 'other', not 'generic'"):
        painter.shown(0, {**frame, "model": "other"})


def test_vertices_are_those_of_the_solvers_head(painter) -> None:
    model = load_generic()
    for index in (0, 3):
        frame = load_frame(painter.subject.checkpoint_path(index))
        expected = model.vertices(head_params(frame, model)).numpy()
        # 3e-8 measured.
        np.testing.assert_allclose(painter.shown(index, frame).vertices_head_m, expected, atol=1e-6)
