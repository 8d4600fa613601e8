"""What the photograph does not show: scalp, ears, neck, eyeballs, the inside of the mouth, fine grain of the skin."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from tracker.demo.look import Look, marked
from tracker.demo.portrait import Unwrapped
from tracker.head.model import LEFT_EYE, RIGHT_EYE, HeadModel, embed
from tracker.render_kernels import mesh_normals
from tracker.texels import Texels

# Radii of iris and pupil, metres (Forrester et al., The Eye, 2016: iris 11.5 to 12 mm across; pupil in room light).
IRIS_RADIUS_M, PUPIL_RADIUS_M = 0.0059, 0.0021
_SCLERA = np.array([0.86, 0.83, 0.80], np.float32)
_IRIS_RIM, _IRIS = np.array([0.13, 0.09, 0.06], np.float32), np.array([0.36, 0.23, 0.13], np.float32)
_PUPIL = np.array([0.03, 0.025, 0.025], np.float32)
_MOUTH = np.array([0.20, 0.07, 0.065], np.float32)
_TEETH = np.array([0.80, 0.76, 0.68], np.float32)
_LEFT_IRIS_CENTRE, _RIGHT_IRIS_CENTRE = 473, 468
# Hairline: height by azimuth (0 front, 180 back), as shares of the way from the chin (0) to the forehead's top (1).
_HAIRLINE_AZIMUTH = np.array([0, 30, 50, 62, 74, 84, 100, 112, 135, 180])
_HAIRLINE_HEIGHT = np.array([0.90, 0.88, 0.83, 0.74, 0.52, 0.40, 0.64, 0.34, 0.14, 0.02])
# Names that head models give to what lies behind the lips.
MOUTH_REGIONS = ("mouth_interior", "mouth", "mouth_socket", "inner_mouth", "tongue", "gums")
_TOOTH_BREADTH_M = 0.0078
_EAR_REGIONS = ("left_ear", "right_ear")


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Head-space anchors of the painting, metres."""

    forehead_top: np.ndarray
    chin: np.ndarray


def paint_head(
    model: HeadModel, texels: Texels, photograph: Unwrapped, seed: int, look: Look | None = None
) -> np.ndarray:
    """The whole texture of a head.

    Args:
        model: the head.
        texels: of its texture.
        photograph: what the portrait shows, with the look's hair.
        seed: of the noise.
        look: changes skin and eyes; None keeps the portrait's.

    Returns:
        (size, size, 3) float32 sRGB in [0, 1], row 0 is v = 1.
    """
    rng = np.random.default_rng(seed)
    points = texels.interpolate_vertices(model.template.numpy())
    skin = _skin(points, photograph.skin, rng)
    weight = photograph.weight[:, None]
    colour = weight * photograph.albedo + (1 - weight) * skin
    colour = colour * _grain(texels, rng)[:, None]
    if look is not None:
        colour = marked(model, texels, colour, photograph.hair, look, np.random.default_rng((seed, 59)))
    hair = _hair_weight(model, points, rng) * (1 - _region(model, texels, _EAR_REGIONS))
    colour = _mix(colour, _hair(points, photograph.hair, rng), hair[:, None])
    mouth = _region(model, texels, MOUTH_REGIONS)[:, None]
    colour = _mix(colour, _MOUTH * (1 + 0.1 * rng.standard_normal((len(points), 1)).clip(-2, 2)), mouth)
    teeth = _tooth_vertices(model)
    colour = _mix(colour, _teeth(points), (_share(texels, teeth) * _outside(model, texels, points, teeth))[:, None])
    _paint_eyes(model, texels, points, colour, _IRIS if look is None else look.iris, rng)
    return np.clip(texels.picture(colour.astype(np.float32)), 0, 1)


def _point(model: HeadModel, index: int) -> np.ndarray | None:
    """Head-space position of a FaceMesh landmark, None where the model lacks it."""
    at = (model.landmarks478.indices == index).nonzero()[:, 0]
    if not len(at):
        return None
    return embed(model.landmarks478.faces[at], model.landmarks478.bary[at], model.triangles, model.template)[0].numpy()


def _region(model: HeadModel, texels: Texels, names: tuple[str, ...]) -> np.ndarray:
    """(P,) share of each texel in the named regions."""
    inside = np.zeros(model.vertex_count, bool)
    for name in names:
        if name in model.regions:
            inside[model.regions[name].numpy()] = True
    return _share(texels, inside)


def _share(texels: Texels, vertices: np.ndarray) -> np.ndarray:
    """(P,) share of each texel that belongs to a (V,) mask of vertices."""
    return texels.interpolate_vertices(vertices[:, None].astype(np.float32))[:, 0]


def _tooth_vertices(model: HeadModel) -> np.ndarray:
    """(V,) bool: the parts of the mesh that lie in the mouth and hang together with nothing else."""
    mouth = np.zeros(model.vertex_count, bool)
    for name in MOUTH_REGIONS:
        if name in model.regions:
            mouth[model.regions[name].numpy()] = True
    a = model.triangles.numpy()
    ends = (a.ravel(), np.roll(a, 1, 1).ravel())
    edges = sparse.coo_matrix((np.ones(a.size), ends), (model.vertex_count, model.vertex_count))
    count, part = connected_components(edges, directed=False)
    inside = np.bincount(part, mouth, count) == np.bincount(part, minlength=count)
    return inside[part]


def _outside(model: HeadModel, texels: Texels, points: np.ndarray, teeth: np.ndarray) -> np.ndarray:
    """(P,) 1 on the side of the teeth's arch that faces the lips, 0 on the side of the tongue, which lies in shadow."""
    if not teeth.any():
        return np.zeros(len(points))
    vertices = model.template.numpy()
    normals = texels.interpolate_vertices(mesh_normals(vertices, model.triangles.numpy()))
    outward = (points - [0, 0, vertices[teeth, 2].min()]) * [1, 0, 1]
    return _smoothstep((outward * normals).sum(1) / np.linalg.norm(outward, axis=1).clip(1e-6) / 0.3)


def _teeth(points: np.ndarray) -> np.ndarray:
    """(P, 3) enamel, darker between the teeth."""
    gap = np.abs(np.sin(np.pi * points[:, :1] / _TOOTH_BREADTH_M)) ** 0.2
    return _TEETH * (0.55 + 0.45 * gap)


def _anchors(model: HeadModel) -> Landmarks:
    top, chin = _point(model, 10), _point(model, 152)
    template = model.template.numpy()
    middle = template[np.abs(template[:, 0]) < 0.01]
    if top is None:  # a model without the oval: brow level plus a third of the head above it
        brow = embed(model.landmarks68.faces, model.landmarks68.bary, model.triangles, model.template)[21].numpy()
        top = brow + np.array([0, 0.35 * (middle[:, 1].max() - brow[1]), -0.01])
    if chin is None:
        chin = embed(model.landmarks68.faces, model.landmarks68.bary, model.triangles, model.template)[8].numpy()
    return Landmarks(top, chin)


def _azimuth(points: np.ndarray, centre_z: float) -> np.ndarray:
    """Radians: 0 front, positive to the subject's left."""
    return np.arctan2(points[:, 0], points[:, 2] - centre_z)


def _hair_weight(model: HeadModel, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P,) 1 under the hair, 0 on bare skin, ragged along the hairline."""
    anchors = _anchors(model)
    centre_z = float(model.template[:, 2].max() + model.template[:, 2].min()) / 2
    azimuth = _azimuth(points, centre_z)
    height = (points[:, 1] - anchors.chin[1]) / (anchors.forehead_top[1] - anchors.chin[1])
    line = np.interp(np.abs(np.rad2deg(azimuth)), _HAIRLINE_AZIMUTH, _HAIRLINE_HEIGHT)
    ragged = (
        _polar_noise(azimuth, points[:, 1], (700, 30), rng) * 0.02
        + _polar_noise(azimuth, points[:, 1], (40, 4), rng) * 0.02
    )
    return _smoothstep((height - line + ragged) / 0.06 + 0.5)


def _hair(points: np.ndarray, palette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P, 3) strands that flow from the crown, in the photograph's hair colours."""
    top = points[:, 1].max()
    azimuth = np.arctan2(points[:, 0], points[:, 2] - np.median(points[:, 2]))
    polar = top - points[:, 1]
    bent = azimuth + 0.035 * _polar_noise(azimuth, polar, (10, 4), rng)
    strands = 0.55 * _polar_noise(bent, polar, (420, 8), rng) + 0.45 * _polar_noise(bent, polar, (170, 6), rng)
    locks = 0.6 * _polar_noise(bent, polar, (48, 4), rng)
    level = np.clip(0.40 + 0.20 * (strands + locks), 0, 1)
    return palette[(level * 255).astype(int)]


def _polar_noise(
    azimuth: np.ndarray, along: np.ndarray, detail: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """(P,) smooth noise of unit variance, periodic in azimuth; `detail` is cycles around and along."""
    columns, rows = 4 * detail[0], 4 * detail[1]
    noise = ndimage.gaussian_filter(rng.standard_normal((rows, columns)), 1.3, mode=("nearest", "wrap"))
    noise /= noise.std()
    span = max(float(np.ptp(along)), 1e-9)
    row = (along - along.min()) / span * (rows - 1)
    column = np.mod(azimuth / (2 * np.pi), 1) * columns
    return ndimage.map_coordinates(noise, [row, column], order=1, mode="grid-wrap")


def _skin(points: np.ndarray, tone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P, 3) skin with slow variations of brightness and redness."""
    azimuth = _azimuth(points, float(np.median(points[:, 2])))
    brightness = 1 + 0.02 * _polar_noise(azimuth, points[:, 1], (12, 8), rng)
    redness = 0.012 * _polar_noise(azimuth, points[:, 1], (20, 14), rng)
    return tone * brightness[:, None] + redness[:, None] * np.array([1.0, -0.5, -0.5])


def _grain(texels: Texels, rng: np.random.Generator) -> np.ndarray:
    """(P,) pores and small spots: what a photograph of this size has lost, and what a photometric tracker lives on."""
    picture = np.zeros((texels.size, texels.size))
    for sigma, strength in ((0.7, 0.012), (1.6, 0.014), (4.0, 0.012)):
        layer = ndimage.gaussian_filter(rng.standard_normal(picture.shape), sigma)
        picture += strength * layer / layer.std()
    spots = (rng.random(picture.shape) < 60 / picture.size).astype(float)
    spots = ndimage.gaussian_filter(spots * rng.uniform(0.4, 1.0, picture.shape), 2.2)
    picture -= 0.16 * spots / max(float(spots.max()), 1e-9)
    return (1 + picture)[texels.fragments.covered]


def _paint_eyes(
    model: HeadModel,
    texels: Texels,
    points: np.ndarray,
    colour: np.ndarray,
    iris: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Paints sclera, iris and pupil by the angle from the gaze axis, in place."""
    joints = model.joints(model.neutral().shape).numpy()
    for joint, iris_centre in ((LEFT_EYE, _LEFT_IRIS_CENTRE), (RIGHT_EYE, _RIGHT_IRIS_CENTRE)):
        weight = texels.interpolate_vertices(model.skin_weights[:, joint : joint + 1].numpy())[:, 0]
        on_eye = weight > 0.5
        if not on_eye.any():
            continue
        pupil = _point(model, iris_centre)
        forward = np.array([0, 0, 1.0]) if pupil is None else pupil - joints[joint]
        forward = forward / np.linalg.norm(forward)
        arm = points[on_eye] - joints[joint]
        ahead = arm @ forward
        off_axis = np.linalg.norm(arm - ahead[:, None] * forward, axis=1)
        off_axis = np.where(ahead > 0, off_axis, 1.0)
        around = np.arctan2(arm[:, 1], arm[:, 0])
        colour[on_eye] = _eye_colour(off_axis, around, iris, rng)


def _eye_colour(off_axis_m: np.ndarray, around: np.ndarray, middle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P, 3) by the distance from the gaze axis and the angle around it."""
    fibres = _polar_noise(around, off_axis_m.clip(0, IRIS_RADIUS_M), (90, 3), rng)[:, None]
    radial = (off_axis_m / IRIS_RADIUS_M)[:, None]
    iris = middle * (1.15 - 0.35 * radial + 0.16 * fibres)
    iris = _mix(iris, _IRIS_RIM, _smoothstep((radial - 0.78) / 0.2))
    iris = _mix(iris, _PUPIL, _smoothstep((PUPIL_RADIUS_M - off_axis_m) / 0.0004 + 0.5)[:, None])
    veins = _polar_noise(around, off_axis_m.clip(0, 0.012), (60, 8), rng)[:, None]
    redder = np.clip((off_axis_m[:, None] - IRIS_RADIUS_M) / 0.006, 0, 1)
    sclera = _SCLERA - redder * (0.05 + 0.03 * np.abs(veins)) * np.array([0.3, 1.0, 1.0])
    return _mix(iris, sclera, _smoothstep((off_axis_m - IRIS_RADIUS_M) / 0.0006 + 0.5)[:, None])


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (1 - share) * a + share * b


def _smoothstep(x: np.ndarray) -> np.ndarray:
    clipped = np.clip(x, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
