"""Lines over pictures and the contour tables behind them."""

import numpy as np
import pytest

from tracker import landmark_lines
from tracker.overlay import GREEN, RED, Text, draw_landmarks, draw_lines, draw_points, footer


def test_contours_are_mediapipe_s_own() -> None:
    connections = pytest.importorskip("mediapipe.python.solutions.face_mesh_connections")

    def edges(pairs: frozenset[tuple[int, int]]) -> set[tuple[int, int]]:
        return {(min(pair), max(pair)) for pair in pairs}

    lines = landmark_lines
    assert lines.FACE_OVAL.edges() == edges(connections.FACEMESH_FACE_OVAL)
    assert lines.LEFT_EYE.edges() == edges(connections.FACEMESH_LEFT_EYE)
    assert lines.RIGHT_EYE.edges() == edges(connections.FACEMESH_RIGHT_EYE)
    assert lines.LEFT_IRIS.edges() == edges(connections.FACEMESH_LEFT_IRIS)
    assert lines.RIGHT_IRIS.edges() == edges(connections.FACEMESH_RIGHT_IRIS)
    assert lines.OUTER_LIPS.edges() | lines.INNER_LIPS.edges() == edges(connections.FACEMESH_LIPS)
    brows = edges(connections.FACEMESH_LEFT_EYEBROW) | edges(connections.FACEMESH_RIGHT_EYEBROW)
    assert set().union(*(line.edges() for line in lines.BROWS)) == brows
    assert set().union(*(line.edges() for line in lines.NOSE)) <= edges(connections.FACEMESH_NOSE)


def test_lines_are_drawn_at_continuous_pixels_and_skip_unknown_points() -> None:
    points = np.full((478, 2), np.nan)
    points[168], points[6] = (10.5, 4.5), (10.5, 20.5)
    image = np.zeros((30, 30, 3), np.uint8)
    draw_lines(image, points, landmark_lines.NOSE, GREEN)
    # The centre of pixel 10 lies at 10.5: the line fills that column and bleeds evenly to both sides.
    assert (image[6:19, 10, 1] > 150).all()
    np.testing.assert_allclose(image[6:19, 9], image[6:19, 11], atol=8)
    assert image[:, 13:].max() == 0
    draw_points(image, np.array([[20.5, 20.5], [np.nan, 3]]), RED, 1.5)
    assert image[20, 20, 0] > 200


def test_detected_green_and_fitted_red() -> None:
    grid = np.stack(np.meshgrid(np.linspace(20, 80, 24), np.linspace(20, 80, 20)), -1).reshape(-1, 2)[:478]
    image = np.full((100, 100, 3), 90, np.uint8)
    out = draw_landmarks(image, grid, None)
    assert out.shape == image.shape
    assert (image == 90).all()
    changed = np.abs(out.astype(int) - out[0, 0]).max(2) > 30
    assert (out[changed][:, 1] > out[changed][:, 0]).all()
    red = draw_landmarks(image, None, grid)
    changed = np.abs(red.astype(int) - red[0, 0]).max(2) > 30
    assert (red[changed][:, 0] > red[changed][:, 1]).all()
    both = draw_landmarks(image, grid, grid)
    assert (both[..., 0] > both[..., 1] + 60).any()
    assert (both[..., 1] > both[..., 0] + 60).any()


@pytest.mark.parametrize("width", [1, 2, 40, 75, 76, 200])
def test_footer_cuts_off_what_does_not_fit(width: int) -> None:
    pieces = [Text("landmarks 0.52 px", GREEN), Text("overlay 33.1 dB", GREEN)]
    whole, strip = footer(600, 24, [], pieces), footer(width, 24, [], pieces)
    assert np.array_equal(strip, whole[:, 600 - width :])
    whole, strip = footer(600, 24, pieces, []), footer(width, 24, pieces, [])
    assert np.array_equal(strip, whole[:, :width])


def test_footer_sets_text_left_and_right() -> None:
    strip = footer(400, 24, [Text("frame 12", (255, 255, 255))], [Text("ok", GREEN)])
    assert strip.shape == (24, 400, 3)
    bright = np.flatnonzero(strip.max(2).max(0) > 120)
    assert bright.min() < 20
    assert bright.max() > 380
    assert not ((bright > 150) & (bright < 300)).any()
