"""How the local contrast of surface samples follows a light that moves.

Dividing a picture by its local mean takes out shading that is even over the mean's disc. What is not even (the side of
the nose, lids, lips) stays, and where a hard light swings from side to side frames differ by it. Under a light L in
head space a sample's shading is B(n) L and that of its disc the mean of B(n_k) L over the disc's places k, with B the
functions of `tracker.shading` and n the normals of the head at rest, so the contrast is multiplied by

    gain = (1 + a . d) / (1 + b . d) * M / (M + e),    M = albedo B_0 L_0 (1 + b . d)

    a = B(n) / B_0,    b = mean_k B(n_k) / B_0,    d = L / L_0,   bands 1 and 2

The second factor is that of the constant e which `tracker.local_contrast` adds to the mean M: a lamp that swings leaves
half of a face so dark that it counts. Nothing of this is fitted to the pictures: a free response would take up what
poses and form have to explain.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.head.model import HeadModel, embed, vertex_normals
from tracker.kernels.contrast import DARKEST_MEAN
from tracker.local_contrast import WINDOW, surface_tangents
from tracker.samples import SurfaceSamples
from tracker.shading import SH_CONSTANTS, rotate_sh, sh_basis

# Lights of a clip whose directions vary by less than this are steady (RMS in camera axes, `light_directions`).
_STEADY = 0.15
# Shading is kept above this share of the ambient one, and a gain within these limits: beyond, the light model is wrong.
_DARKEST, _LEAST_GAIN, _LARGEST_GAIN = 0.15, 0.5, 2.0
# Barycentric places in each triangle among which the surface near a disc's place is looked for.
_NEAR, _FAR, _BETWEEN = 2 / 3, 1 / 6, 5 / 12
_PLACES = (
    (_NEAR, _FAR, _FAR),
    (_FAR, _NEAR, _FAR),
    (_FAR, _FAR, _NEAR),
    (_BETWEEN, _BETWEEN, _FAR),
    (_BETWEEN, _FAR, _BETWEEN),
    (_FAR, _BETWEEN, _BETWEEN),
)


def light_directions(light: Tensor) -> Tensor:
    """Where light comes from, whatever its strength and colour.

    Args:
        light: (..., 9, 3) coefficients.

    Returns:
        (..., 8) those of bands 1 and 2 over the ambient one, mean of the channels.
    """
    mean = light.mean(-1)
    return mean[..., 1:] / mean[..., :1].clamp_min(1e-6)


def is_steady(lights: Tensor) -> bool:
    """Whether lights (K, 9, 3) in camera axes hardly differ in direction."""
    directions = light_directions(lights)
    return float((directions - directions.mean(0)).square().sum(1).mean().sqrt()) < _STEADY


@dataclass(frozen=True, eq=False)
class LightResponse:
    """The response of N samples on L pyramid levels, float32.

    Attributes:
        albedo: (N, 3) sRGB.
        own: (N, 8) what the light's directions in head space add to a sample's shading, relative to ambient light.
        around: (L, N, 8) the same for the disc of its local mean.
    """

    albedo: Tensor
    own: Tensor
    around: Tensor

    def gain(self, level: int, ids: Tensor, light: Tensor, R: Tensor) -> Tensor:
        """What the samples' contrast is multiplied by.

        Args:
            level: the pyramid level's number.
            ids: (M,) samples.
            light: (..., 9, 3) camera axes.
            R: (..., 3, 3) head to camera.

        Returns:
            (..., M, 3) float32.
        """
        return response_gain(self.of(level, ids), light, R)

    def of(self, level: int, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Albedo (M, 3), own and around (M, 8) of samples (M,) on a level."""
        return self.albedo[ids], self.own[ids], self.around[level][ids]


def response_gain(samples: tuple[Tensor, Tensor, Tensor], light: Tensor, R: Tensor) -> Tensor:
    """`LightResponse.gain` of what `LightResponse.of` gives, on any device."""
    albedo, own, around = samples
    d = light_directions(rotate_sh(light.float(), R.float().mT))
    shading, mean = ((1 + d @ rows.T).clamp_min(_DARKEST) for rows in (own, around))
    uneven = (shading / mean).clamp(_LEAST_GAIN, _LARGEST_GAIN)[..., None]
    ambient = (SH_CONSTANTS[0] * light[..., :1, :]).float().clamp_min(0)
    brightness = albedo * ambient * mean[..., None]
    return uneven * brightness / (brightness + DARKEST_MEAN)


def surface_response(
    model: HeadModel, shape: Tensor, samples: SurfaceSamples, albedo: Tensor, widths_m: tuple[float, ...]
) -> LightResponse:
    """The response of samples on a head at rest.

    Args:
        model: the head.
        shape: (S,) identity.
        samples: N samples.
        albedo: (N, 3) theirs.
        widths_m: standard deviation of the local mean's disc on each level, metres.
    """
    # Imported here: few clips need it, and it takes long.
    from scipy.spatial import cKDTree

    rest = model.rest_vertices(shape.float())
    normals = vertex_normals(rest, model.triangles)
    directions = torch.nn.functional.normalize(samples.at(model, normals), dim=1)
    points, tangents = samples.at(model, rest), surface_tangents(directions)
    faces, bary = _spread(len(model.triangles))
    tree = cKDTree(embed(faces, bary, model.triangles, rest).numpy())
    there = torch.nn.functional.normalize(embed(faces, bary, model.triangles, normals), dim=1)
    window = torch.from_numpy(WINDOW).float()
    around = []
    for width in widths_m:
        places = points[:, None] + width * torch.einsum("nij,kj->nki", tangents, window[:, :2])
        nearest = torch.from_numpy(tree.query(places.flatten(0, 1).numpy())[1])
        around.append((_relative(there[nearest]).unflatten(0, places.shape[:2]) * window[:, 2:]).sum(1))
    return LightResponse(albedo, _relative(directions), torch.stack(around))


def _relative(normals: Tensor) -> Tensor:
    """Functions of bands 1 and 2 over that of the ambient light, (..., 8)."""
    basis = sh_basis(normals)
    return basis[..., 1:] / basis[..., :1]


def _spread(triangles: int) -> tuple[Tensor, Tensor]:
    """Triangles (P,) and barycentric places (P, 3) of points on all triangles."""
    return torch.arange(triangles).repeat_interleave(len(_PLACES)), torch.tensor(_PLACES).repeat(triangles, 1)
