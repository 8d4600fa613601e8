"""What a review frame paints against the renderer and against light worked out by hand, on a square and a sphere."""

import math

import numpy as np
import pytest
from test_render import FRONTAL, ambient, sphere, square, view

from tracker.camera import Intrinsics
from tracker.render import Selection, Surface, View, draw, render, rgba_texture
from tracker.review_frame import ReviewFrame, ReviewHead, ReviewInput, compose
from tracker.review_kernels import COLOURED, MEASURED

WHITE = np.ones((4, 4, 4), np.float32)


def head(
    surface: Surface,
    texture: np.ndarray = WHITE,
    kind: np.ndarray | int = COLOURED + MEASURED,
    fade: np.ndarray | float = 1.0,
    tone: float = 1.0,
) -> ReviewHead:
    """A head that is all face, unless told otherwise."""
    count = int(surface.triangles.max()) + 1
    return ReviewHead(
        surface,
        np.broadcast_to(np.uint8(kind), len(surface.triangles)).copy(),
        np.broadcast_to(np.float32(fade), count).copy(),
        np.full(count, tone, np.float32),
        texture,
    )


def painted(
    look: ReviewHead, vertices: np.ndarray, camera: View, sh: np.ndarray, picture: np.ndarray | int
) -> ReviewFrame:
    """The review frame of a picture, or of a wall of one grey, without landmarks."""
    if isinstance(picture, int):
        picture = np.full((*camera.size, 3), picture, np.uint8)
    nowhere = np.full((478, 2), np.nan)
    shown = ReviewInput(0, picture, vertices, camera, sh, "ok", math.nan, math.nan, nowhere, None, None)
    return compose(look, shown)


def overlay(frame: ReviewFrame) -> np.ndarray:
    """Second panel, (H, H, 3) int."""
    side = frame.picture.shape[1] // 4
    return frame.picture[:side, side : 2 * side].astype(int)


def clay(frame: ReviewFrame) -> np.ndarray:
    """Fourth panel, (H, H, 3) int."""
    side = frame.picture.shape[1] // 4
    return frame.picture[:side, 3 * side :].astype(int)


def test_overlay_is_what_the_renderer_paints() -> None:
    vertices, surface = sphere()
    rng = np.random.default_rng(3)
    texture = rgba_texture(rng.random((8, 16, 3)))
    light = ambient(0.5) + 0.1 * rng.standard_normal((9, 3))
    camera, wall = view((96, 96), 1.0, 400.0), rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
    fading = np.clip(8 * vertices[:, 1] + 0.5, 0, 1).astype(np.float32)
    shown = overlay(painted(head(surface, texture, fade=fading), vertices, camera, light, wall))
    layer = render(draw(surface, vertices, camera), texture, light, Selection(opacity=fading))
    difference = np.abs(shown - 255 * layer.over(wall.astype(np.float32) / 255))
    # Shaded once a pixel, texels about 8 px wide: measured 0.27 levels in the mean, half of one is rounding.
    assert difference.mean() < 0.35
    assert difference.max() < 8
    assert np.abs(shown - wall).mean() > 20


def test_light_at_the_vertices_is_light_at_the_pixels() -> None:
    vertices, surface = sphere()
    light = 0.15 * np.random.default_rng(1).standard_normal((9, 3)) + ambient(0.5)
    camera = view((96, 96), 1.0, 400.0)
    shown = overlay(painted(head(surface), vertices, camera, light, 0))
    expected = 255 * render(draw(surface, vertices, camera), WHITE, light).over(np.zeros((96, 96, 3), np.float32))
    x, y = np.meshgrid(*[(np.arange(96) + 0.5 - 48) / 40] * 2)
    inside = x**2 + y**2 < 0.9
    difference = np.abs(shown - expected)[inside]
    # Half a level is rounding; 2.3 where the sphere turns away.
    assert difference.max() < 3
    assert difference.mean() < 0.4


def test_edges_are_smooth() -> None:
    vertices, surface = square(0.1)
    narrow = vertices * np.array([0.5025, 0.5, 1], np.float32)
    shown = overlay(painted(head(surface), narrow, view(), ambient(), 0))[..., 0] / 255
    # 20.1 px wide, 20 px high; samples resolve half a pixel.
    assert shown.sum() == pytest.approx(20.1 * 20, abs=20)
    assert set(np.unique(shown.round(2))) <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_near_surface_keeps_its_edge_before_a_far_one() -> None:
    """A pixel that shows two surfaces is not shaded as one."""
    vertices, surface = square(0.1)
    near = vertices * np.array([0.5, 0.525, 1], np.float32) + np.array([0, 0, 0.01], np.float32)
    two = Surface(
        np.concatenate([surface.triangles, surface.triangles + 4]), surface.uv, np.tile(surface.triangles, (2, 1))
    )
    kind = np.repeat([COLOURED, 0], 2)
    shown = overlay(painted(head(two, kind=kind), np.concatenate([vertices, near]), view(), ambient(), 0))[..., 0]
    # The near square is not painted, so the black wall is seen where it is: half of the pixels above row 21.4.
    assert shown[30, 32] == 0
    assert shown[15, 32] == 255
    assert 100 < shown[21, 32] < 155


def test_only_coloured_triangles_show_colours_and_all_show_as_clay() -> None:
    vertices, surface = square()
    frame = painted(head(surface, kind=np.array([COLOURED, 0])), vertices, view(), ambient(), 0)
    colours, sculpture = overlay(frame), clay(frame)
    # The first triangle lies below the diagonal, to the right.
    assert colours[44, 40].min() == 255
    assert colours[20, 20].max() == 0
    assert sculpture[44, 40].min() > 40
    assert sculpture[20, 20].min() > 40


def test_opacity_fades_and_tone_darkens() -> None:
    vertices, surface = square()
    fading = np.array([0, 0, 1, 1], np.float32)
    frame = painted(head(surface, fade=fading), vertices, view(), ambient(), 0)
    full = painted(head(surface), vertices, view(), ambient(), 0)
    for panel in (overlay, clay):
        # Opaque at the top (head y up), gone at the bottom, halfway in the middle.
        share = panel(frame)[:, 32] / panel(full)[32, 32]
        assert share[14].min() > 0.9
        assert share[49].max() < 0.1
        assert share[31:33].mean() == pytest.approx(0.5, abs=0.02)
    dark = painted(head(surface, tone=0.5), vertices, view(), ambient(), 0)
    assert clay(dark)[32, 32].sum() < 0.75 * clay(full)[32, 32].sum()
    assert (overlay(dark) == overlay(full)).all()


def test_unknown_texels_show_the_picture() -> None:
    vertices, surface = square()
    valid = np.ones((8, 8), np.float32)
    valid[:, :4] = 0
    shown = overlay(painted(head(surface, rgba_texture(np.ones((8, 8, 3)), valid)), vertices, view(), ambient(), 90))
    assert (shown[20:44, 14:28] == 90).all()
    assert (shown[20:44, 36:50] == 255).all()


def test_clay_is_brightest_towards_the_key_light() -> None:
    vertices, surface = sphere()
    grey = clay(painted(head(surface), vertices, view((96, 96), 1.0, 400.0), ambient(), 0)).mean(2)
    assert grey[30, 32] > grey[66, 64] + 45
    assert grey[48, 48] > 25


def test_psnr_by_hand() -> None:
    vertices, surface = square()
    # The square's colours are half of white, the wall 0.6 or the same.
    fine = painted(head(surface), vertices, view(), ambient(0.6), 153)
    assert fine.psnr_db > 100
    off = painted(head(surface), vertices, view(), ambient(0.5), 153)
    assert off.psnr_db == pytest.approx(20.0, abs=1e-3)
    # What is not measured, and what is not wholly known, does not count.
    halves = head(surface, kind=np.array([COLOURED, COLOURED + MEASURED]))
    wall = np.full((64, 64, 3), 153, np.uint8)
    wall[40:, 34:] = 0
    assert painted(halves, vertices, view(), ambient(0.5), wall).psnr_db == pytest.approx(20.0, abs=1e-3)
    assert painted(head(surface), vertices, view(), ambient(0.5), wall).psnr_db < 15
    for nothing in (head(surface, kind=COLOURED), head(surface, fade=0.5)):
        assert math.isnan(painted(nothing, vertices, view(), ambient(), 153).psnr_db)


def test_a_head_outside_of_the_picture_leaves_it_alone() -> None:
    vertices, surface = sphere()
    camera = View(FRONTAL, np.array([1.0, 0, 1.0]), Intrinsics(200.0, 32.0, 32.0), (64, 64))
    frame = painted(head(surface), vertices, camera, ambient(), 77)
    assert (overlay(frame) == 77).all()
    assert (clay(frame) == 77).all()
    assert math.isnan(frame.psnr_db)
