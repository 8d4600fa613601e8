"""Which frames MICA sees, and what it makes of several codes."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.camera import Intrinsics
from tracker.head.generic import GENERIC_HEAD_PATH, load_generic
from tracker.head.model import embed
from tracker.landmark_set import LIP_PAIRS, RIGHT_LID_PAIRS
from tracker.mica.choose import RIGID, FrameLook, choose_frames, face_sharpness, rate_frames
from tracker.mica.robust_mean import robust_mean

CAMERA = Intrinsics(768.0, 256.0, 256.0)


@pytest.fixture(scope="module")
def rest() -> np.ndarray:
    """The generic head's FaceMesh points: (478, 3) metres, irises and others it lacks at the eyes' corners."""
    model = load_generic(GENERIC_HEAD_PATH)
    points = embed(model.landmarks478.faces, model.landmarks478.bary, model.triangles, model.template).numpy()
    whole = np.repeat(points[:1], 478, 0)
    whole[model.landmarks478.indices.numpy()] = points
    return whole


def _seen(points: np.ndarray, yaw_deg: float = 0.0, pitch_deg: float = 0.0, x: float = 0.0) -> np.ndarray:
    """The points in a picture of a head that stands 0.5 m off, at x metres, turned against the line of sight."""
    centre = np.array([x, 0.0, 0.5])
    aside = np.arctan2(x, 0.5)
    turn_y, _ = cv2.Rodrigues(np.array([0, np.radians(yaw_deg) + aside, 0]))
    turn_x, _ = cv2.Rodrigues(np.array([np.radians(pitch_deg), 0, 0]))
    # Head axes (y up, z out of the face) to the camera's.
    cam = (points - points[list(RIGID)].mean(0)) @ (turn_y @ turn_x @ np.diag([1.0, -1, -1])).T + centre
    return CAMERA.focal_px * cam[:, :2] / cam[:, 2:] + [CAMERA.cx_px, CAMERA.cy_px]


def _opened(points: np.ndarray, pairs: tuple[tuple[int, int], ...], by_m: float) -> np.ndarray:
    """Upper and lower points of pairs moved apart."""
    moved = points.copy()
    moved[[a for a, _ in pairs], 1] += by_m / 2
    moved[[b for _, b in pairs], 1] -= by_m / 2
    return moved


def test_turns_are_measured_against_the_line_of_sight(rest: np.ndarray) -> None:
    for x in (0.0, 0.12):
        looks = rate_frames({0: _seen(rest, 0, 0, x), 1: _seen(rest, 20, 0, x), 2: _seen(rest, 0, 12, x)}, CAMERA)
        assert np.hypot(looks[0].yaw_deg, looks[0].pitch_deg) < 1
        assert abs(abs(looks[1].yaw_deg) - 20) < 1
        assert abs(abs(looks[2].pitch_deg) - 12) < 1
        assert looks[0].cost < 0.1 < looks[2].cost < looks[1].cost


def test_open_mouths_and_shut_lids_cost(rest: np.ndarray) -> None:
    frames = {i: _seen(rest) for i in range(3)}
    frames[3] = _seen(_opened(rest, LIP_PAIRS, 0.015))
    frames[4] = _seen(_opened(rest, RIGHT_LID_PAIRS, -0.009))
    smile = rest.copy()
    smile[[61, 291], 0] *= 1.3
    frames[5] = _seen(smile)
    looks = rate_frames(frames, CAMERA)
    assert max(look.cost for look in looks[:3]) < 0.1
    assert all(look.cost > 0.5 for look in looks[3:])
    assert looks[3].mouth_gap > 0.1
    assert looks[4].lids < 0.8
    assert rate_frames({}, CAMERA) == []


def _look(index: int, cost: float) -> FrameLook:
    return FrameLook(index, 0.0, 0.0, 0.0, 1.0, cost)


def test_blurred_and_bad_frames_are_left_out() -> None:
    looks = [_look(i, 0.1) for i in range(20)] + [_look(20, 30.0)]
    blurred = {3, 4, 5, 6}
    chosen = choose_frames(looks, 8, lambda index: 0.1 if index in blurred else 1.0)
    indices = [look.index for look, _ in chosen]
    assert len(indices) == 8
    assert indices == sorted(indices)
    assert not blurred & set(indices)
    assert 20 not in indices
    # Spread over the clip rather than eight neighbours.
    assert indices[-1] - indices[0] > 8
    assert all(sharp == 1.0 for _, sharp in chosen)


def test_only_bad_frames_still_give_some() -> None:
    chosen = choose_frames([_look(0, 50.0), _look(10, 60.0), _look(20, 500.0)], 8, lambda _index: 1.0)
    assert [look.index for look, _ in chosen] == [0, 10]
    assert choose_frames([], 8, lambda _index: 1.0) == []


def test_pictures_are_asked_for_the_better_frames_alone() -> None:
    asked: list[int] = []

    def sharpness(index: int) -> float:
        asked.append(index)
        return 1.0

    choose_frames([_look(i, i / 100) for i in range(200)], 4, sharpness)
    assert len(asked) <= 20


def test_blur_lowers_sharpness_and_light_does_not() -> None:
    face = np.random.RandomState(0).randint(0, 128, (112, 112, 3)).astype(np.uint8)
    blurred = cv2.GaussianBlur(face, (0, 0), 1.5)
    assert face_sharpness(blurred) < 0.3 * face_sharpness(face)
    assert face_sharpness(face * 2) == pytest.approx(face_sharpness(face), rel=0.05)


# ---- robust mean


def test_noise_is_averaged_and_strangers_are_left_out() -> None:
    random = np.random.RandomState(1)
    truth = random.standard_normal(300)
    codes = truth + 0.1 * random.standard_normal((9, 300))
    codes[[2, 7]] = random.standard_normal((2, 300))
    mean = robust_mean(codes)
    assert np.flatnonzero(mean.outliers).tolist() == [2, 7]
    # Seven codes: 0.1 / sqrt(7).
    assert np.sqrt(((mean.code - truth) ** 2).mean()) < 0.05
    np.testing.assert_allclose(mean.code, np.delete(codes, [2, 7], 0).mean(0))
    assert mean.distances[2] > 5 * mean.distances[0]


@given(st.integers(1, 6), st.integers(0, 100))
def test_mean_of_equal_noise_is_the_mean(count: int, seed: int) -> None:
    codes = np.random.RandomState(seed).standard_normal((count, 300))
    mean = robust_mean(codes)
    assert not mean.outliers.any()
    np.testing.assert_allclose(mean.code, codes.mean(0), atol=1e-12)


def test_equal_codes_have_no_outliers() -> None:
    mean = robust_mean(np.ones((4, 300)))
    assert not mean.outliers.any()
    np.testing.assert_allclose(mean.code, 1)
    assert mean.distances.max() < 1e-6


def test_mean_moves_with_the_codes() -> None:
    codes = np.random.RandomState(3).standard_normal((5, 300))
    np.testing.assert_allclose(robust_mean(2 * codes + 1).code, 2 * robust_mean(codes).code + 1, atol=1e-9)
