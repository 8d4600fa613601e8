"""The subject directory: names, counting, typed round trips, damaged files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages import files
from stages.records import Crop, Providers
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.config import Config
from tracker.errors import InputError


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(tmp_path / "in", tmp_path / "out" / "anna", begin_frames=1)


def _crop() -> Crop:
    affine = np.array([[5.12, 0, -51.2], [0, 5.12, -102.4]])
    return Crop((10, 110, 20, 120), "landmarks", affine, (200, 300), (512, 512))


def test_names_are_metrical_trackers(subject: Subject, tmp_path: Path) -> None:
    assert subject.image_path(1) == tmp_path / "in" / "images" / "00001.png"
    assert subject.kpt_dense_path(2) == tmp_path / "in" / "kpt_dense" / "00002.npy"
    out = tmp_path / "out" / "anna"
    assert subject.checkpoint_path(0) == out / "checkpoint" / "00000.frame"
    assert subject.explained_path(7) == out / "input" / "00007.png"
    assert (subject.mesh_path(0), subject.depth_path(0)) == (out / "mesh" / "00000.ply", out / "depth" / "00000.png")
    assert subject.review_path(0) == out / "video" / "00000.jpg"


def test_output_folder_is_named_after_the_config() -> None:
    config = Config(actor="./input/someone", save_folder="./output/", config_name="anna")
    subject = Subject.of(config)
    assert (subject.input_dir, subject.output_dir) == (Path("input/someone"), Path("output/anna"))


def test_actor_that_is_one_file_gets_its_own_folder(tmp_path: Path) -> None:
    clip = tmp_path / "talk.mov"
    clip.write_bytes(b"x")
    subject = Subject.of(Config(actor=str(clip), config_name="talk"))
    assert (subject.input_dir, subject.given_file) == (tmp_path / "talk", clip)


def test_checkpoint_zero_explains_the_second_picture_after_begin_frames_one(subject: Subject) -> None:
    for number in (1, 2, 3):
        files.write_image(subject.image_path(number), np.full((4, 4, 3), number * 10, np.uint8))
    assert list(subject.frame_indices()) == [0, 1]
    assert subject.number_of(0) == 2
    assert (subject.load_image(0) == 20).all()
    subject.end_frames = 2
    with pytest.raises(InputError, match="leave none of its 3 pictures"):
        subject.frame_indices()


def test_bbox_round_trip_as_metrical_tracker_writes_it(subject: Subject) -> None:
    subject.save_bbox(np.array([779, 1179, 62, 462]))
    assert subject.load_bbox().tolist() == [779, 1179, 62, 462]
    raw = torch.load(subject.bbox_path, weights_only=False)
    assert isinstance(raw, np.ndarray)
    assert raw.dtype == np.int64
    for value in (np.array([1.0, 9.0, 2.0, 8.0]), np.array([1, 9, 2, 8], np.int32), torch.tensor([1, 9, 2, 8])):
        torch.save(value, subject.bbox_path)
        assert subject.load_bbox().tolist() == [1, 9, 2, 8]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1/0",))


@pytest.mark.parametrize("value", [[1, 2, 3], np.array([9, 1, 2, 8]), np.array([0, np.nan, 0, 1]), "text", _Evil()])
def test_bad_bbox_is_one_line_and_runs_no_code(subject: Subject, value: object) -> None:
    subject.input_dir.mkdir()
    torch.save(value, subject.bbox_path)
    with pytest.raises(InputError, match=r"bbox\.pt: .*delete it to have it made again") as caught:
        subject.load_bbox()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 half a zip"])
def test_damaged_bbox(subject: Subject, content: bytes) -> None:
    files.write_bytes(subject.bbox_path, content)
    with pytest.raises(InputError, match="not a crop box"):
        subject.load_bbox()


def test_identity_round_trip_and_errors(subject: Subject) -> None:
    code = np.linspace(-1, 1, 300)
    files.write_array(subject.identity_path, code)
    assert subject.load_identity().dtype == np.float32
    np.testing.assert_allclose(subject.load_identity(), code, atol=1e-7)
    files.write_array(subject.identity_path, code[None])
    assert subject.load_identity().shape == (300,)
    files.write_array(subject.identity_path, code[:100])
    with pytest.raises(InputError, match=r"identity\.npy: expected \(300,\) numbers, found \(100,\) float64; replace"):
        subject.load_identity()
    files.write_array(subject.identity_path, np.where(code > 0, np.nan, code))
    with pytest.raises(InputError, match="holds NaN or infinity"):
        subject.load_identity()
    files.write_bytes(subject.identity_path, b"no array")
    with pytest.raises(InputError, match=r"identity\.npy: not a readable \.npy array"):
        subject.load_identity()
    with subject.identity_path.open("wb") as file:
        np.save(file, np.array([_Evil()], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"identity\.npy: not a readable \.npy array"):
        subject.load_identity()


def test_landmark_files_are_checked(subject: Subject) -> None:
    points = np.random.default_rng(0).uniform(0, 512, (478, 2))
    files.write_array(subject.kpt_dense_path(2), points)
    np.testing.assert_array_equal(subject.load_kpt_dense(0), points)
    files.write_array(subject.kpt_path(2), points)
    with pytest.raises(InputError, match=r"00002\.npy: expected \(68, 2\) finite numbers, found \(478, 2\)"):
        subject.load_kpt(0)


def test_records_round_trip(subject: Subject) -> None:
    subject.save_crop(_crop())
    found = subject.load_crop()
    np.testing.assert_array_equal(found.source_to_crop, _crop().source_to_crop)
    assert (found.box_px, found.box_from, found.source_size, found.crop_size) == (
        (10, 110, 20, 120), "landmarks", (200, 300), (512, 512)
    )  # fmt: skip
    providers = Providers("mesh", "facemesh478", (True, False), ("tracking", ""))
    subject.save_providers(providers)
    assert subject.load_providers() == providers
    assert files.read_json(subject.providers_path)["missing"] == 1
    files.write_text(subject.crop_path, '{"box_px": [1, 2]}')
    with pytest.raises(InputError, match=r"crop\.json: damaged"):
        subject.load_crop()


@given(
    st.floats(200, 4000), st.floats(-100, 600), st.floats(-100, 600),
    st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(0.3, 2),
)  # fmt: skip
def test_full_frame_camera_sees_the_same_points(f: float, cx: float, cy: float, x: float, y: float, z: float) -> None:
    crop = _crop()
    small = Intrinsics(f, cx, cy)
    full = crop.full_frame_intrinsics(small)

    def project(camera: Intrinsics) -> np.ndarray:
        return np.array([[camera.focal_px * x / z + camera.cx_px, camera.focal_px * y / z + camera.cy_px]])

    np.testing.assert_allclose(crop.to_crop(project(full)), project(small), atol=1e-6)
    np.testing.assert_allclose(crop.to_source(crop.to_crop(project(full))), project(full), atol=1e-6)
    back = crop.crop_intrinsics(full)
    np.testing.assert_allclose([back.focal_px, back.cx_px, back.cy_px], [f, cx, cy], atol=1e-6)


def test_pictures_round_trip(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    files.write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(files.read_image(tmp_path / "a.png"), image)
    for content in (b"", b"no picture"):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(InputError, match=r"b\.png: not a readable picture"):
            files.read_image(tmp_path / "b.png")


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomic(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    # What a kill leaves.
    for name in ("a.txt.7-7-abc.tmp", "b.txt.7-7-abc.tmp"):
        (tmp_path / name).touch()
    files.remove_leftovers(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.txt.7-7-abc.tmp"]
    files.remove_temporaries(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
