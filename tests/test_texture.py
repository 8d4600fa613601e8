"""The unwrapped appearance texture: rendered heads with a known texture go back into it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rendered_clip import RenderedClip, rendered_clip

from tracker.clip import FrameInput
from tracker.texture import AppearanceTexture, bake_texture

FRAMES = (0, 40, 66)
SIZE = 256


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return rendered_clip()


@pytest.fixture(scope="module")
def solved(calibrated, clip: RenderedClip):
    """The clip with its true geometry: what is tested is the unwrapping alone."""
    _, _, _, calibration = calibrated
    return replace(
        calibration.clip, model=clip.model, shape=torch.from_numpy(clip.truth.shape).double(), intrinsics=clip.camera
    )


@pytest.fixture(scope="module")
def texture(solved, clip: RenderedClip) -> AppearanceTexture:
    frames = tuple(clip.frame(frame) for frame in FRAMES)
    return bake_texture(solved, frames, tuple(clip.state(frame) for frame in FRAMES), SIZE)


def _painted(clip: RenderedClip) -> np.ndarray:
    """The painted texture at the baked one's size."""
    factor = clip.texture.shape[0] // SIZE
    return clip.texture.reshape(SIZE, factor, SIZE, factor, 3).mean((1, 3))


def test_the_painted_texture_comes_back(texture: AppearanceTexture, clip: RenderedClip) -> None:
    assert texture.albedo.shape == (SIZE, SIZE, 3)
    sure = texture.valid > 0.99
    assert sure.mean() > 0.1
    painted = _painted(clip)
    difference = np.abs(texture.albedo - painted)[sure]
    # Blur of the picture's pixels (1 mm on the head) and noise: 0.0033 in the median and 0.013 at 95 % measured.
    assert np.median(difference) < 0.007
    assert np.percentile(difference, 95) < 0.03
    # 0.91 measured: single texels beside eyes and mouth are off. A constant colour would be 0.03 off in the median.
    assert np.corrcoef(texture.albedo[sure].mean(1), painted[sure].mean(1))[0, 1] > 0.85


def test_light_is_divided_out(solved, clip: RenderedClip, texture: AppearanceTexture) -> None:
    """The same head under half the light and a light from below gives the same texture."""
    frames, states = [], []
    for frame in FRAMES:
        light = 0.6 * clip.state(frame).light
        light[2] += 0.3
        state = replace(clip.state(frame), light=light)
        frames.append(FrameInput(clip.picture(frame, state), None, None))
        states.append(state)
    other = bake_texture(solved, tuple(frames), tuple(states), SIZE)
    both = (texture.valid > 0.99) & (other.valid > 0.99)
    # 0.0023 measured, sensor noise.
    assert np.median(np.abs(texture.albedo - other.albedo)[both]) < 0.005


def test_what_no_view_saw_is_invalid_and_takes_the_nearest_colour(texture: AppearanceTexture) -> None:
    assert texture.valid.min() == 0
    assert texture.valid.max() == 1
    hidden = texture.valid == 0
    assert hidden.mean() > 0.2
    assert np.isfinite(texture.albedo).all()
    # Skin everywhere, no black holes and nothing of the grey wall.
    assert texture.albedo[hidden].mean() > 0.2


def test_a_turned_view_sees_its_own_side(solved, clip: RenderedClip) -> None:
    yaw = [float(torch.atan2(-clip.state(frame).R[0, 2], -clip.state(frame).R[2, 2])) for frame in range(100)]
    valid = []
    for frame in (int(np.argmax(yaw)), int(np.argmin(yaw))):
        valid.append(bake_texture(solved, (clip.frame(frame),), (clip.state(frame),), SIZE).valid)
    uv, template = clip.model.uv[clip.model.uv_triangles].mean(1), clip.model.template[clip.model.triangles].mean(1)
    rows, columns = ((1 - uv[:, 1]) * SIZE).long().clamp(max=SIZE - 1), (uv[:, 0] * SIZE).long().clamp(max=SIZE - 1)
    left, right = (template[:, 0] > 0.04).numpy(), (template[:, 0] < -0.04).numpy()
    sides = [(v[rows[left], columns[left]].mean(), v[rows[right], columns[right]].mean()) for v in valid]
    # The face turned to the picture's left shows its left side.
    assert sides[0][0] > 1.5 * sides[0][1]
    assert sides[1][1] > 1.5 * sides[1][0]
