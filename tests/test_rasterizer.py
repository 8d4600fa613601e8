"""The fast rasteriser against the slow one, and both against geometry worked out by hand."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest
import torch

from tracker.camera import Intrinsics
from tracker.errors import InputError
from tracker.rasterizer import BACKGROUND, _pytorch3d_on_cuda, rasterize, visible_points
from tracker.rasterizer.reference import rasterize_reference

SIZE = (40, 56)
CAMERA = Intrinsics(60.0, 27.3, 20.9)


def random_soup(seed: int, count: int, spread: float = 0.6, extent: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Random triangles in front of the camera."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([-spread, -spread, 1.0], [spread, spread, 2.0], (count, 1, 3))
    corners = centres + rng.uniform(-extent, extent, (count, 3, 3))
    return corners.reshape(-1, 3).astype(np.float32), np.arange(3 * count).reshape(-1, 3)


def grid(count: int, depth_m: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A square patch of 2 (count - 1)^2 triangles facing the camera, larger than the picture."""
    axis = np.linspace(-0.7, 0.7, count)
    x, y = np.meshgrid(axis, axis)
    vertices = np.stack([x.ravel(), y.ravel(), np.full(count * count, depth_m)], 1).astype(np.float32)
    first = (np.arange(count - 1)[:, None] * count + np.arange(count - 1)).ravel()
    quads = np.stack([first, first + count, first + count + 1, first, first + count + 1, first + 1], 1)
    return vertices, quads.reshape(-1, 3)


def assert_equal(fast, slow) -> None:
    """Same triangles; coordinates and depths to float32 rounding."""
    np.testing.assert_array_equal(fast.triangle_index, slow.triangle_index)
    np.testing.assert_allclose(fast.depth_m, slow.depth_m, rtol=2e-7)
    np.testing.assert_allclose(fast.bary, slow.bary, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cull_back", [False, True])
def test_fast_equals_slow_on_soup(seed: int, cull_back: bool) -> None:
    vertices, triangles = random_soup(seed, 40)
    fast, slow = (rasterize(vertices, triangles, CAMERA, SIZE, b, cull_back=cull_back) for b in ("numba", "reference"))
    assert fast.covered.sum() > 100
    assert_equal(fast, slow)


@pytest.mark.parametrize("cull_back", [False, True])
def test_weights_may_be_left_out(cull_back: bool) -> None:
    vertices, triangles = random_soup(3, 40)
    full = rasterize(vertices, triangles, CAMERA, SIZE, "numba", cull_back=cull_back)
    bare = rasterize(vertices, triangles, CAMERA, SIZE, "numba", cull_back=cull_back, weights=False)
    np.testing.assert_array_equal(bare.triangle_index, full.triangle_index)
    np.testing.assert_array_equal(bare.depth_m, full.depth_m)
    assert bare.bary.size == 0


def test_fast_equals_slow_on_tiny_triangles() -> None:
    vertices, triangles = random_soup(7, 3000, extent=0.012)
    fast, slow = (rasterize(vertices, triangles, CAMERA, SIZE, b) for b in ("numba", "reference"))
    assert 50 < fast.covered.sum() < fast.covered.size
    assert_equal(fast, slow)


@pytest.mark.parametrize("seed", range(4))
def test_triangles_across_the_camera_plane(seed: int) -> None:
    vertices, triangles = random_soup(seed, 30, extent=1.5)
    assert (vertices[:, 2] < 0).any()
    fast, slow = (rasterize(vertices, triangles, CAMERA, SIZE, b) for b in ("numba", "reference"))
    assert_equal(fast, slow)
    assert np.isfinite(fast.depth_m).all()
    assert (fast.depth_m >= 0).all()


def test_nothing_behind_the_camera_is_drawn() -> None:
    vertices, triangles = random_soup(3, 40)
    behind = rasterize(vertices * np.array([1, 1, -1], np.float32), triangles, CAMERA, SIZE)
    assert not behind.covered.any()
    assert (behind.triangle_index == BACKGROUND).all()
    assert (behind.depth_m == 0).all()


@pytest.mark.parametrize("count", [2, 8, 41])
def test_shared_edges_leave_no_gap_and_no_overlap(count: int) -> None:
    # The principal point puts pixel centres exactly on the patch's edges and corners.
    camera = Intrinsics(40.0, 28.5, 20.5)
    vertices, triangles = grid(count)
    fragments = rasterize(vertices, triangles, camera, (40, 56))
    columns = np.abs((np.arange(56) + 0.5 - camera.cx_px) / camera.focal_px) <= np.float32(0.7)
    rows = np.abs((np.arange(40) + 0.5 - camera.cy_px) / camera.focal_px) <= np.float32(0.7)
    np.testing.assert_array_equal(fragments.covered, rows[:, None] & columns[None])
    assert_equal(fragments, rasterize(vertices, triangles, camera, (40, 56), "reference"))


def test_bary_is_perspective_correct_and_gives_back_the_ray() -> None:
    vertices, triangles = random_soup(11, 25)
    fragments = rasterize(vertices, triangles, CAMERA, SIZE)
    points = fragments.interpolate(vertices, triangles)
    rows, columns = np.nonzero(fragments.covered)
    u = CAMERA.focal_px * points[:, 0] / points[:, 2] + CAMERA.cx_px
    v = CAMERA.focal_px * points[:, 1] / points[:, 2] + CAMERA.cy_px
    np.testing.assert_allclose(u, columns + 0.5, atol=2e-4)
    np.testing.assert_allclose(v, rows + 0.5, atol=2e-4)
    np.testing.assert_allclose(points[:, 2], fragments.depth_m[fragments.covered], rtol=1e-6)


def test_pixel_centres_and_nearest_surface() -> None:
    # A far patch over everything; before it a triangle over the centres of pixels (1, 1), (1, 2) and (2, 1) alone.
    far, far_triangles = grid(2, 0.5)
    near = np.array([[1.4, 1.4, 1], [3.1, 1.4, 1], [1.4, 3.1, 1]], np.float32)
    camera = Intrinsics(1.0, 0.0, 0.0)
    vertices = np.concatenate([near * 0.25, far * np.array([40, 40, 1], np.float32)])
    fragments = rasterize(vertices, np.concatenate([[[0, 1, 2]], far_triangles + 3]), camera, (4, 4))
    expected = np.zeros((4, 4), bool)
    expected[1, 1] = expected[1, 2] = expected[2, 1] = True
    np.testing.assert_array_equal(fragments.triangle_index == 0, expected)
    np.testing.assert_allclose(fragments.depth_m, np.where(expected, 0.25, 0.5))


def test_culling_keeps_what_faces_the_camera() -> None:
    corners = np.array([[-1, -1, 2], [1, -1, 2], [0, 1, 2]], np.float32)
    # Seen by the camera (x right, y down) the front is counter-clockwise about a normal of -z.
    front, back = np.array([[0, 2, 1]]), np.array([[0, 1, 2]])
    assert np.cross(corners[2] - corners[0], corners[1] - corners[0])[2] < 0
    assert rasterize(corners, front, CAMERA, SIZE, cull_back=True).covered.any()
    assert not rasterize(corners, back, CAMERA, SIZE, cull_back=True).covered.any()


def test_visible_points_on_two_layers() -> None:
    near, triangles = grid(5, 1.0)
    far = near * np.array([1, 1, 1.5], np.float32)
    half = triangles[near[triangles][:, :, 0].max(1) <= 0.01]
    camera = Intrinsics(40.0, 28.0, 20.0)
    fragments = rasterize(np.concatenate([near, far]), np.concatenate([half, triangles + len(near)]), camera, SIZE)
    points = np.array(
        [
            [-0.2, 0.1, 1.0],
            [-0.2, 0.1, 1.002],
            [-0.2, 0.1, 1.1],
            [-0.3, 0.1, 1.5],
            [0.3, 0.1, 1.5],
            [5, 0, 1],
            [0.1, 0.1, -1],
        ]
    )
    towards = np.tile([0.0, 0.0, -1.0], (len(points), 1))
    np.testing.assert_array_equal(
        visible_points(fragments, points, towards, camera), [True, True, False, False, True, False, False]
    )
    assert not visible_points(fragments, points, -towards, camera).any()


def assert_close(found, slow) -> None:
    """As documented in `tracker.rasterizer.pytorch3d_backend`."""
    assert [getattr(found, name).dtype for name in vars(found)] == [getattr(slow, name).dtype for name in vars(slow)]
    # Float32 edges may fall to either side of a pixel centre.
    same = found.triangle_index == slow.triangle_index
    assert same.mean() > 0.99
    assert slow.covered.sum() > 100
    np.testing.assert_allclose(found.depth_m[same], slow.depth_m[same], rtol=1e-4)
    np.testing.assert_allclose(found.bary[same], slow.bary[same], atol=1e-3)


@pytest.mark.parametrize("cull_back", [False, True])
@pytest.mark.parametrize("size", [(40, 56), (56, 40), (48, 48)])
def test_pytorch3d_equals_slow(cull_back: bool, size: tuple[int, int]) -> None:
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed (conda, environment.yml)")
    vertices, triangles = random_soup(5, 30)
    found = rasterize(vertices, triangles, CAMERA, size, "pytorch3d", cull_back=cull_back)
    assert_close(found, rasterize(vertices, triangles, CAMERA, size, "reference", cull_back=cull_back))


def test_pytorch3d_equals_slow_across_the_camera_plane() -> None:
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed (conda, environment.yml)")
    vertices, triangles = random_soup(2, 30, extent=1.5)
    assert (vertices[:, 2] < 0).any()
    found = rasterize(vertices, triangles, CAMERA, SIZE, "pytorch3d")
    assert_close(found, rasterize(vertices, triangles, CAMERA, SIZE, "reference"))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """pytorch3d's interface over the reference rasteriser, by its documented coordinates; records its calls."""
    calls: list[dict] = []

    class Meshes:
        def __init__(self, verts: list[torch.Tensor], faces: list[torch.Tensor]) -> None:
            assert verts[0].dtype == torch.float32
            assert faces[0].dtype == torch.int64
            self.points, self.faces = verts[0].double().numpy(), faces[0].numpy()

    def rasterize_meshes(meshes: Meshes, **settings) -> tuple[torch.Tensor, ...]:
        calls.append(settings)
        (height, width), half = settings["image_size"], min(settings["image_size"]) / 2
        # x to the left, y up, in half shorter sides from the middle, where pixel i covers [i, i + 1).
        x, y, z = meshes.points.T
        u, v = width / 2 - half * x, height / 2 - half * y
        points = np.stack([u * z, v * z, z], 1)
        camera = Intrinsics(1.0, 0.0, 0.0)
        seen = rasterize_reference(points, meshes.faces, camera, (height, width), settings["z_clip_value"], False)
        index, bary = torch.from_numpy(seen.triangle_index).long(), torch.from_numpy(seen.bary)
        bary[index < 0] = -1
        depth = torch.from_numpy(np.where(seen.covered, seen.depth_m, np.float32(-1)))
        return index[None, ..., None], depth[None, ..., None], bary[None, :, :, None], -depth[None, ..., None]

    names = ("pytorch3d", "pytorch3d.structures", "pytorch3d.renderer", "pytorch3d.renderer.mesh")
    for name in (*names, "pytorch3d.renderer.mesh.rasterize_meshes"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["pytorch3d.structures"].Meshes = Meshes
    sys.modules["pytorch3d.renderer.mesh"].rasterize_meshes = rasterize_meshes
    sys.modules["pytorch3d.renderer.mesh.rasterize_meshes"].rasterize_meshes = rasterize_meshes
    return calls


@pytest.mark.parametrize("cull_back", [False, True])
@pytest.mark.parametrize("size", [(40, 56), (56, 40), (48, 48)])
def test_what_pytorch3d_is_given_and_what_becomes_of_it(
    stand_in: list[dict], cull_back: bool, size: tuple[int, int]
) -> None:
    vertices, triangles = random_soup(5, 30)
    found = rasterize(vertices, triangles, CAMERA, size, "pytorch3d", cull_back=cull_back)
    assert_close(found, rasterize(vertices, triangles, CAMERA, size, "reference", cull_back=cull_back))
    assert [(call["faces_per_pixel"], call["perspective_correct"]) for call in stand_in] == [(1, True)]


def test_pytorch3d_is_not_given_what_cannot_be_seen(stand_in: list[dict]) -> None:
    vertices, triangles = random_soup(5, 30)
    behind = vertices * np.array([1, 1, -1], np.float32)
    assert not rasterize(behind, triangles, CAMERA, SIZE, "pytorch3d").covered.any()
    assert stand_in == []
    broken = vertices.copy()
    broken[4] = np.nan
    found = rasterize(broken, triangles, CAMERA, SIZE, "pytorch3d")
    assert_close(found, rasterize(broken, triangles, CAMERA, SIZE, "reference"))


def test_a_broken_pytorch3d_is_told_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, triangles = random_soup(0, 3)
    # None makes the import fail, as after a change of torch under it.
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer", None)
    monkeypatch.setitem(sys.modules, "pytorch3d", types.ModuleType("pytorch3d"))
    sys.modules["pytorch3d"].__spec__ = importlib.machinery.ModuleSpec("pytorch3d", None)
    with pytest.raises(InputError, match=r"rasteriser pytorch3d: .*environment\.yml"):
        rasterize(vertices, triangles, CAMERA, SIZE, "pytorch3d")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _pytorch3d_on_cuda.cache_clear()
    assert not _pytorch3d_on_cuda()
    assert rasterize(vertices, triangles, CAMERA, SIZE).covered.any()
    _pytorch3d_on_cuda.cache_clear()


def test_bad_arguments_are_refused() -> None:
    vertices, triangles = random_soup(0, 3)
    with pytest.raises(ValueError, match="unknown rasteriser"):
        rasterize(vertices, triangles, CAMERA, SIZE, "opengl")
    with pytest.raises(ValueError, match="must be"):
        rasterize(vertices[:, :2], triangles, CAMERA, SIZE)
    with pytest.raises(ValueError, match="outside"):
        rasterize(vertices, triangles + 5, CAMERA, SIZE)
    assert not rasterize(vertices, triangles[:0], CAMERA, SIZE).covered.any()
