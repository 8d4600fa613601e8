"""The head in numpy is the head of the solver."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from heads import random_state

from stages.manifest import ROOT
from tracker.config import Config
from tracker.errors import InputError
from tracker.head.flame import load_flame
from tracker.head.generic import GENERIC_HEAD_PATH, load_generic
from tracker.head.model import HeadModel
from tracker.head.plain import PlainHead
from tracker.head_choice import load_head_model, load_plain_head
from tracker.state import FrameState


def _difference(plain: PlainHead, model: HeadModel) -> float:
    """Largest distance of the two heads' vertices in a state far from rest, metres."""
    state: FrameState = random_state(model, 4)
    shape = torch.linspace(-1, 1, model.shape_count)
    params = state.head_params(shape)
    as_float = type(params)(**{name: value.float() for name, value in vars(params).items() if value is not None})
    expected = model.vertices(as_float).numpy()
    arrays = (as_float.expression, as_float.jaw, as_float.eyes, as_float.eyelids)
    found = plain.shaped(shape.numpy()).vertices(*(array.numpy() for array in arrays))
    moved = np.abs(expected - model.template.numpy()).max()
    assert moved > 0.01
    return float(np.abs(found - expected).max())


def test_generic_head() -> None:
    model = load_generic()
    # 4e-8 measured: float32.
    assert _difference(PlainHead.read(GENERIC_HEAD_PATH), model) < 1e-6
    assert _difference(PlainHead.of(model), model) < 1e-6


def test_flame_with_pose_correctives(shared_dir: Path) -> None:
    model = load_flame(shared_dir / "flame_like").with_modes(60, 40)
    assert model.pose_correctives is not None
    assert _difference(PlainHead.of(model), model) < 1e-6
    without = dataclasses.replace(PlainHead.of(model), pose_correctives=None)
    assert _difference(without, model) > 1e-5


def test_a_config_names_the_same_head_for_both(shared_dir: Path) -> None:
    for head, path in (("generic", ""), ("flame", str(shared_dir / "flame_like"))):
        config = Config(actor="x", head=head, head_path=path, num_shape_params=7, num_exp_params=5)
        plain, model = load_plain_head(config), load_head_model(config)
        assert plain.name == model.name == head
        assert plain.shape_basis.shape == tuple(model.shape_basis.shape)
        assert plain.regions.keys() == model.regions.keys()
        for name in ("triangles", "uv", "uv_triangles", "skin_weights", "expression_basis"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(model, name).numpy())


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    with pytest.raises(InputError, match=r"head\.npz: no such head model"):
        PlainHead.read(path)
    np.savez(path, template=np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"head\.npz: not a head model"):
        PlainHead.read(path)


def test_drawing_does_without_torch() -> None:
    code = (
        "import sys, stages.review, stages.report; from stages.drawing import rehearse, load_plain_head; "
        "from tracker.config import Config; rehearse(load_plain_head(Config(actor='x', head='generic'))); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
