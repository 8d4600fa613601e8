"""Tracks beside each other: the table says what the reports say, the picture shows the same frames."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.side_by_side import main, sheet, table
from stages import files
from stages.subject import Subject


def _track(output: Path, head: str, error: float, colour: int, reviewed: bool = True) -> Path:
    subject = Subject(output, output)
    output.mkdir()
    summary = {"ok": 3, "poor": 1, "lost": 0, "reprojection_px_median": error, "reprojection_px_p95": 2.5}
    summary |= {"photometric_l1_median": 0.0123, "jitter_fitted_px": 1.5, "focal_full_frame_px": 1000.4}
    files.write_json(subject.report_path, {"summary": summary, "frames": []})
    files.write_json(subject.identity_record_path, {"head": head})
    if reviewed:
        files.write_json(subject.review_record_path, {"psnr_db_median": 32.04})
        files.write_image(subject.review_path(0), np.full((40, 160, 3), colour, np.uint8))
    return output


def test_a_row_a_track(tmp_path: Path) -> None:
    tracks = [_track(tmp_path / "a", "generic", 1.0, 0), _track(tmp_path / "b", "ict", 0.5, 0, reviewed=False)]
    lines = table(tracks).splitlines()
    assert lines[2] == "| a | generic | 3/1/0 | 1.00 px | 2.50 px | 32.0 dB | 0.0123 | 1.50 px | 1000 px |"
    assert lines[3] == "| b | ict | 3/1/0 | 0.50 px | 2.50 px | - | 0.0123 | 1.50 px | 1000 px |"


def test_the_picture_shows_every_track_under_its_name(tmp_path: Path) -> None:
    tracks = [_track(tmp_path / "a", "generic", 1.0, 90), _track(tmp_path / "b", "ict", 0.5, 200)]
    picture = sheet(tracks, [0])
    assert picture.shape == (2 * (28 + 40), 160, 3)
    assert abs(int(picture[48, 80, 0]) - 90) < 4
    assert abs(int(picture[116, 80, 0]) - 200) < 4
    assert main([*map(str, tracks), "--picture", str(tmp_path / "both.png")]) == 0
    assert files.read_image(tmp_path / "both.png").shape == picture.shape


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track = _track(tmp_path / "a", "generic", 1.0, 90)
    assert main([str(track), "--frames", "7", "--picture", str(tmp_path / "x.jpg")]) == 1
    assert "00007.jpg: no such review frame" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing")]) == 1
    assert "nothing: no report.json; track the clip first" in capsys.readouterr().err
