"""The kill benchmark's comparison sees every difference in results and none in accounts of time."""

from pathlib import Path

from benchmarks import kill
from stages import files
from stages.pipeline import STAGES


def _home(folder: Path, milliseconds: float, status: str = "ok") -> Path:
    frames = [{"frame": 0, "status": status, "milliseconds": milliseconds}]
    report = {"summary": {"milliseconds_median": milliseconds}, "frames": frames}
    files.write_json(folder / "output/a/report.json", report)
    files.write_text(folder / "output/a/timings.csv", f"0,{milliseconds}")
    files.write_text(folder / "output/a/manifests/tracking.json", f"{milliseconds}")
    files.write_text(folder / "output/a/checkpoint/00000.frame", "state")
    return folder


def test_time_is_no_difference(tmp_path: Path) -> None:
    first, second = kill.results(_home(tmp_path / "a", 1.0)), kill.results(_home(tmp_path / "b", 2.0))
    assert set(first) == {"output/a/report.json", "output/a/checkpoint/00000.frame"}
    assert first == second


def test_results_are(tmp_path: Path) -> None:
    first = kill.results(_home(tmp_path / "a", 1.0))
    assert first != kill.results(_home(tmp_path / "b", 1.0, status="lost"))
    other = _home(tmp_path / "c", 1.0)
    files.write_text(other / "output/a/checkpoint/00000.frame", "another")
    assert first != kill.results(other)


def test_every_stage_but_identity_has_a_middle() -> None:
    assert set(kill.MIDDLES) == set(STAGES) - {"identity"}
