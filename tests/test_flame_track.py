"""A short clip tracked with a FLAME folder that has the least it can have, and with a texture space."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from loguru import logger
from texture_spaces import MODES, rgb_space, write_flame_space
from tracked_clip import TRACKED, load_subject, write_clip

from stages.pipeline import run_stages
from tracker.frame_file import head_params, load_frame
from tracker.frame_read import appearance_light
from tracker.head import measure_bias
from tracker.head_choice import load_head_model
from tracker.shading import rotate_sh


def test_a_track_with_flame(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = functools.partial(measure_bias.measure_bias, people=2, every=20)
    monkeypatch.setattr(measure_bias, "measure_bias", few)
    flame = tmp_path / "FLAME2020"
    flame.mkdir()
    for name in ("generic_model.npz", "landmark_embedding.npy", "head_template_uv.obj"):
        (flame / name).symlink_to(shared_dir / "flame_like" / name)
    write_flame_space(flame / "FLAME_texture.npz", *rgb_space())
    write_clip(tmp_path)
    subject, config = load_subject(tmp_path, "head=flame", f"head_path={flame}", f"tex_params={MODES}")
    stages = ("frames", "crop", "landmarks", "identity", "calibration", "tracking", "review")
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING")
    run_stages(subject, config, stages, "cpu", False)
    logger.remove(sink)
    for name in ("mediapipe_landmark_embedding.npz", "l_eyelid.npy", "FLAME_masks.pkl"):
        assert sum(name in line for line in said) == 1
    model = load_head_model(config)
    # Measured by the run, before it began.
    assert model.landmark_offsets is not None
    for index in range(TRACKED):
        frame = load_frame(subject.checkpoint_path(index))
        assert frame["model"] == "flame"
        sizes = {key: values.shape for key, values in frame["flame"].items()}
        assert (sizes["shape"], sizes["exp"], sizes["tex"]) == ((1, 300), (1, 100), (1, MODES))
        assert frame["flame"]["tex"].any()
        light = rotate_sh(torch.from_numpy(frame["state"]["light"]), torch.from_numpy(frame["state"]["R"]).T)
        np.testing.assert_allclose(appearance_light(frame), light, atol=1e-5)
        vertices = model.vertices(head_params(frame, model))
        assert vertices.shape == (5023, 3)
        assert torch.isfinite(vertices).all()
        assert frame["track"]["reprojection_px"] < 3
        # Irises and lids have points of their own to follow.
        fitted = frame["track"]["landmarks478"]
        assert np.isfinite(fitted[[468, 473, 33, 263, 160, 144]]).all()
        assert subject.review_path(index).exists()
    texture = json.loads(subject.report_path.read_text())["summary"]["texture"]
    assert texture["space"] == str(flame / "FLAME_texture.npz")
    assert texture["modes"] == MODES
    np.testing.assert_allclose(frame["texture"]["gain"], texture["gain"], atol=1e-3)
