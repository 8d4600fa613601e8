"""The comparison of ARKit curves with a truth."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.curves import compare, true_curves
from tracker.head.arkit import ARKIT_NAMES


def test_gain_bias_and_correlation_are_told_apart() -> None:
    time = np.linspace(0, 6, 80)
    true, tracked = np.zeros((80, 52)), np.zeros((80, 52))
    jaw, smile, look, rest = (ARKIT_NAMES.index(n) for n in ("jawOpen", "mouthSmileLeft", "eyeLookInLeft", "cheekPuff"))
    true[:, jaw] = 0.5 + 0.4 * np.sin(time)
    tracked[:, jaw] = 0.5 * true[:, jaw] + 0.1
    true[:, smile] = 0.3 + 0.3 * np.cos(time)
    tracked[:, smile] = 0.6 - true[:, smile]
    true[:, look] = 0.5
    tracked[:, rest] = 0.26
    scores, resting = compare(tracked, true, ARKIT_NAMES)
    assert [one.name for one in scores] == ["jawOpen", "mouthSmileLeft"]
    assert scores[0].gain == pytest.approx(0.5)
    assert scores[0].correlation == pytest.approx(1)
    assert scores[0].bias == pytest.approx(float((tracked - true)[:, jaw].mean()))
    assert scores[1].gain == pytest.approx(-1)
    assert scores[1].correlation == pytest.approx(-1)
    # 52 units less the two used ones and the eight eyeLook.
    assert resting == pytest.approx(0.26 / 42)


def test_halves_of_the_truth_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    values = np.array([[0.2, 0.6, 0.5]], np.float32)
    np.savez(path, exp=values, exp_names=np.array(["browInnerUp_L", "browInnerUp_R", "jawOpen"]))
    found = true_curves(path)
    assert found.shape == (1, 52)
    assert found[0, ARKIT_NAMES.index("browInnerUp")] == pytest.approx(0.4)
    assert found[0, ARKIT_NAMES.index("jawOpen")] == pytest.approx(0.5)
    assert found.sum() == pytest.approx(0.9)
