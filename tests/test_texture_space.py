"""Texture spaces: both file formats, golden pictures of the peers, and the fit of a clip's appearance."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rendered_clip import RenderedClip, rendered_clip
from texture_spaces import MODES, SIDE, rgb_space, write_bfm_space, write_flame_space

from tracker.clip import FrameInput
from tracker.errors import InputError
from tracker.head.model import vertex_normals
from tracker.texels import Texels
from tracker.texture import bake_texture
from tracker.texture_fit import TextureFit, fit_texture
from tracker.texture_space import basis_at, find_texture_space, open_texture_space, texture_image


@pytest.fixture(scope="module")
def golden_spaces(tmp_path_factory: pytest.TempPathFactory, shared_dir: Path):
    """The two spaces that parity/README.md describes by formulas, cut to the 140 modes that are used, and the code."""
    folder = tmp_path_factory.mktemp("spaces")
    count, modes = 512 * 512 * 3, 140
    i, waves = np.arange(count), np.empty((count, modes), np.float32)
    for k in range(modes):
        waves[:, k] = np.sin(1e-5 * (i + 1) * (k + 1) + k) / (1 + k / 10)
    shape = (512, 512, 3)
    mean = (128 + 60 * np.sin(0.001 * i)).reshape(shape)
    np.savez(folder / "FLAME_texture.npz", mean=mean, tex_dir=10 * waves.reshape(*shape, modes))
    np.savez(folder / "FLAME_albedo_from_BFM.npz", MU=0.5 + 0.25 * np.sin(0.001 * i), PC=np.float32(0.04) * waves)
    with np.load(shared_dir / "parity/golden/shading/texture_7301.npz") as archive:
        golden = {key: archive[key] for key in archive.files}
    yield (
        {
            kind: open_texture_space(folder / name)
            for kind, name in (("flame", "FLAME_texture.npz"), ("bfm", "FLAME_albedo_from_BFM.npz"))
        },
        golden,
    )
    for file in folder.iterdir():
        file.unlink()


# Of each golden picture: its modes, size, sampling, and what white is. photometric_optimization reads FLAME's own space
# alone.
PICTURES = {
    "metrical_flame_512": (140, None, False, 1),
    "metrical_flame_h96w160": (140, (96, 160), False, 1),
    "deca_flame_256": (50, (256, 256), True, 1),
    "photometric_flame_256": (50, (256, 256), True, 255),
    "metrical_bfm_512": (140, None, False, 1),
    "metrical_bfm_h96w160": (140, (96, 160), False, 1),
    "deca_bfm_256": (50, (256, 256), True, 1),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_equal_those_of_the_peers(golden_spaces, name: str) -> None:
    spaces, golden = golden_spaces
    modes, size, nearest, white = PICTURES[name]
    kind = name.split("_")[1]
    image = white * texture_image(spaces[kind], golden["code"][0, :modes], size, nearest)
    assert image.shape == (*golden[f"{name}_shape"][2:], 3)
    rows = image[[0, len(image) // 2, -1]].transpose(0, 2, 1)
    # Float32 sums of 140 terms: 2e-6 measured; of bilinear weights 8e-6.
    np.testing.assert_allclose(
        rows / white, golden[f"{name}_rows_first_mid_last"].transpose(1, 0, 2) / white, atol=2e-5
    )
    np.testing.assert_allclose([image.mean(), image.std()], golden[f"{name}_mean_std"], rtol=2e-4)


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    write_flame_space(tmp_path / "FLAME_texture.npz", *rgb_space())
    return tmp_path / "FLAME_texture.npz"


@pytest.mark.parametrize("fortran", [False, True])
def test_both_formats_hold_the_same_space(tmp_path: Path, space_file: Path, fortran: bool) -> None:
    mean, basis = rgb_space()
    other = tmp_path / "FLAME_albedo_from_BFM.npz"
    if fortran:
        flat = np.asfortranarray(basis[..., ::-1, :].reshape(-1, MODES))
        np.savez_compressed(other, MU=mean[..., ::-1].ravel(), PC=flat)
    else:
        write_bfm_space(other, mean, basis)
    texels = np.array([0, 5, SIDE, 3000, SIDE * SIDE - 1])
    for path, kind in ((space_file, "flame"), (other, "bfm")):
        space = open_texture_space(path)
        assert (space.kind, space.side, space.modes) == (kind, SIDE, MODES)
        np.testing.assert_allclose(space.mean, mean, atol=1e-6)
        np.testing.assert_allclose(basis_at(space, texels, 7), basis.reshape(-1, 3, MODES)[texels, :, :7], atol=1e-6)
        code = np.linspace(-2, 2, MODES)
        np.testing.assert_allclose(texture_image(space, code), mean + basis @ code, atol=1e-5)
        with pytest.raises(InputError, match=f"has {MODES} modes, the code {MODES + 1}"):
            texture_image(space, np.zeros(MODES + 1))


def test_pieces_of_the_basis_join(space_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = open_texture_space(space_file)
    code, texels = np.arange(MODES) / 5, np.arange(0, SIDE * SIDE, 7)
    whole = texture_image(space, code), basis_at(space, texels, 3)
    # 13 rows at once: a texel's channels fall into two pieces.
    monkeypatch.setattr("tracker.texture_space._CHUNK_NUMBERS", 13 * MODES)
    for piecewise, at_once in zip((texture_image(space, code), basis_at(space, texels, 3)), whole, strict=True):
        np.testing.assert_allclose(piecewise, at_once, atol=1e-6)


def test_other_files_are_refused(tmp_path: Path, space_file: Path) -> None:
    path = tmp_path / "space.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match=r"space\.npz: holds a; expected mean and tex_dir"):
        open_texture_space(path)
    np.savez(path, MU=np.zeros(12), PC=np.zeros((12, 2)), specMU=np.zeros(12), specPC=np.zeros((12, 2)))
    with pytest.raises(InputError, match="MU and PC alone"):
        open_texture_space(path)
    np.savez(path, MU=np.zeros(12), PC=np.zeros((9, 2)))
    with pytest.raises(InputError, match="do not make square textures"):
        open_texture_space(path)
    np.savez(path, MU=np.zeros(12), PC=np.full((12, 2), None))
    with pytest.raises(InputError, match=r"space\.npz"):
        open_texture_space(path)
    good = space_file.read_bytes()
    for content in (b"", good[:1000], good[: len(good) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"space\.npz"):
            open_texture_space(path)


def test_a_damaged_basis_is_told(space_file: Path) -> None:
    content = bytearray(space_file.read_bytes())
    content[len(content) // 2] ^= 255
    space_file.write_bytes(content)
    space = open_texture_space(space_file)
    with pytest.raises(InputError, match=r"FLAME_texture\.npz: the basis is damaged"):
        texture_image(space, np.zeros(3))


def test_where_the_space_is_looked_for(tmp_path: Path) -> None:
    model = tmp_path / "data/FLAME2020/generic_model.pkl"
    model.parent.mkdir(parents=True)
    assert find_texture_space("", [model]) is None
    assert find_texture_space("", []) is None
    (tmp_path / "data/FLAME_albedo_from_BFM.npz").touch()
    found = find_texture_space("", [model])
    assert found is not None
    assert found.name == "FLAME_albedo_from_BFM.npz"
    (model.parent / "FLAME_texture.npz").touch()
    found = find_texture_space("", [model])
    assert found is not None
    assert found.name == "FLAME_texture.npz"
    with pytest.raises(InputError, match=r"none\.npz is not there"):
        find_texture_space(str(tmp_path / "none.npz"), [model])
    assert find_texture_space(str(found), []) == found


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return rendered_clip()


CODE = np.array([0.8, -1.2, 0.6, 1.5, -0.4, 0.9, -1.1, 0.2, 1.3, -0.7, 0.5, -0.9])


def _texture(code: np.ndarray, side: int = 512) -> np.ndarray:
    mean, basis = rgb_space(side=side)
    return (mean + basis @ code).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("space") / "FLAME_texture.npz"
    write_flame_space(path, *(part.astype(np.float32) for part in rgb_space(side=512)))
    return open_texture_space(path)


def _unwrapped(calibrated, clip: RenderedClip, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Albedo and validity of a head painted with a texture, rendered in three poses, and unwrapped."""
    solved = replace(
        calibrated[3].clip, model=clip.model, shape=torch.from_numpy(clip.truth.shape).double(), intrinsics=clip.camera
    )
    painted, numbers = replace(clip, texture=texture), (0, 40, 66)
    states = tuple(clip.state(number) for number in numbers)
    frames = tuple(
        FrameInput(painted.picture(number, state), None, None) for number, state in zip(numbers, states, strict=True)
    )
    baked = bake_texture(solved, frames, states, 256)
    return baked.albedo, baked.valid


def _fit(space, clip: RenderedClip, appearance: tuple[np.ndarray, np.ndarray], count: int = MODES) -> TextureFit:
    fit = fit_texture(space, clip.model, appearance, count)
    assert fit is not None
    return fit


def test_known_coefficients_come_back_from_pictures(calibrated, clip: RenderedClip, space) -> None:
    texture = _texture(CODE)
    appearance = _unwrapped(calibrated, clip, texture)
    fit = _fit(space, clip, appearance)
    assert fit.texels > 2000
    # 0.06 off on average: the gain is 6 % too large, which the code's prior cannot tell from a smaller code. The first
    # mode is brightness, which the gain stands for: 0.40.
    assert np.abs(fit.code - CODE)[1:].max() < 0.15
    assert np.abs(fit.gain - 1).max() < 0.1
    assert abs(fit.code[0] - CODE[0]) < 0.5
    # Code and gain together are the texture, wherever that is seen: 0.004 in the median measured, 0.05 for the mean.
    seen = cv2.resize(appearance[1], (512, 512)) > 0.99
    whole, none = (np.abs(fit.gain * texture_image(space, code) - texture)[seen] for code in (fit.code, 0 * CODE))
    assert np.median(whole) < 0.01
    assert np.median(none) > 0.03


def test_colour_of_the_light_goes_to_the_gain(clip: RenderedClip, space) -> None:
    whole = np.ones((256, 256), np.float32)
    texture = _texture(CODE, 256)
    plain = _fit(space, clip, (texture, whole))
    tint = np.array([1.4, 1.1, 0.8], np.float32)
    tinted = _fit(space, clip, (texture * tint, whole))
    np.testing.assert_allclose(tinted.gain / plain.gain, tint, rtol=0.03)
    # 0.01 measured.
    np.testing.assert_allclose(tinted.code, plain.code, atol=0.05)


def test_slow_errors_of_the_light_hardly_reach_the_code(clip: RenderedClip, space) -> None:
    texels = Texels.of(clip.model, 256)
    normals = texels.picture(
        texels.interpolate_vertices(vertex_normals(clip.model.template, clip.model.triangles).numpy())
    )
    texture, whole = _texture(CODE, 256), np.ones((256, 256), np.float32)
    plain = _fit(space, clip, (texture, whole))
    shaded = _fit(space, clip, (texture * (1 + 0.15 * normals[..., :1] - 0.1 * normals[..., 1:2]), whole))
    # 0.15 measured, and 0.58 where the fit knows of no such errors.
    assert np.abs(shaded.code - plain.code)[1:].max() < 0.25


def test_a_beard_does_not_change_the_rest(clip: RenderedClip, space) -> None:
    texels = Texels.of(clip.model, 256)
    height = texels.picture(texels.interpolate_vertices(clip.model.template.numpy()))[..., 1]
    texture, whole = _texture(CODE, 256), np.ones((256, 256), np.float32)
    chin = clip.model.template[clip.model.triangles[clip.model.landmarks68.faces[8]]].mean(0)[1]
    mouth = clip.model.template[clip.model.triangles[clip.model.landmarks68.faces[57]]].mean(0)[1]
    beard = (height < float(mouth)) & (height > float(chin) - 0.01)
    plain = _fit(space, clip, (texture, whole))
    bearded = _fit(space, clip, (np.where(beard[..., None], np.float32(0.1), texture), whole))
    # 0.015 measured; least squares without robust weights are 3.0 off.
    assert np.abs(bearded.code - plain.code).max() < 0.1


def test_texels_that_were_not_seen_do_not_count(clip: RenderedClip, space) -> None:
    texture, valid = _texture(CODE, 256), np.ones((256, 256), np.float32)
    plain = _fit(space, clip, (texture, valid))
    texture, valid = texture.copy(), valid.copy()
    texture[:, :128], valid[:, :128] = 0, 0
    half = _fit(space, clip, (texture, valid))
    assert half.texels < 0.7 * plain.texels
    # 0.03 measured.
    assert np.abs(half.code - plain.code).max() < 0.1
    assert fit_texture(space, clip.model, (texture, 0 * valid), MODES) is None


def test_as_many_modes_as_asked_for(clip: RenderedClip, space) -> None:
    few = CODE * (np.arange(MODES) < 5)
    fit = _fit(space, clip, (_texture(few, 256), np.ones((256, 256), np.float32)), 5)
    assert fit.code.shape == (5,)
    assert np.abs(fit.code - few[:5])[1:].max() < 0.2


def test_a_space_with_a_layout_of_its_own(tmp_path: Path, clip: RenderedClip, space) -> None:
    """The same space, its texture mirrored and its texture vertices with it."""
    mean, basis = (part.astype(np.float32) for part in rgb_space(side=512))
    path = tmp_path / "FLAME_texture.npz"
    mirrored = clip.model.uv.numpy() * [-1, 1] + [1, 0]
    write_flame_space(path, mean[:, ::-1], basis[:, ::-1], vt=mirrored, ft=clip.model.uv_triangles.numpy())
    own = open_texture_space(path)
    assert own.layout is not None
    appearance = _texture(CODE, 256), np.ones((256, 256), np.float32)
    np.testing.assert_allclose(_fit(own, clip, appearance).code, _fit(space, clip, appearance).code, atol=0.05)
    nonsense = replace(own, layout=None)
    assert np.abs(_fit(nonsense, clip, appearance).code - CODE).max() > 0.5
