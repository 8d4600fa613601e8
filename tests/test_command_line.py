"""The command line: exit codes, one clear line for each bad input, nothing lost, several subjects, dry run."""

from pathlib import Path

import clips
import numpy as np
import pytest
import torch

import run_tracking
from stages import files, pipeline
from stages.config_file import load_config
from tracker.errors import SubjectError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with configs/, input/ and output/ inside."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _subject(home: Path, name: str, more: str = "") -> Path:
    (home / "input" / name).mkdir(parents=True)
    config = home / "configs" / f"{name}.yml"
    files.write_text(config, f"actor: ./input/{name}\nsave_folder: ./output/\n{more}")
    return config


def _errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of level ERROR; checks that nothing else than log lines was printed."""
    lines = capsys.readouterr().err.splitlines()
    assert all(line[8:9] == " " and line[2] == ":" for line in lines), lines
    return [line[9 + 8 :] for line in lines if " ERROR " in line]


def _run(*arguments: str | Path) -> int:
    return run_tracking.main([str(argument) for argument in arguments])


def test_first_stages_run_and_are_then_skipped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _subject(home, "anna")
    clips.encode(clips.swaying(5), home / "input/anna/video.mp4")
    assert _run("--cfg", config, "--until", "identity") == 0
    capsys.readouterr()
    assert _run("--cfg", config, "--until", "identity") == 0
    assert capsys.readouterr().err.count("up to date") == 4
    assert load_config(home / "output/anna/config.yml")[0] == load_config(config)[0]
    log = (home / "output/anna/train.log").read_text()
    assert "a face in 5 of 5 pictures" in log


def test_dry_run_says_why_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _subject(home, "anna")
    clips.encode(clips.swaying(3), home / "input/anna/video.mp4")
    assert _run("--cfg", config, "--dry-run", "--until", "landmarks") == 0
    rows = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert rows == [["anna", stage, "run", "never run"] for stage in ("frames", "crop", "landmarks")]
    assert not (home / "output").exists()
    assert [path.name for path in (home / "input/anna").iterdir()] == ["video.mp4"]
    assert _run("--cfg", config, "--until", "landmarks") == 0
    capsys.readouterr()
    assert _run("--cfg", config, "--dry-run", "--until", "landmarks", "--set", "bbox_scale=3") == 0
    rows = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert rows[0][2:] == ["skip", "up to date"]
    assert rows[1][2:] == ["run", "config changed: bbox_scale"]
    assert rows[2][2:] == ["run", "runs beside crop"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --cfg; see --help"),
        (["--cfg", "configs/anna.yml", "--stage", "crop"], "unrecognized arguments: --stage"),
        (["--cfg", "configs/anna.yml", "--stages", "crops"], "unknown stage 'crops'"),
        (["--cfg", "configs/ana.yml"], "configs/ana.yml: no such config file; did you mean configs/anna.yml?"),
        (["--cfg", "configs/anna.yml", "--set", "fsp=3"], "unknown key 'fsp'; did you mean 'fps'?"),
        (["--cfg", "configs/anna.yml", "--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
        (["--cfg", "configs/anna.yml", "configs/anna.yml"], "two configs write"),
    ],
)
def test_usage_errors(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    _subject(home, "anna")
    assert _run(*arguments) == 1
    (line,) = _errors(capsys)
    assert message in line
    assert not (home / "output").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_cuda_where_there_is_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--cfg", _subject(home, "anna"), "--device", "cuda") == 1
    assert _errors(capsys) == ["device cuda: torch finds no CUDA device here; use --device cpu"]


def _make_bad(home: Path, case: str) -> None:
    folder = home / "input/anna"
    if case == "empty video":
        (folder / "video.mp4").write_bytes(b"")
    elif case == "no face":
        clips.encode(clips.plain(4), folder / "video.mp4")
    elif case == "truncated":
        path = clips.encode(clips.swaying(8), folder / "video.mp4")
        path.write_bytes(path.read_bytes()[:-3000])
    elif case == "tiny image":
        files.write_image(folder / "image.png", np.zeros((40, 40, 3), np.uint8))
    elif case == "identity":
        clips.encode(clips.swaying(4), folder / "video.mp4")
        files.write_array(folder / "identity.npy", np.zeros(299))
    elif case == "bbox":
        clips.encode(clips.swaying(4), folder / "video.mp4")
        (folder / "bbox.pt").write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("missing video", 1, "input/anna: no video; looked for source/ with pictures, video.mp4"),
        ("empty video", 1, "input/anna/video.mp4: the video is empty (0 bytes); copy it again"),
        ("no face", 2, "input/anna: no face in 4 frames of the clip; check the video"),
        ("truncated", 1, "input/anna/video.mp4: truncated mp4"),
        ("tiny image", 1, "an image of 40 x 40 pixels is too small; at least 64 a side are needed"),
        ("identity", 1, "input/anna/identity.npy: expected (300,) numbers, found (299,) float64; replace it"),
        ("bbox", 1, "input/anna/bbox.pt: not a crop box"),
    ],
)
def test_bad_input_is_one_line_and_loses_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], case: str, code: int, message: str
) -> None:
    config = _subject(home, "anna")
    _make_bad(home, case)
    given = {path: path.read_bytes() for path in (home / "input/anna").iterdir()}
    for _ in range(2):
        assert _run("--cfg", config, "--until", "identity") == code
        (line,) = _errors(capsys)
        assert line.startswith("anna: ")
        assert message in line
    assert {path: path.read_bytes() for path in given} == given
    log = (home / "output/anna/train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert message in log


def test_several_subjects_go_on_after_a_failure(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = _subject(home, "bad"), _subject(home, "good")
    clips.encode(clips.plain(3), home / "input/good/video.mp4")
    assert _run("--cfg", bad, good, "--until", "frames") == 2
    lines = _errors(capsys)
    assert lines[0].startswith("bad: input/bad: no video")
    assert lines[1] == "1 of 2 subjects failed"
    assert len(list((home / "input/good/source").iterdir())) == 3


def test_library_errors_name_their_kind_and_the_log(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(pipeline, "run_stages", fail)
    assert _run("--cfg", _subject(home, "anna")) == 2
    assert _errors(capsys) == ["anna: RuntimeError: out of memory; see train.log"]


def test_programming_errors_are_not_hidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(pipeline, "run_stages", fail)
    with pytest.raises(KeyError):
        _run("--cfg", _subject(home, "anna"))


def test_interrupt(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_stages", stop)
    assert _run("--cfg", _subject(home, "anna")) == 130
    assert _errors(capsys) == ["interrupted; the same command continues where it stopped"]


def test_failed_subject_is_two(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SubjectError("cannot be tracked")

    monkeypatch.setattr(pipeline, "run_stages", fail)
    assert _run("--cfg", _subject(home, "anna")) == 2


def test_legacy_keys_give_one_warning(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _subject(home, "anna", "w_pho: 350\nrotation_lr: 0.2\n")
    clips.encode(clips.plain(3), home / "input/anna/video.mp4")
    assert _run("--cfg", config, "--until", "frames") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert warnings[0].endswith("metrical-tracker's rotation_lr, w_pho have no effect here")
