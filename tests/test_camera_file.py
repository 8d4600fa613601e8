"""Calibration files: what is read, how it is scaled, and one clear line for what cannot be used."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from loguru import logger

from stages.camera_file import bending_px, known_camera, read_camera_file
from tracker.errors import InputError

K = np.array([[1000.0, 0, 319.5], [0, 1002.0, 199.5], [0, 0, 1]])
SIZE = (400, 640)


def _storage(path: Path, distortion: np.ndarray | None = None, **more: float) -> Path:
    """As OpenCV's calibration sample writes it, among other things."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("calibration_time", "Mon 01 Jan 2024")
    storage.write("image_width", SIZE[1])
    storage.write("image_height", SIZE[0])
    for name, value in more.items():
        storage.write(name, value)
    storage.write("camera_matrix", K)
    storage.write("distortion_coefficients", np.zeros((5, 1)) if distortion is None else distortion)
    storage.release()
    return path


def _json(path: Path, **values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("suffix", ["yml", "yaml", "xml", "json"])
def test_what_opencv_writes(tmp_path: Path, suffix: str) -> None:
    camera = known_camera(_storage(tmp_path / f"camera.{suffix}"), SIZE)
    assert camera.focal_px == pytest.approx(np.sqrt(1000 * 1002))
    # OpenCV counts the first pixel's centre as 0, this project as 0.5.
    assert (camera.cx_px, camera.cy_px) == pytest.approx((320, 200))


def test_npz_and_json_with_k(tmp_path: Path) -> None:
    np.savez(tmp_path / "camera.npz", K=K)
    expected = known_camera(tmp_path / "camera.npz", SIZE)
    assert (expected.cx_px, expected.cy_px) == pytest.approx((320, 200))
    for name, value in (("rows", K.tolist()), ("flat", K.reshape(-1).tolist())):
        assert known_camera(_json(tmp_path / f"{name}.json", K=value), SIZE) == expected
    np.savez(tmp_path / "sized.npz", K=K, image_width=640, image_height=400, D=np.zeros(5))
    assert known_camera(tmp_path / "sized.npz", SIZE) == expected
    assert len(read_camera_file(tmp_path / "sized.npz").distortion) == 0


def test_a_scaled_clip_sees_the_scaled_camera(tmp_path: Path) -> None:
    path = _storage(tmp_path / "camera.yml")
    whole, third = known_camera(path, SIZE), known_camera(path, (1200, 1920))
    assert third.focal_px == pytest.approx(3 * whole.focal_px)
    assert (third.cx_px, third.cy_px) == pytest.approx((960, 600))


@pytest.mark.parametrize("size", [(640, 400), (360, 640), (480, 640)])
def test_a_cut_or_turned_clip_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = _storage(tmp_path / "camera.yml")
    with pytest.raises(InputError, match=r"camera\.yml: made with pictures of 640 x 400, the clip has .* not scaled"):
        known_camera(path, size)


def test_a_file_without_a_size_must_fit_the_clip(tmp_path: Path) -> None:
    path = _json(tmp_path / "camera.json", K=K.tolist())
    with pytest.raises(InputError, match=r"camera\.json: the principal point is 640 px off .* add image_width"):
        known_camera(path, (1200, 1920))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("camera.yml", "camera_matrix: [1, 2\n", "not an OpenCV calibration file"),
        ("camera.yml", "", "not an OpenCV calibration file"),
        ("camera.yml", "%YAML:1.0\n---\nfocal: 3\n", "no camera matrix; looked for camera_matrix"),
        ("camera.yml", "%YAML:1.0\n---\ncamera_matrix: [ 1, 2 ]\n", "expected a 3 x 3 camera matrix"),
        ("camera.xml", "nothing", "not an OpenCV calibration file"),
        ("camera.json", "{", "not readable as JSON"),
        ("camera.json", "[1]", "expected a JSON object"),
        ("camera.json", '{"K": "wide"}', "holds no numbers"),
        ("camera.json", '{"K": [[900, 0, 320], [0, 1000, 200], [0, 0, 1]]}', "pixels are not square (fx 900.0"),
        ("camera.json", '{"K": [[0, 0, 320], [0, 1000, 200], [0, 0, 1]]}', "expected a camera matrix [[fx, 0, cx]"),
        ("camera.json", '{"K": [[900, 0, 320], [0, 900, 200], [0, 1, 1]]}', "expected a camera matrix [[fx, 0, cx]"),
        ("camera.json", '{"K": [9, 0, 3, 0, 9, 2, 0, 0, 1], "D": [1, 2]}', "expected 4, 5, 8, 12 or 14 distortion"),
        ("camera.json", '{"K": [9, 0, 3, 0, 9, 2, 0, 0, 1], "fisheye_model": 1}', "a fisheye calibration; undistort"),
        ("camera.json", '{"K": [9, 0, 3, 0, 9, 2, 0, 0, 1], "width": 0, "height": 4}', "must be positive numbers"),
        ("camera.npz", "no archive", "not a readable .npz file"),
        ("camera.txt", "1 0 0", "expected .yml, .yaml, .xml, .json or .npz"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        known_camera(path, SIZE)
    said = str(caught.value)
    assert said.startswith(f"camera_file: {path}: ")
    assert message in said
    assert "\n" not in said


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yml: no such file; give its path relative to where you run"):
        known_camera(tmp_path / "gone.yml", SIZE)


def test_distortion_is_said_and_not_undone(tmp_path: Path) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    try:
        straight = known_camera(_storage(tmp_path / "straight.yml"), SIZE)
        assert lines == []
        bent = known_camera(_storage(tmp_path / "bent.yml", np.array([[-0.2], [0.05], [0], [0], [0]])), SIZE)
    finally:
        logger.remove(sink)
    assert bent == straight
    (line,) = lines
    assert "has lens distortion, up to 10 px" in line
    assert "undistort the video (cv2.undistort" in line


def test_bending_is_what_the_polynomial_says() -> None:
    # k1 alone moves a point at radius r (in focal lengths) by f k1 r^3; the farthest corner is at pixel 0, 0.
    square = np.array([[1000.0, 0, 320], [0, 1000, 200], [0, 0, 1]])
    radius = np.hypot(0.32, 0.2)
    assert bending_px(square, np.array([0.1, 0, 0, 0]), SIZE) == pytest.approx(1000 * 0.1 * radius**3)
    assert bending_px(square, np.zeros(0), SIZE) == 0
