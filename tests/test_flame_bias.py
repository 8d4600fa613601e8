"""FLAME's landmark bias: measured once, kept, measured anew when a file of the model changes."""

import functools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from flame_files import write_folder

from tracker.config import Config
from tracker.head import measure_bias
from tracker.head.flame_bias import flame_bias_path, measure_flame_bias
from tracker.head_choice import load_head_model, model_files, prepare_head


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEAD_TRACKER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_measured_once_and_used(shared_dir: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(shared_dir / "flame_like", tmp_path / "flame")
    config = Config(actor="x", head="flame", head_path=str(folder), num_shape_params=50)
    assert load_head_model(config).landmark_offsets is None
    assert not any(path.is_relative_to(cache) for path in model_files(config))
    few = functools.partial(measure_bias.measure_bias, people=2, every=20)
    monkeypatch.setattr(measure_bias, "measure_bias", few)
    said: list[str] = []
    prepare_head(config, said.append)
    path = flame_bias_path(folder)
    assert sorted(cache.iterdir()) == [path]
    assert str(path) in said[0]
    assert "once" in said[0]
    model = load_head_model(config)
    assert path in model_files(config)
    assert model.landmark_offsets is not None
    assert model.landmark_offset_std is not None
    size = np.linalg.norm(model.landmark_offsets.numpy(), axis=1)
    assert size.shape == (len(model.landmarks478),)
    # Every point has one, of some millimetres. 1.9 mm measured in the median of 24 people.
    assert (size > 0).all()
    assert 0.0005 < np.median(size) < 0.005
    assert (model.landmark_offset_std > 0).all()
    # Only lids respond to the lids.
    response = np.abs(model.landmark_lid_response.numpy()).max((1, 2))
    numbers = model.landmarks478.indices.numpy()
    assert (response[np.isin(numbers, [159, 386, 145, 374])] > 0).all()
    assert not response[np.isin(numbers, [1, 4, 61, 291, 17])].any()
    # Not again.
    monkeypatch.setattr(measure_bias, "measure_bias", None)
    prepare_head(config, said.append)
    # A landmark file of another date may hold other points.
    os.utime(folder / "mediapipe_landmark_embedding.npz", (1, 1))
    assert flame_bias_path(folder) != path
    assert load_head_model(config).landmark_offsets is None


def test_what_is_no_face_is_tracked_without(cache: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "flame")
    said: list[str] = []
    measure_flame_bias(tmp_path / "flame", said.append)
    assert "tracked without a measured landmark bias" in said[-1]
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_named(cache: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "flame")
    cache.write_text("a file")
    said: list[str] = []
    measure_flame_bias(tmp_path / "flame", said.append)
    assert len(said) == 1
    assert str(cache) in said[0]
    assert "HEAD_TRACKER_CACHE" in said[0]
