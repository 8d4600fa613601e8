"""What passes before the face: a hand with its forearm, or a printed board. It moves on its own, in camera axes."""

import math

import numpy as np
from scipy import ndimage

from tracker.demo.parts import Part, Shape, joined, limb, outward
from tracker.demo.spec import DemoSpec, OccluderSpec

# So far before the head's centre: clear of the nose, as a hand that wipes or waves.
_BEFORE_HEAD_M = {"hand": 0.135, "board": 0.16}
# From beyond the edge of the picture to the face, along x and y (down), metres.
_FROM_M, _TO_M = {"hand": (0.34, 0.20), "board": (0.44, 0.05)}, {"hand": (-0.36, 0.16), "board": (-0.44, 0.02)}
_AT_FACE_M = {"hand": (0.012, 0.02), "board": (0.02, 0.055)}
# Share of the passage spent coming in; the same is spent leaving.
_COMING = 0.25
_DRIFT_M, _TURN_RADIANS = 0.035, 0.12
_PALM_CENTRE_M, _PALM_HALF_M = (0.0, 0.0, 0.0), (0.041, 0.050, 0.0165)
# Knuckle, middle joint, tip (x to the little finger's side, y up along the hand, z towards the face), and radii.
_FINGERS = (
    ((-0.031, 0.036, 0.0), (-0.040, 0.079, 0.004), (-0.043, 0.106, 0.010), (0.0100, 0.0088, 0.0075)),
    ((-0.011, 0.042, 0.0), (-0.014, 0.090, 0.004), (-0.015, 0.121, 0.011), (0.0104, 0.0090, 0.0078)),
    ((0.010, 0.040, 0.0), (0.013, 0.085, 0.004), (0.015, 0.114, 0.011), (0.0100, 0.0086, 0.0074)),
    ((0.030, 0.032, 0.0), (0.039, 0.066, 0.004), (0.043, 0.088, 0.010), (0.0088, 0.0075, 0.0065)),
    ((-0.030, -0.026, 0.002), (-0.062, 0.004, 0.010), (-0.074, 0.034, 0.014), (0.0140, 0.0115, 0.0088)),
)
_WRIST = ((0.0, -0.016, 0.006), (0.0, -0.050, 0.006), (0.004, -0.10, 0.006), (0.03, -0.40, 0.0))
_WRIST_RADII_M = (0.014, 0.022, 0.025, 0.040)
# Of a texture's height, below all creases.
_PLAIN = 0.4
_LEAN_RADIANS = {"hand": -0.55, "board": 0.06}
_BOARD_HALF_M = (0.075, 0.055, 0.002)
_TEXTURE_SIZE = 512


def make_occluder(spec: OccluderSpec, skin: np.ndarray, seed: int) -> Part:
    """The mesh, around its own middle, in camera axes.

    Args:
        spec: which kind.
        skin: (3,) colour of a hand.
        seed: of its texture.
    """
    rng = np.random.default_rng((seed, 41))
    if spec.kind == "board":
        return _board().part(_print(rng), "alone")
    shape = _hand()
    # The hand is described with y up; the camera's y points down. z points from the camera to the face in both.
    flipped = shape.vertices * [-1, -1, 1]
    return Shape(flipped, shape.triangles, shape.uv).part(_skin(skin, rng), "alone")


def occluder_pose(spec: DemoSpec, seconds: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Where it is: R (3, 3) and t (3,) in camera axes, or None while it is away.

    Args:
        spec: the clip, with an occluder.
        seconds: time since the clip's first frame.
    """
    passing = spec.occluder
    if passing is None:
        return None
    share = (seconds - passing.start_seconds) / passing.seconds
    if not 0 < share < 1:
        return None
    kind = passing.kind
    entering, leaving = _ease(share / _COMING), _ease((share - 1 + _COMING) / _COMING)
    drift = np.array([1 - 2 * share, 0.3 * math.sin(2 * math.pi * share)])
    at = np.array(_AT_FACE_M[kind]) + _DRIFT_M * drift
    place = (1 - entering) * np.array(_FROM_M[kind]) + (entering - leaving) * at + leaving * np.array(_TO_M[kind])
    # A farther camera sees more beside the face: come from beyond its edge all the same.
    beyond = max(0.0, spec.size[1] / 2 / spec.focal_px * spec.distance_m - 0.21)
    place[0] += beyond * ((1 - entering) - leaving)
    angle = _LEAN_RADIANS[kind] + _TURN_RADIANS * math.sin(3 * math.pi * share)
    cosine, sine = math.cos(angle), math.sin(angle)
    R = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    return R, np.array([place[0], place[1], spec.distance_m - _BEFORE_HEAD_M[kind]])


def _ease(x: float) -> float:
    clipped = min(max(x, 0.0), 1.0)
    return clipped * clipped * (3 - 2 * clipped)


def _hand() -> Shape:
    """Palm, fingers and forearm as overlapping round bodies."""
    plain = [
        _ball(np.array(_PALM_CENTRE_M), np.array(_PALM_HALF_M), 2.3),
        limb(np.array(_WRIST), np.array(_WRIST_RADII_M)),
    ]
    pieces = [Shape(shape.vertices, shape.triangles, shape.uv * [1, _PLAIN]) for shape in plain]
    return joined(pieces + [limb(np.array(joints), np.array(radii)) for *joints, radii in _FINGERS])


def _ball(centre: np.ndarray, half: np.ndarray, power: float) -> Shape:
    """A rounded block (superellipsoid)."""
    rows, columns = 18, 36
    up = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]

    def powered(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.abs(x) ** (2 / power)

    ring = powered(np.cos(up)) * np.ones_like(around)
    grid = np.stack([ring * powered(np.cos(around)), powered(np.sin(up)) * np.ones_like(around)], -1)
    deep = (ring * powered(np.sin(around)))[..., None]
    vertices = (np.concatenate([grid, deep], -1) * half + centre).reshape(-1, 3)
    row, column = np.arange(rows - 1)[:, None], np.arange(columns)[None]
    a, b = row * columns + column, row * columns + (column + 1) % columns
    triangles = np.concatenate(
        [np.stack([a, b, b + columns], -1).reshape(-1, 3), np.stack([a, b + columns, a + columns], -1).reshape(-1, 3)]
    )
    uv = np.stack(np.broadcast_arrays(np.linspace(0, 1, columns)[None], np.linspace(0, 1, rows)[:, None]), -1)
    return outward(Shape(vertices, triangles, uv.reshape(-1, 2)))


def _board() -> Shape:
    """A flat block; the side towards the camera (z before) carries the print."""
    x, y, z = _BOARD_HALF_M
    corners = np.array([[-x, -y, -z], [x, -y, -z], [x, y, -z], [-x, y, -z]])
    vertices = np.concatenate([corners, corners * [1, 1, -1]])
    quads = [(0, 1, 2, 3), (7, 6, 5, 4), (4, 5, 1, 0), (3, 2, 6, 7), (0, 3, 7, 4), (5, 6, 2, 1)]
    triangles = np.array([corner for a, b, c, d in quads for corner in ((a, b, c), (a, c, d))])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]] * 2, float)
    # Corners are not shared between the sides, so that each is lit by its own normal.
    flat = triangles.ravel()
    return outward(Shape(vertices[flat], np.arange(len(flat)).reshape(-1, 3), uv[flat]))


def _skin(tone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, T, 3) skin with blotches, creases around the fingers and fine grain."""
    size = _TEXTURE_SIZE
    level = np.ones((size, size))
    for sigma, strength in ((40.0, 0.05), (8.0, 0.03), (1.2, 0.025)):
        layer = ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma, mode="wrap")
        level += strength * layer / layer.std()
    v = np.linspace(1, 0, size)[:, None]
    for crease in (0.46, 0.50, 0.54, 0.80):
        level -= 0.10 * np.exp(-(((v - crease) / 0.006) ** 2))
    return (0.97 * tone * level[..., None]).clip(0, 1)


def _print(rng: np.random.Generator) -> np.ndarray:
    """(T, T, 3) a page: lines of dark words and a coloured picture."""
    size = _TEXTURE_SIZE
    page = np.full((size, size, 3), 0.86)
    for row in range(40, size - 40, 34):
        column = 36
        while column < size - 60:
            word = int(rng.integers(16, 70))
            if row < 0.55 * size or column > 0.5 * size:
                page[row : row + 12, column : min(column + word, size - 36)] = 0.22
            column += word + 12
    colours = ndimage.gaussian_filter(rng.standard_normal((size, size, 3)), (18, 18, 0))
    picture = 0.5 + 0.16 * colours / colours.std()
    low, wide = int(0.6 * size), int(0.46 * size)
    page[low : size - 36, 36:wide] = picture[low : size - 36, 36:wide]
    return page.clip(0, 1)
