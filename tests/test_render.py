"""The renderer against shading worked out by hand, on a flat square and a sphere."""

import numpy as np
import pytest
import torch
from coverage_share import coverage

from tracker.camera import Intrinsics
from tracker.render import Drawing, Selection, Surface, View, draw, render, rgba_texture
from tracker.shading import shade

FRONTAL = np.diag([1.0, -1.0, -1.0])


def square(half_m: float = 0.1) -> tuple[np.ndarray, Surface]:
    """A square facing +z (out of the face), u along x, v along y."""
    vertices = half_m * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    return vertices, Surface(triangles, np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), triangles)


def sphere(radius_m: float = 0.1, rings: int = 60, sectors: int = 120) -> tuple[np.ndarray, Surface]:
    """A sphere with outward triangles."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, sectors), indexing="ij")
    vertices = radius_m * np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1)
    first = (np.arange(rings - 1)[:, None] * sectors + np.arange(sectors - 1)).ravel()
    triangles = np.stack(
        [first, first + sectors, first + sectors + 1, first, first + sectors + 1, first + 1], 1
    ).reshape(-1, 3)
    uv = np.stack([phi / (2 * np.pi), 1 - theta / np.pi], -1).reshape(-1, 2).astype(np.float32)
    return vertices.reshape(-1, 3).astype(np.float32), Surface(triangles, uv, triangles)


def view(size: tuple[int, int] = (64, 64), distance_m: float = 1.0, focal_px: float = 200.0) -> View:
    """A camera straight ahead of the face."""
    return View(FRONTAL, np.array([0, 0, distance_m]), Intrinsics(focal_px, size[1] / 2, size[0] / 2), size)


def ambient(level: float = 1.0) -> np.ndarray:
    """Light that shades every normal by `level`."""
    sh = np.zeros((9, 3))
    sh[0] = level / 0.282094806432724
    return sh


def test_texture_row_zero_is_v_one_and_u_runs_with_x() -> None:
    vertices, surface = square()
    texture = np.zeros((8, 8, 3), np.float32)
    texture[:4, :, 0] = 1.0
    texture[:, :4, 1] = 1.0
    layer = render(draw(surface, vertices, view()), rgba_texture(texture), ambient())
    # Head x is the subject's left; a camera facing the subject sees it to the right, and head y up.
    inside = slice(16, 48)
    patch = layer.rgb[inside, inside]
    assert patch[2:12, :, 0].min() > 0.99
    assert patch[20:30, :, 0].max() < 0.01
    assert patch[:, 2:12, 1].min() > 0.99
    assert patch[:, 20:30, 1].max() < 0.01


def test_texels_lie_where_their_centres_project() -> None:
    vertices, surface = square(0.16)
    texture = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    # 0.32 m at 1 m and 200 px cover exactly the 64 pixels, one texel each; no supersampling, so no interpolation.
    layer = render(draw(surface, vertices, view(), supersample=1), rgba_texture(texture), ambient())
    np.testing.assert_allclose(layer.rgb, texture, atol=2e-4)


def test_edges_are_covered_by_their_area() -> None:
    vertices, surface = square(0.1)
    narrow = vertices * np.array([0.5025, 0.5, 1], np.float32)
    layer = render(draw(surface, narrow, view(), supersample=4), np.ones((4, 4, 4), np.float32), ambient())
    # 2 * 0.05025 * 200 = 20.1 px wide, 20 px high; samples resolve a quarter of a pixel at either side.
    assert layer.alpha.sum() == pytest.approx(20.1 * 20, abs=20 * 0.5)
    assert ((layer.alpha > 0) & (layer.alpha < 1)).sum() <= 2 * 22
    assert layer.rgb[layer.alpha > 0].min() > 0.99


def test_sphere_is_shaded_as_the_shading_module_says() -> None:
    vertices, surface = sphere()
    sh = 0.15 * np.random.default_rng(1).standard_normal((9, 3)) + ambient(0.5)
    albedo = np.full((16, 16, 3), 0.8, np.float32)
    camera = view((96, 96), 100.0, 40000.0)
    layer = render(draw(surface, vertices, camera, supersample=1), rgba_texture(albedo), sh)
    # Seen from afar, the normal at a pixel is its offset from the centre over the radius (40 px).
    offset = (np.arange(96) + 0.5 - 48) / 40
    x, y = np.meshgrid(offset, -offset)
    inside = x**2 + y**2 < 0.9
    normals = torch.from_numpy(np.stack([x, y, np.sqrt(np.maximum(1 - x**2 - y**2, 0))], -1)[inside])
    expected = shade(torch.full((len(normals), 3), 0.8, dtype=torch.float64), torch.from_numpy(sh), normals).clamp(0, 1)
    # The mesh's facets turn the normal by up to 0.01; measured 0.004.
    np.testing.assert_allclose(layer.rgb[inside], expected.numpy(), atol=0.012)
    assert layer.alpha[inside].min() > 0.9999


def test_invalid_texels_and_hidden_triangles_are_transparent() -> None:
    vertices, surface = square()
    valid = np.ones((8, 8), np.float32)
    valid[:, :4] = 0
    drawing = draw(surface, vertices, view())
    layer = render(drawing, rgba_texture(np.ones((8, 8, 3)), valid), ambient())
    assert layer.alpha[20:44, 14:28].max() == 0
    assert layer.alpha[20:44, 36:50].min() > 0.9999
    halves = [
        render(drawing, np.ones((4, 4, 4), np.float32), ambient(), Selection(np.arange(2) == i)).alpha for i in (0, 1)
    ]
    np.testing.assert_allclose(sum(halves), coverage(drawing), atol=1e-6)
    assert halves[0].sum() == pytest.approx(halves[1].sum(), rel=0.1)


def test_opacity_fades() -> None:
    vertices, surface = square()
    fading = Selection(opacity=np.array([0, 0, 1, 1], np.float32))
    layer = render(draw(surface, vertices, view()), np.ones((4, 4, 4), np.float32), ambient(), fading)
    # Opaque at the top (head y up), gone at the bottom, halfway in the middle; the colour does not change.
    assert layer.alpha[14, 32] > 0.9
    assert layer.alpha[49, 32] < 0.1
    assert layer.alpha[31:33, 32].mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(layer.rgb[14, 32], layer.rgb[40, 32], atol=0.02)


def test_back_faces_are_not_drawn() -> None:
    vertices, surface = square()
    turned = np.array([-1, 1, -1], np.float32) * vertices
    assert not draw(surface, turned, view()).fragments.covered.any()
    assert draw(surface, vertices, view()).fragments.covered.any()


def test_layer_over_picture() -> None:
    vertices, surface = square()
    layer = render(draw(surface, vertices, view()), np.ones((4, 4, 4), np.float32), ambient(0.5))
    out = layer.over(np.full((64, 64, 3), 0.1, np.float32), 0.5)
    np.testing.assert_allclose(out[32, 32], 0.3, atol=1e-3)
    np.testing.assert_allclose(out[1, 1], 0.1, atol=1e-6)


def white(drawing: Drawing) -> np.ndarray:
    """A white head, (H, W, 4)."""
    return render(drawing, np.ones((4, 4, 4), np.float32), ambient()).rgba


def test_window_holds_all_that_is_drawn() -> None:
    vertices, surface = sphere()
    for shift in (np.zeros(3), np.array([0.13, -0.1, 0]), np.array([1.0, 0, 0])):
        camera = View(FRONTAL, np.array([0, 0, 1.0]) + shift, Intrinsics(200.0, 30.0, 34.0), (64, 72))
        whole = white(draw(surface, vertices, camera))
        window = camera.window(vertices)
        part = whole[window]
        assert np.count_nonzero(whole) == np.count_nonzero(part)
        if part.size:
            alone = white(draw(surface, vertices, camera.within(window)))
            np.testing.assert_allclose(alone, part, atol=1e-5)
    assert part.size == 0  # the last sphere lies beside the picture


def test_window_is_the_picture_when_a_vertex_is_behind_the_camera() -> None:
    vertices, _ = sphere()
    near = View(FRONTAL, np.array([0, 0, 0.05]), Intrinsics(200.0, 32.0, 32.0), (64, 64))
    assert near.window(vertices) == (slice(0, 64), slice(0, 64))
