"""Looks of different people, drawn by a seed: tone of skin and hair, brows, freckles, stubble, eyes.

One photograph is at hand, so the features' places are the portrait's; what a photometric tracker and a detector see of
a person (contrast, colour, marks of the skin) differs. Features are found in head space by the model's landmarks.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tracker.demo.portrait import Unwrapped
from tracker.head.model import HeadModel, embed
from tracker.texels import Texels

# Gains on the portrait's skin (sRGB) from light to dark.
_TONES = np.array([[1.03, 1.04, 1.04], [0.98, 0.97, 0.95], [0.86, 0.82, 0.76], [0.64, 0.55, 0.49], [0.47, 0.38, 0.33]])
_HAIR_LIGHT, _HAIR_DARK = np.array([1.75, 1.55, 1.15]), np.array([0.22, 0.21, 0.23])
_IRISES = np.array([[0.36, 0.23, 0.13], [0.20, 0.12, 0.07], [0.34, 0.45, 0.56], [0.36, 0.42, 0.30], [0.42, 0.44, 0.46]])
_CLOTHS = np.array([[0.20, 0.27, 0.36], [0.42, 0.16, 0.15], [0.17, 0.30, 0.20], [0.52, 0.50, 0.46], [0.10, 0.10, 0.11]])
# Middle lines of the brows, outer end to inner: pairs of FaceMesh points above and below.
_BROWS = (
    ((70, 46), (63, 53), (105, 52), (66, 65), (107, 55)),
    ((300, 276), (293, 283), (334, 282), (296, 295), (336, 285)),
)
_NOSE_BASE, _CHIN, _MOUTH_CORNER, _EAR_LEVEL = 2, 152, 61, 234
_BEARD_AZIMUTH = np.array([0.0, 14.0, 32.0, 48.0, 66.0, 84.0, 96.0])
_FRECKLE_SIGMA_TEXELS = (1.3, 2.6)


@dataclass(frozen=True, eq=False)
class Look:
    """What is particular to a person.

    Attributes:
        skin_gain: (3,) factor on the portrait's skin.
        hair_gain: (3,) factor on its hair.
        iris: (3,) colour of the eyes.
        cloth: (3,) colour of the pullover.
        brow_half_m: half the brows' breadth; 0 leaves the portrait's.
        brow_strength: how much of the skin the brows' hairs hide.
        freckles: number of spots.
        stubble: how much a beard's stubble darkens the skin.
        blotches: relative slow change of the skin's brightness over the face.
        redness: of cheeks and nose.
    """

    skin_gain: np.ndarray
    hair_gain: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray
    brow_half_m: float
    brow_strength: float
    freckles: int
    stubble: float
    blotches: float
    redness: float


def draw_look(seed: int) -> Look:
    """The look of a seed."""
    rng = np.random.default_rng((seed, 53))
    tone = rng.uniform(0, len(_TONES) - 1)
    skin = np.array([np.interp(tone, np.arange(len(_TONES)), _TONES[:, k]) for k in range(3)])
    # Dark skin seldom goes with fair hair or light eyes.
    fair = rng.uniform() * max(0.25, 1 - tone / 3)
    hair = _HAIR_DARK ** (1 - fair) * _HAIR_LIGHT**fair
    iris = _IRISES[int(rng.integers(len(_IRISES))) if tone < 2 else int(rng.integers(2))]
    cloth = _CLOTHS[int(rng.integers(len(_CLOTHS)))]
    man = rng.uniform() < 0.5
    return Look(
        skin_gain=skin,
        hair_gain=hair,
        iris=iris,
        cloth=cloth,
        brow_half_m=float(rng.uniform(0.0026, 0.0042 if man else 0.0034)),
        brow_strength=float(rng.uniform(0.35, 0.85)),
        freckles=int(rng.choice([0, 30, 220])) if tone < 2 else int(rng.choice([0, 20])),
        stubble=float(rng.uniform(0.10, 0.36)) if man else 0.0,
        blotches=float(rng.uniform(0.03, 0.07)),
        redness=float(rng.uniform(0.0, 0.05)),
    )


def with_hair(photograph: Unwrapped, look: Look) -> Unwrapped:
    """The photograph's colours with the look's hair; its skin is changed by `marked`."""
    hair = np.clip(photograph.hair * look.hair_gain, 0.02, 0.95)
    return Unwrapped(photograph.albedo, photograph.weight, photograph.skin, hair.astype(np.float32))


def marked(
    model: HeadModel, texels: Texels, colour: np.ndarray, hair: np.ndarray, look: Look, rng: np.random.Generator
) -> np.ndarray:
    """Skin in the look's tone with its marks.

    Args:
        model: the head.
        texels: of its texture.
        colour: (P, 3) skin as the portrait has it.
        hair: (256, 3) the look's hair colours from dark to light.
        look: see `Look`.
        rng: of blotches, spots and hairs.

    Returns:
        (P, 3).
    """
    points = texels.interpolate_vertices(model.template.numpy())
    slow = np.zeros(len(points))
    for period, strength in ((0.045, 0.7), (0.020, 0.5), (0.009, 0.35)):
        slow += strength * _space_noise(points, period, rng)
    skin = colour * look.skin_gain * (1 + look.blotches * slow)[:, None]
    flush = _flush(model, points)[:, None]
    skin = skin * (1 + look.redness * flush * np.array([1.0, -1.2, -1.0]))
    skin = skin * (1 - _freckles(texels, points, look.freckles, rng))[:, None] ** np.array([0.8, 1.0, 1.2])
    beard = look.stubble * _beard(model, points) * _hairs(texels, 0.8, rng)
    skin = skin * (1 - np.clip(beard, 0, 0.75))[:, None] ** np.array([1.0, 0.95, 0.9])
    brow = look.brow_strength * _brows(model, points, look.brow_half_m) * _hairs(texels, 1.0, rng)
    brow = np.clip(brow, 0, 0.95)[:, None]
    return (1 - brow) * skin + brow * np.minimum(hair[60], 0.55 * look.skin_gain)


def _at(model: HeadModel, index: int) -> np.ndarray | None:
    """Head-space position of a FaceMesh landmark of the mean head, or None."""
    at = (model.landmarks478.indices == index).nonzero()[:, 0]
    if not len(at):
        return None
    points = model.landmarks478
    return embed(points.faces[at], points.bary[at], model.triangles, model.template)[0].numpy()


def _space_noise(points: np.ndarray, period_m: float, rng: np.random.Generator) -> np.ndarray:
    """(P,) smooth noise in space, without seams, of about unit variance."""
    low = points.min(0) - period_m
    count = np.ceil((points.max(0) + period_m - low) / period_m).astype(int) + 2
    noise = ndimage.zoom(rng.standard_normal(count), 4, order=3)
    at = (points - low) / period_m * (np.array(noise.shape) - 1) / (count - 1)
    values = ndimage.map_coordinates(noise, at.T, order=1, mode="nearest")
    return np.asarray(values / values.std())


def _flush(model: HeadModel, points: np.ndarray) -> np.ndarray:
    """(P,) 1 on the cheeks and the nose's tip."""
    level = np.zeros(len(points))
    for index, radius in ((50, 0.018), (280, 0.018), (1, 0.010)):
        centre = _at(model, index)
        if centre is not None:
            level += np.exp(-((points - centre) ** 2).sum(1) / (2 * radius**2))
    return np.clip(level, 0, 1)


def _freckles(texels: Texels, points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(P,) darkening by spots, most of them around the nose."""
    picture = np.zeros((texels.size, texels.size), np.float32)
    if count:
        front = float(points[:, 2].max())
        near = np.exp(-((front - points[:, 2]) ** 2) / (2 * 0.035**2)) * (points[:, 2] > 0)
        chosen = rng.choice(len(points), count, replace=False, p=near / near.sum())
        rows, columns = np.nonzero(texels.fragments.covered)
        for sigma in _FRECKLE_SIGMA_TEXELS:
            layer = np.zeros_like(picture)
            these = chosen[rng.uniform(size=count) < 0.5]
            layer[rows[these], columns[these]] = rng.uniform(0.12, 0.34, len(these))
            scale = sigma * texels.size / 2048 * 1.6
            # A Gaussian spot keeps its depth, not its sum.
            picture += ndimage.gaussian_filter(layer, scale) * 2 * np.pi * scale**2
    return np.clip(picture[texels.fragments.covered], 0, 0.45)


def _beard(model: HeadModel, points: np.ndarray) -> np.ndarray:
    """(P,) 1 where a beard grows."""
    marks = [_at(model, index) for index in (_NOSE_BASE, _CHIN, _MOUTH_CORNER, _EAR_LEVEL)]
    if any(mark is None for mark in marks):
        return np.zeros(len(points))
    nose, chin, mouth, ear = (float(mark[1]) for mark in marks if mark is not None)
    top = np.array([nose, nose - 0.004, mouth + 0.002, mouth - 0.004, mouth + 0.012, ear, ear + 0.01])
    azimuth = np.abs(np.rad2deg(np.arctan2(points[:, 0], points[:, 2] + 0.02)))
    upper = np.interp(azimuth, _BEARD_AZIMUTH, top)
    level = _smoothstep((upper - points[:, 1]) / 0.008 + 0.5) * _smoothstep((points[:, 1] - chin + 0.035) / 0.02)
    lips = np.zeros(model.vertex_count, bool)
    for name in ("lips", "inner_mouth"):
        if name in model.regions:
            lips[model.regions[name].numpy()] = True
    if lips.any():
        from scipy.spatial import cKDTree

        away = cKDTree(model.template.numpy()[lips]).query(points, distance_upper_bound=0.01)[0]
        level = level * _smoothstep(np.minimum(away, 0.01) / 0.004 - 0.5)
    return level * _smoothstep((_BEARD_AZIMUTH[-1] - azimuth) / 16) * (points[:, 2] > -0.05)


def _brows(model: HeadModel, points: np.ndarray, half_m: float) -> np.ndarray:
    """(P,) 1 on the brows' middle lines, thinner at the outer ends."""
    level = np.zeros(len(points))
    for pairs in _BROWS:
        ends = [(_at(model, a), _at(model, b)) for a, b in pairs]
        knots = [(a + b) / 2 for a, b in ends if a is not None and b is not None]
        if len(knots) < len(pairs):
            continue
        fine = np.linspace(0, 1, 60)
        line = np.stack([np.interp(fine, np.linspace(0, 1, len(knots)), np.array(knots)[:, k]) for k in range(3)], 1)
        line = ndimage.gaussian_filter1d(line, 4, axis=0, mode="nearest")
        near = np.linalg.norm(points - line[30], axis=1) < 0.04
        distance = np.linalg.norm(points[near, None, :] - line[None], axis=2)
        place = distance.argmin(1)
        half = half_m * np.interp(fine[place], [0, 0.35, 1], [0.45, 1.0, 1.15])
        level[near] = np.maximum(level[near], _smoothstep(1.5 - distance.min(1) / half))
    return level


def _hairs(texels: Texels, coarse: float, rng: np.random.Generator) -> np.ndarray:
    """(P,) short upright hairs of mean about 0.75."""
    noise = ndimage.gaussian_filter(rng.standard_normal((texels.size, texels.size)), (3.0 * coarse, 1.0 * coarse))
    return (0.75 + 0.35 * noise / noise.std()).clip(0.1, 1.4)[texels.fragments.covered]


def _smoothstep(x: np.ndarray) -> np.ndarray:
    clipped = np.clip(x, 0, 1)
    return np.asarray(clipped * clipped * (3 - 2 * clipped))
