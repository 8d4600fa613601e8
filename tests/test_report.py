"""Figures of report.json that are summed up frame by frame."""

import math

import numpy as np
import pytest

from stages.report import Jitter


def _jitter_px(points: np.ndarray) -> float:
    meter = Jitter()
    for frame in points:
        meter.add(frame)
    return meter.px


def test_jitter_is_that_of_the_points_that_are_always_there() -> None:
    points = np.random.default_rng(0).normal(size=(9, 20, 2))
    points[0, 3] = points[4, 5, 1] = points[8, 7] = np.nan
    steady = points[:, [k for k in range(20) if k not in (3, 5, 7)]]
    second = steady[2:] - 2 * steady[1:-1] + steady[:-2]
    assert _jitter_px(points) == pytest.approx(math.sqrt((second**2).sum(2).mean()), rel=1e-12)


def test_even_motion_has_no_jitter() -> None:
    assert _jitter_px(np.arange(5.0)[:, None, None] * np.ones((1, 4, 2))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("points", [np.zeros((0, 4, 2)), np.zeros((2, 4, 2)), np.full((5, 4, 2), np.nan)])
def test_too_little_to_tell_is_nan(points: np.ndarray) -> None:
    assert math.isnan(_jitter_px(points))
