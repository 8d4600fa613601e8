"""Glasses on the demo head: dark frames as tubes, and lenses that mirror a window a little."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tracker.demo.parts import Part, Shape, joined, tube
from tracker.head.model import LEFT_EYE, RIGHT_EYE, HeadModel, HeadParams
from tracker.rasterizer import rasterize
from tracker.render import Drawing

# A usual size of frames: lens 50 x 38 mm. The lens stands this far before the cornea's front (vertex distance).
_LENS_HALF_M = (0.0255, 0.0195)
_LENS_DROP_M = 0.002
_LENS_POWER = 2.8
_VERTEX_DISTANCE_M = 0.014
_EYE_RADIUS_M = 0.012
# Frames bend around the face like the surface of a ball of this radius.
_FACE_FORM_M = 0.16
_RIM_M, _TEMPLE_M = 0.0014, 0.0017
_RIM_COUNT = 48
_SKIN_GAP_M = 0.0035
_FRAME_COLOUR = np.array([0.07, 0.055, 0.05], np.float32)
# Lenses are ground from balls of about this radius; a curved lens mirrors the window as a small spot.
_LENS_BASE_M = 0.11
_VEIL, _TRANSMISSION = 0.035, 0.95
_WINDOW_STRENGTH, _WINDOW_HALF_RADIANS = 0.45, 0.30


@dataclass(frozen=True, eq=False)
class Glasses:
    """Glasses in head space.

    Attributes:
        frame: rims, bridge and temples.
        lens: both lenses, one-sided towards the camera.
        lens_normals: (V, 3) outward normals of their curved faces.
    """

    frame: Part
    lens: Shape
    lens_normals: np.ndarray

    def mirror(self, picture: np.ndarray, drawing: Drawing, light_direction: np.ndarray) -> None:
        """Lays the lenses' reflections over a picture, in place.

        Args:
            picture: (H, W, 3) float32 in [0, 1], with the frame already in it.
            drawing: what it was painted from; lenses behind its surface are hidden.
            light_direction: (3,) unit vector towards the window, camera axes.
        """
        view, size = drawing.view, drawing.view.size
        vertices = (self.lens.vertices @ view.R.T + view.t).astype(np.float32)
        found = rasterize(vertices, self.lens.triangles, view.intrinsics, size, cull_back=True)
        before = drawing.fragments.depth_m[:: drawing.supersample, :: drawing.supersample]
        seen = (found.triangle_index >= 0) & ((found.depth_m < before) | (before == 0))
        rows, columns = np.nonzero(seen)
        if not len(rows):
            return
        corners = self.lens.triangles[found.triangle_index[rows, columns]]
        weights = found.bary[rows, columns][..., None]
        normals = (self.lens_normals[corners] * weights).sum(1) @ view.R.T
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        ray = (vertices[corners] * weights).sum(1)
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        mirrored = ray - 2 * (ray * normals).sum(1, keepdims=True) * normals
        off = np.arccos(np.clip(mirrored @ light_direction, -1, 1)) / _WINDOW_HALF_RADIANS
        spot = np.clip((1.15 - off) / 0.3, 0, 1)[:, None]
        level = _VEIL + _WINDOW_STRENGTH * spot * spot * (3 - 2 * spot)
        through = picture[rows, columns] * _TRANSMISSION
        picture[rows, columns] = through + (1 - through) * level


def make_glasses(model: HeadModel, resting: HeadParams) -> Glasses:
    """Glasses that sit on a subject.

    Args:
        model: the head.
        resting: the subject at rest.
    """
    vertices = model.vertices(resting).numpy()
    joints = model.joints(resting.shape).numpy()
    eyes = joints[[LEFT_EYE, RIGHT_EYE]]
    front = float(eyes[:, 2].max()) + _EYE_RADIUS_M + _VERTEX_DISTANCE_M
    # The brows and the nose's root must not stick out of the lenses.
    band = (np.abs(vertices[:, 1] - eyes[:, 1].mean()) < 0.022) & (np.abs(vertices[:, 0]) < 0.05)
    band &= np.abs(vertices[:, 0]) > 0.012
    front = max(front, float(vertices[band, 2].max()) + 0.003)
    rims = [_outline(eye, front) for eye in eyes]
    nose = _over_the_nose(vertices, rims, front)
    pieces = [tube(rim, _RIM_M, closed=True) for rim in rims] + [tube(nose, _RIM_M)]
    pieces += [tube(_temple(model, vertices, rim, side), _TEMPLE_M) for rim, side in zip(rims, (1, -1), strict=True)]
    texture = np.broadcast_to(_FRAME_COLOUR, (8, 8, 3))
    lenses = [_lens(rim) for rim in rims]
    return Glasses(
        joined(pieces).part(texture, "head"),
        joined([shape for shape, _ in lenses]),
        np.concatenate([normals for _, normals in lenses]).astype(np.float32),
    )


def _outline(eye: np.ndarray, front: float) -> np.ndarray:
    """(N, 3) rim of one lens, counter-clockwise seen from the camera, bent around the face."""
    angle = np.linspace(0, 2 * np.pi, _RIM_COUNT, endpoint=False)
    power = 2 / _LENS_POWER
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * _LENS_HALF_M[0] + eye[0] * 1.02
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * _LENS_HALF_M[1] + eye[1] - _LENS_DROP_M
    return np.stack([x, y, _bent(x, front)], 1)


def _bent(x: np.ndarray, front: float) -> np.ndarray:
    return front - x * x / (2 * _FACE_FORM_M)


def _over_the_nose(vertices: np.ndarray, rims: list[np.ndarray], front: float) -> np.ndarray:
    """The bridge: an arch from one rim's inner side to the other's, before the nose."""
    inner = [rim[np.argmin(np.abs(rim[:, 0]) - 0.3 * rim[:, 1])] for rim in rims]
    share = np.linspace(0, 1, 12)[:, None]
    arch = (1 - share) * inner[0] + share * inner[1]
    arch[:, 1] += 0.003 * np.sin(np.pi * share[:, 0])
    for point in arch:
        near = np.linalg.norm(vertices[:, :2] - point[:2], axis=1) < 0.006
        if near.any():
            point[2] = max(point[2], float(vertices[near, 2].max()) + _RIM_M + 0.001)
    return arch


def _temple(model: HeadModel, vertices: np.ndarray, rim: np.ndarray, side: int) -> np.ndarray:
    """The arm from a rim's outer end along the temple, over the ear and down behind it."""
    hinge = rim[np.argmax(side * rim[:, 0] + 0.35 * rim[:, 1])]
    name = "left_ear" if side > 0 else "right_ear"
    bare = np.ones(len(vertices), bool)
    if name in model.regions:
        bare[model.regions[name].numpy()] = False
    ear = vertices[~bare] if not bare.all() else vertices[[np.argmax(side * vertices[:, 0])]]
    rest = ear[np.argmax(ear[:, 1])]
    share = np.linspace(0, 1, 20)[:, None]
    over = np.array([0, rest[1] - 0.006, rest[2] + 0.002])
    path = np.concatenate([hinge + share * (over - hinge), over + np.array([[0, -0.006, -0.010], [0, -0.020, -0.016]])])
    for point in path:
        near = (np.abs(vertices[:, 1] - point[1]) < 0.008) & (np.abs(vertices[:, 2] - point[2]) < 0.008) & bare
        near &= side * vertices[:, 0] > 0
        wide = float(np.abs(vertices[near, 0]).max()) if near.any() else 0.0
        point[0] = side * max(wide + _SKIN_GAP_M, abs(hinge[0]) + 0.004)
    path[0] = hinge
    smooth = ndimage.gaussian_filter1d(path[1:], 1.5, axis=0, mode="nearest")
    return np.concatenate([path[:1], smooth])


def _lens(rim: np.ndarray) -> tuple[Shape, np.ndarray]:
    """A fan inside a rim, and the normals of its curved face."""
    middle = rim.mean(0)
    rings = [middle + share * (rim - middle) for share in (0.33, 0.66, 0.98)]
    vertices = np.concatenate([middle[None], *rings])
    count = len(rim)
    triangles = []
    for place in range(count):
        beside = (place + 1) % count
        triangles.append([0, 1 + place, 1 + beside])
        for ring in range(2):
            a, b = 1 + ring * count + place, 1 + ring * count + beside
            triangles += [[a, a + count, b + count], [a, b + count, b]]
    tilt = (vertices - middle) / _LENS_BASE_M
    normals = np.stack([tilt[:, 0] + middle[0] / _FACE_FORM_M, tilt[:, 1], np.ones(len(vertices))], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Shape(vertices, np.array(triangles), np.zeros((len(vertices), 2))), normals
