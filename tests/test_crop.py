"""The crop: metrical-tracker's box, the map from source to crop, and the stage."""

from pathlib import Path

import clips
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import files, manifest, pipeline, video
from stages.crop import config_part
from stages.source_pictures import SourcePictures, extracted_from
from stages.subject import Subject
from tracker.config import Config
from tracker.cropping import geometry, head_box
from tracker.errors import InputError, SubjectError

# ---- maths


@pytest.mark.parametrize(
    ("bounds", "size", "expected"),
    [
        # Worked by hand from the formula: centre (200, 150), half extents 100 and 80, side int(2.5 x 2 x 100) = 500.
        ((100, 300, 70, 230), (1000, 1000), (0, 450, 0, 400)),
        # Nothing clamped: centre (500, 500), half 60, side 300.
        ((440, 560, 450, 550), (1000, 1000), (350, 650, 350, 650)),
        # The lower right corner: clamped to width - 1 and height - 1; 350 to 599 and 350 to 639 are odd.
        ((440, 560, 450, 550), (640, 600), (351, 599, 351, 639)),
    ],
)
def test_head_box_by_hand(bounds: tuple[int, ...], size: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert head_box(np.array(bounds, float), size, 2.5).tolist() == list(expected)


@given(
    st.integers(0, 900), st.integers(20, 400), st.integers(0, 700), st.integers(20, 400), st.floats(1, 4)
)  # fmt: skip
def test_head_box_stays_in_the_picture_and_is_even(x: int, w: int, y: int, h: int, scale: float) -> None:
    box = head_box(np.array([x, min(x + w, 1279), y, min(y + h, 719)], float), (720, 1280), scale)
    assert (box >= 0).all()
    assert box[1] < 1280
    assert box[3] < 720
    assert (box[1] - box[0]) % 2 == 0
    assert (box[3] - box[2]) % 2 == 0


@given(
    st.integers(0, 200), st.integers(2, 300), st.integers(0, 100), st.integers(2, 200),
    st.sampled_from([(512, 512), (64, 64), (288, 512), (500, 334)]),
)  # fmt: skip
def test_geometry_is_one_scale_and_contains_the_box(x: int, w: int, y: int, h: int, size: tuple[int, int]) -> None:
    cut = geometry((x, x + w, y, y + h), (400, 600), size)
    affine = cut.affine()
    assert affine[0, 0] == affine[1, 1] == cut.scale
    corners = np.array([[x, y], [x + w, y + h]]) @ affine[:, :2].T + affine[:, 2]
    assert (corners >= -1e-9).all()
    assert (corners <= np.array([size[1], size[0]]) + 1e-6).all()
    assert cut.apply(np.zeros((400, 600, 3), np.uint8)).shape == (*size, 3)


@pytest.mark.parametrize("box", [(100, 200, 50, 150), (100, 200, 50, 90), (0, 31, 7, 300), (0, 400, 0, 300)])
@pytest.mark.parametrize("size", [(512, 512), (128, 128), (144, 256)])
def test_affine_is_what_the_pixels_do(box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """The centroid of a soft spot moves as the map says. Worst error measured: 0.03 px of the result."""
    cut = geometry(box, (300, 400), size)
    spot = np.array([(box[0] + box[1]) / 2 + 1.3, (box[2] + box[3]) / 2 - 2.6])
    yy, xx = np.mgrid[:300, :400] + 0.5
    sigma = max(1.5, 1.5 / cut.scale)
    image = 255 * np.exp(-((xx - spot[0]) ** 2 + (yy - spot[1]) ** 2) / (2 * sigma**2))
    inside = np.zeros_like(image)
    inside[box[2] : box[3], box[0] : box[1]] = image[box[2] : box[3], box[0] : box[1]]
    source_mean = np.array([(inside * xx).sum(), (inside * yy).sum()]) / inside.sum()
    result = cut.apply(np.repeat(image[..., None], 3, 2).astype(np.uint8))[..., 0].astype(float)
    vv, uu = np.mgrid[: size[0], : size[1]] + 0.5
    result_mean = np.array([(result * uu).sum(), (result * vv).sum()]) / result.sum()
    expected = cut.affine()[:, :2] @ source_mean + cut.affine()[:, 2]
    np.testing.assert_allclose(result_mean, expected, atol=0.15)


def test_shrinking_does_not_alias() -> None:
    """A fine checkerboard becomes even grey; bicubic alone would leave a pattern of tens of grey levels."""
    board = np.repeat(np.indices((1536, 1536)).sum(0)[..., None] % 2 * 255, 3, 2).astype(np.uint8)
    result = geometry((0, 1536, 0, 1536), (1536, 1536), (512, 512)).apply(board)
    assert result.std() < 20
    assert abs(result.mean() - 127.5) < 2


def test_box_outside_the_picture() -> None:
    with pytest.raises(ValueError, match="lies outside the picture of 400 x 300"):
        geometry((500, 600, 0, 100), (300, 400), (512, 512))


# ---- stage


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = Subject(tmp_path / "in", tmp_path / "out")
    for i, picture in enumerate(clips.swaying(6), 1):
        files.write_image(made.source_dir / f"{i:05d}.png", picture)
    return made


def _run(subject: Subject, force: bool = False, **config: object) -> None:
    pipeline.run_stages(subject, Config(actor="x", **config), ("frames", "crop"), "cpu", force)


def test_stage_writes_images_box_and_map(subject: Subject) -> None:
    _run(subject)
    assert subject.image_numbers() == [1, 2, 3, 4, 5, 6]
    crop, box = subject.load_crop(), subject.load_bbox()
    assert crop.box_from == "landmarks"
    assert crop.box_px == tuple(box)
    assert (crop.source_size, crop.crop_size) == ((320, 320), (512, 512))
    source, image = files.read_image(subject.source_paths()[0]), files.read_image(subject.image_path(1))
    assert image.shape == (512, 512, 3)
    # Warping the source by the recorded map (cv2 counts centres at whole numbers) gives the picture.
    matrix = crop.source_to_crop.copy()
    matrix[:, 2] += 0.5 * crop.scale - 0.5
    warped = cv2.warpAffine(source, matrix, (512, 512), flags=cv2.INTER_CUBIC)
    inner = np.s_[60:-60, 60:-60]
    assert np.abs(warped[inner].astype(float) - image[inner]).mean() < 1.0


def test_other_size_and_larger_box(subject: Subject) -> None:
    _run(subject)
    first = subject.load_bbox()
    _run(subject, image_size=(256, 256), bbox_scale=1.5)
    second = subject.load_bbox()
    assert files.read_image(subject.image_path(1)).shape == (256, 256, 3)
    assert second[1] - second[0] < first[1] - first[0]


def test_median_is_not_spoilt_by_a_bad_first_frame_but_first_is(subject: Subject) -> None:
    _run(subject)
    good = subject.load_bbox()
    # A first frame whose head is half as large and in a corner.
    small = np.zeros((320, 320, 3), np.uint8)
    small[160:, 160:] = cv2.resize(clips.swaying(1)[0], (160, 160), interpolation=cv2.INTER_AREA)
    files.write_image(subject.source_dir / "00001.png", small)
    _run(subject)
    assert np.abs(subject.load_bbox() - good).max() <= 12
    _run(subject, crop="first")
    assert np.abs(subject.load_bbox() - good).max() > 60


def test_users_box_is_used_and_kept(subject: Subject) -> None:
    subject.save_bbox(np.array([40, 280, 20, 260]))
    for _ in range(2):
        _run(subject, force=True)
        assert subject.load_bbox().tolist() == [40, 280, 20, 260]
        assert subject.load_crop().box_from == "user"
    corners = subject.load_crop().to_crop(np.array([[40.0, 20.0], [280.0, 260.0]]))
    np.testing.assert_allclose(corners, [[0, 0], [512, 512]], atol=1e-9)


def test_box_that_the_user_edits_later_becomes_the_users(subject: Subject) -> None:
    _run(subject)
    subject.save_bbox(np.array([40, 280, 20, 260]))
    _run(subject)
    assert subject.load_crop().box_from == "user"
    subject.bbox_path.unlink()
    _run(subject)
    assert subject.load_crop().box_from == "landmarks"


def test_users_box_outside_the_picture_is_one_line(subject: Subject) -> None:
    subject.save_bbox(np.array([400, 500, 400, 500]))
    with pytest.raises(InputError, match=r"bbox\.pt: the box .* lies outside the picture of 320 x 320; delete it"):
        _run(subject)
    assert subject.load_bbox().tolist() == [400, 500, 400, 500]


def test_whole_frame_is_not_distorted(subject: Subject) -> None:
    wide = np.zeros((90, 160, 3), np.uint8)
    wide[:, :, 0] = 200
    for path in subject.source_paths():
        files.write_image(path, wide)
    _run(subject, crop_image=False)
    image = files.read_image(subject.image_path(1))
    assert image.shape == (512, 512, 3)
    assert (image[:110] == 0).all()
    assert (image[256, :, 0] > 190).all()
    assert not subject.bbox_path.exists()
    assert subject.load_crop().scale == 512 / 160
    _run(subject, crop_image=False, image_size=(288, 512))
    assert (files.read_image(subject.image_path(1))[..., 0] > 190).all()


def test_frames_of_different_sizes(subject: Subject) -> None:
    files.write_image(subject.source_dir / "00004.png", np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(InputError, match=r"00004\.png: .* sizes must be equal"):
        _run(subject)


def test_no_face_names_the_remedy(subject: Subject) -> None:
    for path in subject.source_paths():
        files.write_image(path, clips.plain(1)[0])
    with pytest.raises(SubjectError, match=r"no face in 6 frames of the clip; check the video, or give"):
        _run(subject)


def test_second_face_by_rank(tmp_path: Path) -> None:
    subject = Subject(tmp_path / "in", tmp_path / "out")
    head = clips.swaying(1, 300)[0]
    scene = np.zeros((300, 600, 3), np.uint8)
    scene[:, :300] = head
    scene[60:260, 350:550] = cv2.resize(head, (200, 200), interpolation=cv2.INTER_AREA)
    files.write_image(subject.source_dir / "00001.png", scene)
    _run(subject)
    assert subject.load_bbox()[:2].mean() < 300
    _run(subject, face=1)
    assert subject.load_bbox()[:2].mean() > 350
    with pytest.raises(SubjectError, match="no frame shows 3 faces"):
        _run(subject, face=2)


def test_begin_frames_beyond_the_clip(subject: Subject) -> None:
    subject.begin_frames = 6
    with pytest.raises(InputError, match="begin_frames 6 and end_frames 0 leave none of its 6 pictures"):
        _run(subject, begin_frames=6)


def test_whole_frame_does_not_depend_on_the_box_settings() -> None:
    assert set(config_part(Config(actor="x", crop_image=False))) == {"crop_image", "image_size", "crop_format"}


# ---- from the video


def _extracted(tmp_path: Path, **config: object) -> tuple[Subject, Config]:
    subject = Subject(tmp_path / "in", tmp_path / "out")
    clips.encode(clips.swaying(12, 360), subject.input_dir / "video.mp4")
    made = Config(actor="x", image_size=(128, 128), **config)
    subject.image_suffix = f".{made.crop_format}"
    pipeline.run_stages(subject, made, ("frames", "crop"), "cpu", False)
    return subject, made


@pytest.mark.parametrize("box", [(0, 360, 0, 360), (13, 200, 7, 301), (1, 360, 129, 360)])
def test_parts_of_the_video_are_parts_of_the_pictures(tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    subject, _ = _extracted(tmp_path)
    assert extracted_from(subject) == (subject.input_dir / "video.mp4", 25.0)
    decoded = list(video.decode_frames(subject.input_dir / "video.mp4", 25.0, box))
    read = [files.read_image(path)[box[2] : box[3], box[0] : box[1]] for path in subject.source_paths()]
    np.testing.assert_array_equal(decoded, read)


def test_images_are_the_same_without_the_video(tmp_path: Path) -> None:
    subject, config = _extracted(tmp_path)
    before = [path.read_bytes() for path in files.list_images(subject.images_dir)]
    (subject.input_dir / "video.mp4").unlink()
    assert extracted_from(subject) is None
    pipeline.run_stages(subject, config, ("crop",), "cpu", True)
    assert [path.read_bytes() for path in files.list_images(subject.images_dir)] == before


def test_another_video_under_the_same_name_is_not_used(tmp_path: Path) -> None:
    subject, _ = _extracted(tmp_path)
    clips.encode(clips.plain(12), subject.input_dir / "video.mp4")
    assert extracted_from(subject) is None


def test_video_that_decodes_to_other_pixels_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, _ = _extracted(tmp_path)
    decode = video.decode_frames
    monkeypatch.setattr(video, "decode_frames", lambda *given: (255 - frame for frame in decode(*given)))
    parts = list(SourcePictures.of(subject).parts((0, 360, 0, 360)))
    np.testing.assert_array_equal(parts, [files.read_image(path) for path in subject.source_paths()])


def test_images_come_from_the_video_where_source_is_jpg(tmp_path: Path) -> None:
    made = []
    for name, suffixes in (("png", {".png"}), ("jpg", {".jpg"}), ("none", set())):
        Subject(tmp_path / name / "in", tmp_path).save_bbox(np.array([20, 340, 10, 330]))
        subject, _ = _extracted(tmp_path / name, source_format=name)
        assert {path.suffix for path in subject.source_paths()} == suffixes
        made.append([path.read_bytes() for path in files.list_images(subject.images_dir)])
    assert len(made[0]) == 12
    assert made[0] == made[1]
    assert made[0] == made[2]


def test_unpacked_images_have_the_same_pixels_and_another_name(tmp_path: Path) -> None:
    made = []
    for name in ("png", "bmp"):
        Subject(tmp_path / name / "in", tmp_path).save_bbox(np.array([20, 340, 10, 330]))
        subject, config = _extracted(tmp_path / name, crop_format=name)
        assert {path.suffix for path in files.list_images(subject.images_dir)} == {f".{name}"}
        made.append([subject.load_image(index) for index in subject.frame_indices()])
    np.testing.assert_array_equal(*made)
    assert config_part(config) != config_part(config.model_copy(update={"crop_format": "png"}))
    named = Subject.of(config)
    assert (named.image_path(3).name, named.explained_path(3).name) == ("00003.bmp", "00003.bmp")


def test_box_is_the_same_where_frames_stay_in_the_video(tmp_path: Path) -> None:
    boxes = []
    for name in ("png", "none"):
        subject, _ = _extracted(tmp_path / name, source_format=name)
        assert subject.source_dir.exists() == (name == "png")
        boxes.append(subject.load_bbox().tolist())
    assert boxes[0] == boxes[1]


def test_sampled_frames_are_those_of_the_numbers(tmp_path: Path) -> None:
    subject = Subject(tmp_path / "in", tmp_path / "out")
    clips.encode(clips.plain(20), subject.input_dir / "video.mp4")
    made = Config(actor="x", source_format="none")
    pipeline.run_stages(subject, made, ("frames",), "cpu", False)
    pictures = SourcePictures.of(subject)
    assert pictures.expected == 20
    assert pictures.size == (120, 160)
    assert [clips.level(picture) for picture in pictures.sample([0, 3, 4, 19])] == [0, 3, 4, 19]


@pytest.mark.parametrize("source_format", ["png", "none"])
def test_numbers_far_apart_stand_for_frames_about_there(tmp_path: Path, source_format: str) -> None:
    subject = Subject(tmp_path / "in", tmp_path / "out")
    clips.encode(clips.plain(30), subject.input_dir / "video.mp4")
    pipeline.run_stages(subject, Config(actor="x", source_format=source_format), ("frames",), "cpu", False)
    pictures = SourcePictures.of(subject)
    wanted = list(range(0, 30, 5))
    found = [clips.level(picture) for picture in pictures.sample(wanted)]
    # x264 codes at most three frames in a row on which no other depends.
    assert all(0 <= number - level <= 3 for number, level in zip(wanted, found, strict=True))
    assert found != wanted


def test_stages_are_up_to_date_without_source(tmp_path: Path) -> None:
    subject, made = _extracted(tmp_path, source_format="none")
    again = [run for _, run, _ in pipeline.plan(subject, made, ("frames", "crop"), False)]
    assert again == [False, False]
    clips.encode(clips.swaying(8, 360), subject.input_dir / "video.mp4")
    reasons = [reason for _, _, reason in pipeline.plan(subject, made, ("frames", "crop"), False)]
    assert reasons == ["input changed: video.mp4"] * 2
    (subject.source_dir).mkdir()
    files.write_image(subject.source_dir / "1.png", clips.swaying(1, 360)[0])
    assert subject.source_is_given()
    pipeline.run_stages(subject, made, ("frames", "crop"), "cpu", False)
    assert subject.image_numbers() == [1]
    assert subject.source_paths()


def test_a_truncated_video_tells_what_is_lost_without_source(tmp_path: Path) -> None:
    subject = Subject(tmp_path / "in", tmp_path / "out")
    path = clips.encode(clips.swaying(40, 360), subject.input_dir / "video.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    made = Config(actor="x", source_format="none", image_size=(128, 128))
    pipeline.run_stages(subject, made, ("frames", "crop"), "cpu", False)
    notes = manifest.read(subject.manifest_path("crop")).notes
    assert 0 < notes["frames"] < 40
    assert notes["lost"] == 40 - notes["frames"]
