"""The camera: golden cases of both written forms, Jacobian, and round trips."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import numeric_jacobian, worst_relative

from tracker.camera import (
    Intrinsics,
    Pytorch3dCamera,
    Rigid,
    from_cv2_pixels,
    from_pytorch3d,
    project,
    projection_jacobian,
    to_cv2_pixels,
    to_pytorch3d,
)
from tracker.rotations import exp_so3, matrix_from_6d, matrix_to_6d

_CASES = ("camera_6101", "camera_6102", "camera_6103")


def _golden(shared_dir: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(shared_dir / f"parity/golden/camera/{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


@pytest.mark.parametrize("name", _CASES)
def test_pytorch3d_block_gives_the_opencv_block(shared_dir: Path, name: str) -> None:
    case = _golden(shared_dir, name)
    size = (int(case["image_size_hw"][0, 0]), int(case["image_size_hw"][0, 1]))
    R_p = matrix_from_6d(torch.from_numpy(case["R_6d"][0]).double()).numpy()
    # Case 6103 holds a 6-D form that is not orthonormal; 1e-7 measured, float32 rounding.
    np.testing.assert_allclose(R_p, case["R_pytorch3d"][0], atol=1e-6)
    camera = Pytorch3dCamera(R_p, case["t"][0], case["focal_ndc"].item(), case["principal_point_ndc"][0])
    R, t, intrinsics = from_pytorch3d(camera, size)
    np.testing.assert_allclose(R, case["opencv_R"][0], atol=1e-6)
    np.testing.assert_allclose(t, case["opencv_t"][0], atol=1e-6)
    np.testing.assert_allclose(intrinsics.matrix(), case["opencv_K"][0], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", _CASES)
def test_opencv_block_gives_the_pytorch3d_block(shared_dir: Path, name: str) -> None:
    case = _golden(shared_dir, name)
    size = (int(case["image_size_hw"][0, 0]), int(case["image_size_hw"][0, 1]))
    K = case["opencv_K"][0].astype(np.float64)
    intrinsics = Intrinsics(K[0, 0], K[0, 2], K[1, 2])
    camera = to_pytorch3d(case["opencv_R"][0].astype(np.float64), case["opencv_t"][0], intrinsics, size)
    np.testing.assert_allclose(camera.R, case["R_pytorch3d"][0], atol=1e-6)
    np.testing.assert_allclose(camera.t, case["t"][0], atol=1e-6)
    assert camera.fl == pytest.approx(case["focal_ndc"].item(), rel=1e-6)
    np.testing.assert_allclose(camera.pp, case["principal_point_ndc"][0], atol=1e-6)


@pytest.mark.parametrize("name", _CASES)
def test_projection_equals_pytorch3ds_screen(shared_dir: Path, name: str) -> None:
    case = _golden(shared_dir, name)
    rigid = Rigid(torch.from_numpy(case["opencv_R"][0]).double(), torch.from_numpy(case["opencv_t"][0]).double())
    K = case["opencv_K"][0]
    cam = rigid.apply(torch.from_numpy(case["points_world"][0]).double())
    # OpenCV's axes are PyTorch3D's view axes with x and y turned round.
    np.testing.assert_allclose(cam.numpy(), case["points_view"][0] * [-1, -1, 1], atol=1e-5)
    pixels = project(cam, float(K[0, 0]), float(K[0, 2]), float(K[1, 2]))
    in_front = case["points_view"][0, :, 2] > 0.1
    assert in_front.sum() > 5
    # 2e-4 px measured, float32 rounding of the original at 1920 px.
    np.testing.assert_allclose(pixels.numpy()[in_front], case["points_screen"][0, in_front, :2], atol=1e-3)


def test_projection_is_continuous_pixels_with_y_down() -> None:
    points = torch.tensor([[0.0, 0.0, 2.0], [0.1, 0.0, 2.0], [0.0, 0.1, 1.0]], dtype=torch.float64)
    pixels = project(points, 100.0, 32.0, 24.0)
    assert torch.allclose(pixels, torch.tensor([[32.0, 24.0], [37.0, 24.0], [32.0, 34.0]], dtype=torch.float64))


def test_projection_jacobian_equals_finite_differences() -> None:
    points = torch.tensor([[0.03, -0.05, 0.4], [0.0, 0.0, 1.0], [-2.0, 1.0, 3.0]], dtype=torch.float64)
    analytic = projection_jacobian(points, 700.0)
    numeric = torch.stack([numeric_jacobian(lambda d, p=p: project(p + d, 700.0, 5.0, 6.0), 3) for p in points])
    assert worst_relative(analytic, numeric) < 1e-7


def test_scaled_intrinsics_see_the_resized_picture() -> None:
    camera = Intrinsics(900.0, 260.0, 250.0)
    points = torch.tensor([[0.03, -0.05, 0.4], [-0.2, 0.1, 0.7]], dtype=torch.float64)
    full = project(points, camera.focal_px, camera.cx_px, camera.cy_px)
    small = camera.scaled(0.25)
    assert torch.allclose(project(points, small.focal_px, small.cx_px, small.cy_px), 0.25 * full)
    np.testing.assert_allclose(small.matrix(), [[225, 0, 65], [0, 225, 62.5], [0, 0, 1]])


def test_cv2_counts_pixel_centres_at_whole_numbers() -> None:
    centre_of_first = np.array([[0.5, 0.5]])
    np.testing.assert_array_equal(to_cv2_pixels(centre_of_first), [[0, 0]])
    np.testing.assert_array_equal(from_cv2_pixels(to_cv2_pixels(centre_of_first)), centre_of_first)


_SIDE = st.integers(64, 2000)
_PART = st.floats(-1, 1)


@settings(deadline=None, max_examples=100)
@given(
    st.tuples(_SIDE, _SIDE),
    st.tuples(_PART, _PART, _PART),
    st.tuples(_PART, _PART, st.floats(0.2, 3)),
    st.floats(0.5, 12),
    st.tuples(_PART, _PART),
)
def test_both_forms_describe_one_camera(
    size: tuple[int, int],
    turn: tuple[float, float, float],
    t: tuple[float, float, float],
    focal: float,
    shift: tuple[float, float],
) -> None:
    h, w = size
    intrinsics = Intrinsics(focal * min(size), w / 2 + 0.3 * w * shift[0], h / 2 + 0.3 * h * shift[1])
    R = exp_so3(3 * torch.tensor(turn, dtype=torch.float64)).numpy()
    camera = to_pytorch3d(R, np.array(t), intrinsics, size)
    # As a file holds it: six numbers of the rotation.
    R_file = matrix_from_6d(matrix_to_6d(torch.from_numpy(camera.R))).numpy()
    back_R, back_t, back = from_pytorch3d(Pytorch3dCamera(R_file, camera.t, camera.fl, camera.pp), size)
    np.testing.assert_allclose(back_R, R, atol=1e-12)
    np.testing.assert_allclose(back_t, t, atol=1e-12)
    np.testing.assert_allclose(back.matrix(), intrinsics.matrix(), rtol=1e-12, atol=1e-9)
    # PyTorch3D's own projection of a point, formula of parity/README section 5.
    point = np.array([0.05, -0.08, 0.02])
    view = point @ camera.R + camera.t
    if view[2] < 0.1:
        return
    s = min(size) / 2
    x = w / 2 - s * (camera.fl * view[0] / view[2] + camera.pp[0])
    y = h / 2 - s * (camera.fl * view[1] / view[2] + camera.pp[1])
    cam = torch.from_numpy(R @ point + np.array(t))
    ours = project(cam, intrinsics.focal_px, intrinsics.cx_px, intrinsics.cy_px).numpy()
    np.testing.assert_allclose(ours, [x, y], rtol=1e-9, atol=1e-6)
