"""First pose and the choice of frames that see the head from many sides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.camera import Intrinsics, project
from tracker.head.generic import load_generic
from tracker.head.model import embed
from tracker.pose import initial_pose, rough_direction, spread_frames, yaw_pitch
from tracker.rotations import exp_so3, rotation_angle
from tracker.state import neutral_state

CAMERA = Intrinsics(900.0, 250.0, 262.0)
FRONTAL = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    model = load_generic()
    at = model.landmarks478
    return embed(at.faces, at.bary, model.triangles, model.template).double().numpy()


def _pixels(points: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    cam = torch.from_numpy(points @ R.T + t)
    return project(cam, CAMERA.focal_px, CAMERA.cx_px, CAMERA.cy_px).numpy()


def _turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    turn = exp_so3(torch.tensor([np.deg2rad(pitch), np.deg2rad(yaw), np.deg2rad(roll)], dtype=torch.float64))
    return FRONTAL @ turn.numpy()


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (70, 0, 0), (-70, 20, 0), (30, -30, 40), (0, 0, 170)])
def test_pose_of_exact_landmarks_is_found(points: np.ndarray, yaw: float, pitch: float, roll: float) -> None:
    R, t = _turned(yaw, pitch, roll), np.array([0.03, -0.02, 0.7])
    found_R, found_t = initial_pose(points, _pixels(points, R, t), CAMERA)
    # 1e-9 measured.
    np.testing.assert_allclose(found_R, R, atol=1e-6)
    np.testing.assert_allclose(found_t, t, atol=1e-6)


def test_pose_of_noisy_landmarks_is_close(points: np.ndarray) -> None:
    R, t = _turned(25, -10, 5), np.array([0.03, -0.02, 0.7])
    noise = np.random.default_rng(0).standard_normal((len(points), 2))
    found_R, found_t = initial_pose(points, _pixels(points, R, t) + noise, CAMERA)
    # 1 px of noise on 478 points: 0.10 degrees and 0.6 mm measured.
    assert float(rotation_angle(torch.from_numpy(found_R @ R.T))) < np.deg2rad(0.4)
    assert np.linalg.norm(found_t - t) < 0.003
    assert np.linalg.det(found_R) == pytest.approx(1)
    direction = np.rad2deg(rough_direction(points, _pixels(points, R, t) + noise, CAMERA))
    # 0.04 degrees measured.
    np.testing.assert_allclose(direction, np.rad2deg(yaw_pitch(R[None])[0]), atol=0.4)


def test_yaw_is_to_the_right_of_the_picture_and_pitch_down() -> None:
    neutral = neutral_state(load_generic()).R.numpy()
    turned = np.stack([neutral, _turned(30, 0, 0), _turned(0, 20, 0)])
    # The subject's left (+x, the picture's right); the nose follows exp(yaw y) z = (sin, 0, cos).
    np.testing.assert_allclose(np.rad2deg(yaw_pitch(turned)), [[0, 0], [30, 0], [0, 20]], atol=1e-9)


_FRAMES = st.integers(1, 40)


@settings(deadline=None, max_examples=100)
@given(_FRAMES, st.integers(1, 12), st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=4, unique=True))
def test_chosen_frames_are_distinct_usable_and_ordered(n: int, count: int, seed: int, first: list[int]) -> None:
    generator = np.random.default_rng(seed)
    directions, usable = generator.standard_normal((n, 2)), generator.random(n) < 0.7
    chosen = spread_frames(directions, usable, first, count)
    assert chosen == sorted(set(chosen))
    assert usable[chosen].all()
    given_ = [frame for frame in first if frame < n and usable[frame]]
    assert set(given_) <= set(chosen)
    assert len(chosen) == max(len(given_), min(count, int(usable.sum())))
    assert chosen == spread_frames(directions, usable, first, count)


def test_frames_spread_to_the_extremes() -> None:
    yaw = np.deg2rad(np.concatenate([np.linspace(-40, 40, 41), np.zeros(59)]))
    directions = np.stack([yaw, np.zeros(100)], 1)
    chosen = spread_frames(directions, np.ones(100, bool), [], 5)
    degrees = np.rad2deg(yaw[chosen])
    assert degrees.min() == pytest.approx(-40)
    assert degrees.max() == pytest.approx(40)
    assert np.abs(degrees).min() < 1
    assert np.diff(np.sort(degrees)).min() > 15


def test_a_still_head_gives_frames_apart_in_time() -> None:
    chosen = spread_frames(np.zeros((100, 2)), np.ones(100, bool), [], 5)
    assert np.diff(chosen).min() >= 20


def test_the_frontal_frame_comes_first() -> None:
    directions = np.array([[0.5, 0.1], [0.02, -0.01], [-0.6, 0.0]])
    assert spread_frames(directions, np.ones(3, bool), [], 1) == [1]
    assert spread_frames(directions, np.array([True, False, True]), [], 1) == [0]
    assert spread_frames(directions, np.ones(3, bool), [2], 1) == [2]
    assert spread_frames(directions, np.zeros(3, bool), [], 4) == []
