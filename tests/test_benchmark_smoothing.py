"""The benchmark of smoothing: which moments it looks at, and what it makes of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.smoothing import Track, blinks, cost, draw, plosives, table, tracked


def _truth() -> Track:
    """Forty frames with a blink at 12 and lips that meet at 25."""
    frames = np.arange(40)
    closure = np.clip(1 - np.abs(frames - 12) / 3, 0, 1)
    lips = 10 - 9 * np.clip(1 - np.abs(frames - 25) / 3, 0, 1) + 0.1 * np.sin(frames)
    return Track(10 - 9 * closure, lips, np.full(40, 500.0), closure, {})


def test_the_moments_of_a_blink_and_a_plosive() -> None:
    assert blinks(_truth()) == [12]
    assert plosives(_truth()) == [25]
    calm = replace(_truth(), closure=np.zeros(40), lips_mm=np.full(40, 4.0))
    assert blinks(calm) == []
    assert plosives(calm) == []


def test_table_and_picture(tmp_path: Path) -> None:
    raw = replace(_truth(), figures={"jitter, mm": 0.5})
    smooth = replace(raw, figures={"jitter, mm": 0.25})
    assert table({"demo": (raw, smooth)}).splitlines()[1].split() == ["jitter,", "mm", "0.50", "->", "0.25"]
    draw(tmp_path / "a.png", raw, smooth, _truth())
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_cost_names_both_models() -> None:
    lines = cost(14).splitlines()
    assert [line.split(" expressions")[0] for line in lines] == ["50", "100"]


def test_a_clip_without_calibration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna.yml").write_text(f"actor: {tmp_path}\nsave_folder: {tmp_path / 'output'}\n")
    with pytest.raises(SystemExit, match="calibration"):
        tracked(tmp_path / "anna.yml", [], smoothed=True)
