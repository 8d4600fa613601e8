"""Fixtures shared by all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from batched_case import DEVICES, Case

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty HOME for the whole run: no test sees, or changes, the weights and caches of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("TORCH_HOME", "XDG_CACHE_HOME", "HEAD_TRACKER_CACHE"):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Data that lies beside the repository and is used in place, never copied into it; skips where it is absent."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the shared data folder {path}")
    return path


@pytest.fixture(scope="session")
def demo_track(tmp_path_factory: pytest.TempPathFactory):
    """A short demo clip through the first stages, with checkpoints that hold its truth: (subject, config, truth)."""
    from demo_subject import demo_subject, write_true_track

    subject, config, truth = demo_subject(tmp_path_factory.mktemp("demo"))
    write_true_track(subject, truth)
    return subject, config, truth


@pytest.fixture(scope="session")
def calibrated():
    """A rendered head (tests/rendered_clip.py), calibrated on eight frames: (clip, task, geometry, calibration)."""
    from rendered_clip import calibration_task, rendered_clip

    from tracker.calibrate import solve_appearance, solve_geometry

    clip = rendered_clip()
    task = calibration_task(clip, [0, 14, 28, 40, 52, 66, 80, 92])
    geometry = solve_geometry(task)
    return clip, task, geometry, solve_appearance(task, geometry)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device of the batched solve; CUDA is skipped where there is none."""
    return request.param


@pytest.fixture
def case(calibrated, device: str) -> Case:
    """The calibrated head with its solvers, the batched one on the device."""
    return Case.of(calibrated, device)


@pytest.fixture(scope="session")
def mica_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mica.tar of pseudo-random weights with a small made-up head."""
    import mica_weights

    parts = mica_weights.state_dicts()
    parts["flameModel"] |= mica_weights.head_buffers()
    return mica_weights.write(tmp_path_factory.mktemp("mica") / "mica.tar", parts)


@pytest.fixture(scope="session")
def mica_onnx(mica_tar: Path) -> Path:
    """Its export by the command, beside a link to it: the weights alone stay without one."""
    from tracker.mica.__main__ import main

    folder = mica_tar.parent / "exported"
    folder.mkdir()
    weights = folder / mica_tar.name
    weights.symlink_to(mica_tar)
    assert main(["export", "--weights", str(weights)]) == 0
    return folder / "mica.onnx"


@pytest.fixture
def log_lines():
    """Messages of the log, level INFO and above, as they come."""
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO", format="{message}")
    yield lines
    logger.remove(sink)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, which is HOME, too, with empty caches and no proxies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
