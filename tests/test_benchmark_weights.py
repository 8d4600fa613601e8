"""The picture of the robust weights: what is painted over the face loses its weight, and the sheet shows it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tracked_clip

from benchmarks.weights import DROPPED, Weighed, main, palette, save, sheet, table, tile, weigh
from stages import files
from stages.pipeline import STAGES, run_stages


def _frame() -> Weighed:
    image = np.full((40, 40, 3), 255, np.uint8)
    pixels = np.array([[10.5, 10.5], [30.5, 20.5]])
    return Weighed(3, "ok", image, pixels, np.array([1.0, 0.0]), np.array([False, True]))


def test_a_tile_shows_full_weight_green_and_dropped_red() -> None:
    shown = palette()[tile(_frame(), 40)]
    assert shown[10, 10].tolist() == [0, 255, 0]
    assert shown[20, 30].tolist() == [255, 0, 0]
    assert np.unique(shown[30:].reshape(-1, 3), axis=0).tolist() == [[170, 170, 170]]


def test_sheet_and_table(tmp_path: Path) -> None:
    unknown = replace(_frame(), index=4, covered=None)
    columns = {"hand": [_frame(), unknown], "blur": [unknown]}
    indices = sheet(columns, 40)
    assert indices.shape[1] == 80
    assert indices[22:62, :40].tolist() == tile(_frame(), 40).tolist()
    save(tmp_path / "sheet.png", indices)
    assert files.read_image(tmp_path / "sheet.png").tolist() == palette()[indices].tolist()
    lines = table(columns).splitlines()
    assert lines[2] == "| hand | 3 | ok | 2 | 50% | 50% | 0.00 | 1.00 |"
    assert lines[4] == "| blur | 4 | ok | 2 | 50% | - | - | 0.50 |"


def test_a_frame_without_samples_is_no_error() -> None:
    blind = replace(_frame(), pixels=np.zeros((0, 2)), weights=np.zeros(0), covered=None)
    assert np.isnan(blind.dropped)
    assert tile(blind, 40).max() < len(palette())
    assert table({"away": [blind]}).endswith("| - | - | - |")


def test_what_is_painted_over_a_tracked_face_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracked_clip.write_clip(tmp_path)
    monkeypatch.chdir(tmp_path)
    subject, config = tracked_clip.load_subject(tmp_path)
    run_stages(subject, config, STAGES[: STAGES.index("review")], "cpu", False)
    (before,) = weigh(subject.config_path, [2], 1)
    assert before.dropped < 0.1
    centre = before.pixels.mean(0)
    near = (np.abs(before.pixels - centre) < 20).all(1)
    image = subject.load_image(2).copy()
    x, y = (int(value) for value in centre)
    image[y - 24 : y + 24, x - 24 : x + 24] = 255 * (np.indices((48, 48)).sum(0) // 6 % 2)[..., None]
    files.write_image(subject.image_path(subject.number_of(2)), image)
    (after,) = weigh(subject.config_path, [2], 1)
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert (after.weights[near] < DROPPED).mean() > 0.5
    assert after.weights[~near].mean() > 2 * after.weights[near].mean()
    # The clip's truth says that nothing covers the face, so there is nothing to set apart.
    assert after.covered is None
    main(["--cfg", str(subject.config_path), "--count", "1", "--out", str(tmp_path / "sheet.png")])
    # Of all frames, the one that was painted over has the most samples dropped.
    assert capsys.readouterr().out.splitlines()[-1].startswith("| anna | 2 | ")
    assert (tmp_path / "sheet.png").is_file()
