"""`flame.tex` and `flame.sh` of the checkpoints: the fit of the clip's appearance, or zeros and why."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import arrays, write_folder
from heads import random_head, random_state
from loguru import logger
from texture_spaces import MODES, rgb_space, write_bfm_space, write_flame_space

from stages.subject import Subject
from stages.texture_code import clip_texture, texture_files
from tracker.camera import Intrinsics
from tracker.config import Config
from tracker.errors import InputError
from tracker.frame_file import TextureCode, encode_frame
from tracker.frame_read import appearance_light
from tracker.head_choice import load_head_model, prepare_head

CODE = np.linspace(-1, 1, MODES)


@pytest.fixture
def flame(tmp_path: Path) -> Path:
    """A FLAME folder whose whole skin is face."""
    folder = tmp_path / "flame"
    write_folder(folder)
    skin = np.flatnonzero(arrays()["weights"][:, 1] == 1)
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps({"face": skin}, 2))
    return folder


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """With an appearance that the space explains, under a bluish light."""
    mean, basis = rgb_space(side=256)
    subject = Subject(tmp_path / "input", tmp_path / "output")
    subject.appearance_path.parent.mkdir(parents=True)
    albedo = (mean + basis @ CODE) * [0.8, 1.0, 1.3]
    np.savez(subject.appearance_path, albedo=albedo.astype(np.float32), valid=np.ones((256, 256), np.float32))
    return subject


def _config(flame: Path, **values: object) -> Config:
    return Config(actor="a", head="flame", head_path=str(flame), **values)


def test_the_fit_of_the_appearance(flame: Path, subject: Subject) -> None:
    write_flame_space(flame / "FLAME_texture.npz", *rgb_space())
    config = _config(flame, tex_params=MODES)
    texture = clip_texture(subject, config, load_head_model(config))
    assert texture_files(config) == [flame / "FLAME_texture.npz"]
    assert texture.code.code.shape == (MODES,)
    # These coefficients are smaller than a random code's, so that the gain is taken for smaller than it is; the first
    # mode is brightness, which the gain stands for, too. 0.04 measured, 0.20 for the last one, the weakest.
    assert np.abs(texture.code.gain[1] * texture.code.code - CODE)[1:].mean() < 0.08
    np.testing.assert_allclose(texture.code.gain / texture.code.gain[1], [0.8, 1.0, 1.3], rtol=0.03)
    assert texture.summary["space"] == str(flame / "FLAME_texture.npz")
    assert texture.summary["modes"] == MODES
    assert 0 < texture.summary["residual"] < 0.02
    fewer = clip_texture(subject, replace_config(config, tex_params=4), load_head_model(config))
    assert fewer.code.code.shape == (4,)


def replace_config(config: Config, **values: object) -> Config:
    return config.model_copy(update=values)


def test_the_other_format_gives_the_same(flame: Path, subject: Subject, tmp_path: Path) -> None:
    write_flame_space(flame / "FLAME_texture.npz", *rgb_space())
    other = tmp_path / "FLAME_albedo_from_BFM.npz"
    write_bfm_space(other, *rgb_space())
    config = _config(flame, tex_params=MODES)
    model = load_head_model(config)
    codes = [
        clip_texture(subject, replace_config(config, tex_space_path=path), model).code.code for path in ("", str(other))
    ]
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-3)


def test_more_modes_than_the_space_has(flame: Path, subject: Subject) -> None:
    write_flame_space(flame / "FLAME_texture.npz", *rgb_space())
    config = _config(flame, tex_params=139)
    model = load_head_model(config)
    with pytest.raises(InputError, match=rf"tex_params: 139 is more than the {MODES} that .*FLAME_texture\.npz"):
        clip_texture(subject, config, model)
    # The default stands for all that there is; its length stays.
    texture = clip_texture(subject, _config(flame), model)
    assert texture.code.code.shape == (140,)
    assert texture.code.code[:MODES].all()
    assert not texture.code.code[MODES:].any()
    assert texture.summary["modes"] == MODES


@pytest.mark.parametrize(
    ("values", "reason", "warns"),
    [
        ({}, "no FLAME_texture.npz or FLAME_albedo_from_BFM.npz beside the FLAME model", False),
        ({"tex_space_path": "data/FLAME2020/FLAME_texture.npz"}, "of tex_space_path is not there", True),
        ({"head": "generic", "head_path": ""}, "belong to FLAME, the head model is generic", False),
        ({"head": "generic", "head_path": "", "tex_space_path": __file__}, "the head model is generic", True),
    ],
)
def test_zeros_where_there_is_no_space(
    flame: Path, subject: Subject, values: dict[str, str], reason: str, warns: bool
) -> None:
    config = _config(flame, tex_params=50)
    config = replace_config(config, **values)
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING")
    texture = clip_texture(subject, config, load_head_model(config))
    logger.remove(sink)
    assert texture.code.code.shape == (50,)
    assert not texture.code.code.any()
    assert (texture.code.gain == 1).all()
    assert texture.summary["space"] is None
    assert reason in texture.summary["reason"]
    assert bool(said) == warns
    assert texture_files(config) == []


@pytest.mark.parametrize("head", ["flame", "generic"])
def test_a_space_that_is_not_there_is_told_before_the_work(flame: Path, head: str) -> None:
    config = replace_config(_config(flame), head=head, tex_space_path="none/FLAME_texture.npz")
    with pytest.raises(InputError, match=r"tex_space_path: none/FLAME_texture\.npz is not there"):
        prepare_head(config, print)


def test_an_appearance_that_shows_no_face(flame: Path, subject: Subject) -> None:
    write_flame_space(flame / "FLAME_texture.npz", *rgb_space())
    np.savez(subject.appearance_path, albedo=np.zeros((64, 64, 3)), valid=np.zeros((64, 64)))
    config = _config(flame, tex_params=5)
    texture = clip_texture(subject, config, load_head_model(config))
    assert not texture.code.code.any()
    assert "texels of the face were seen" in texture.summary["reason"]


def test_texture_and_light_of_a_checkpoint_make_the_same_picture() -> None:
    model = random_head()
    state = random_state(model, 2)
    texture = TextureCode(CODE, np.array([0.8, 1.0, 1.3]))
    arguments = (model, torch.zeros(model.shape_count), state, Intrinsics(900.0, 128.0, 128.0), (256, 256), 0)
    plain, coded = encode_frame(*arguments), encode_frame(*arguments, texture)
    np.testing.assert_allclose(coded["flame"]["tex"], CODE[None], atol=1e-6)
    assert plain["flame"]["tex"].shape == (1, 140)
    assert not plain["flame"]["tex"].any()
    # An albedo of one channel a times its gain under the tracked light is a under the written one.
    np.testing.assert_allclose(coded["flame"]["sh"], plain["flame"]["sh"] * [0.8, 1.0, 1.3], rtol=1e-5)
    for frame in (plain, coded, {**plain, "texture": {}}):
        np.testing.assert_allclose(appearance_light(frame), plain["flame"]["sh"][0], rtol=1e-5)
    del plain["texture"]
    np.testing.assert_array_equal(appearance_light(plain), plain["flame"]["sh"][0])
