"""The benchmark of MICA's runtimes."""

from pathlib import Path

import clips
import numpy as np
import pytest

from benchmarks import mica, mica_points
from tracker.detectors.facemesh import FaceMesh
from tracker.detectors.landmark_maps import ibug68_from_478


def test_both_runtimes_are_timed_in_turns(mica_tar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mica.main(["--weights", str(mica_tar), "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert "given weights" in lines[0]
    assert "torch 2" in lines[1]
    assert "onnxruntime" in lines[1]
    assert [line.partition(":")[0] for line in lines[2:]] == ["1 picture", "8 pictures"]
    assert all(float(line.rpartition(" ")[2]) < 1e-4 for line in lines[2:])


def test_random_weights_are_a_checkpoint(tmp_path: Path) -> None:
    network = mica.load_network(mica.random_weights(tmp_path / "mica.tar"))
    assert network.regressor.output.weight.shape == (300, 300)


def test_alignments_are_compared_in_pixels_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    clips.encode(clips.swaying(4), tmp_path / "video.mp4")
    # A camera that sees a plane at 1 m pixel by pixel, and FaceMesh's own points as the truth.
    with FaceMesh(1, tracking=True) as mesh:
        found = [mesh.faces(image)[0].points_px for _, image in mica_points.pictures(tmp_path)]
    points = np.ones((4, 68, 3))
    points[::3, :, :2] = np.stack([ibug68_from_478(one) for one in found])
    np.savez(tmp_path / "truth.npz", lmk68=points, K=np.eye(3))
    mica_points.main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("frames, ")[2].partition(":")[0] for line in lines] == [
        "lids against irises",
        "lids against truth",
        "lids against MICA's rule for 68",
        "irises against truth",
        "irises against MICA's rule for 68",
    ]
    # Nose and mouth corners are the same points.
    assert "2 frames" in lines[1]
    assert lines[1].split("points ")[1].split()[2:5] == ["0.00", "0.00", "0.00"]


def test_difference_of_alignments() -> None:
    five = mica_points.REFERENCE_112.astype(float) * 3
    grown = (five - five.mean(0)) * 1.02 + five.mean(0) + [6.0, 0]
    values = mica_points.difference(grown, five)
    assert values[6] == pytest.approx(100 * (1 - 1 / 1.02), abs=1e-3)
    assert values[7] == pytest.approx(0, abs=1e-3)
    # 6 px of a face three times as large.
    assert values[5] == pytest.approx(2, abs=0.05)
