"""Lambertian shading with nine spherical-harmonics coefficients a colour channel (bands 0 to 2).

Order and constants are those of metrical-tracker, DECA and photometric_optimization, so that `flame.sh` of a `.frame`
file means the same light everywhere: 1, x, y, z, xy, xz, yz, x^2 - y^2, 3 z^2 - 1, each times the basis constant and
the band's Lambertian transfer (1, 2 pi / 3, pi / 4, with band 0 kept at its basis constant).

Source: Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps, SIGGRAPH 2001.
"""

import torch
from torch import Tensor

from tracker.sh_constants import SH_CONSTANTS

__all__ = ["BAND_COUNT", "SH_CONSTANTS", "rotate_sh", "sh_basis", "sh_basis_gradient", "shade"]

BAND_COUNT = 9
# Of the bands xy, xz, yz; of x^2 - y^2; of 3 z^2 - 1.
_C2, _C3, _C4 = SH_CONSTANTS[4], SH_CONSTANTS[7], SH_CONSTANTS[8]


def sh_basis(normals: Tensor) -> Tensor:
    """The nine scaled basis functions.

    Args:
        normals: (..., 3), unit length (not renormalised).

    Returns:
        (..., 9), same dtype.
    """
    x, y, z = normals.unbind(-1)
    one = torch.ones_like(x)
    bands = [one, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return torch.stack([c * band for c, band in zip(SH_CONSTANTS, bands, strict=True)], -1)


def sh_basis_gradient(normals: Tensor) -> Tensor:
    """Derivative of `sh_basis` with respect to the components of the normal.

    Args:
        normals: (..., 3).

    Returns:
        (..., 9, 3).
    """
    x, y, z = normals.unbind(-1)
    o, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [
        (o, o, o),
        (one, o, o),
        (o, one, o),
        (o, o, one),
        (y, x, o),
        (z, o, x),
        (o, z, y),
        (2 * x, -2 * y, o),
        (o, o, 6 * z),
    ]
    return torch.stack([c * torch.stack(row, -1) for c, row in zip(SH_CONSTANTS, rows, strict=True)], -2)


def shade(albedo: Tensor, sh: Tensor, normals: Tensor) -> Tensor:
    """Colour of a Lambertian surface: albedo times irradiance; neither clamped nor gamma-coded, as in the peers.

    Args:
        albedo: (..., 3) sRGB values in [0, 1].
        sh: (9, 3) coefficients, [band, rgb], in the frame of the normals.
        normals: (..., 3) unit length.

    Returns:
        (..., 3).
    """
    return albedo * (sh_basis(normals) @ sh)


def rotate_sh(sh: Tensor, R: Tensor) -> Tensor:
    """The same light seen from a rotated frame.

    With normals turned along, shading stays: `shade(a, rotate_sh(sh, R), R n)` equals `shade(a, sh, n)`.
    Band 1 is a vector and band 2 a symmetric traceless form, which turn as R v and R M R^T: exact, no Wigner tables.

    Args:
        sh: (..., 9, 3) coefficients in the old frame.
        R: (..., 3, 3) rotation from the old to the new frame.

    Returns:
        (..., 9, 3) coefficients in the new frame.
    """
    _, _, _, _, s4, s5, s6, s7, s8 = sh.unbind(-2)
    xy, xz, yz = 0.5 * _C2 * s4, 0.5 * _C2 * s5, 0.5 * _C2 * s6
    xx, yy, zz = _C3 * s7 - _C4 * s8, -_C3 * s7 - _C4 * s8, 2 * _C4 * s8
    form = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).unflatten(-1, (3, 3))
    turned = R[..., None, :, :] @ form @ R[..., None, :, :].mT
    band2 = [
        turned[..., 0, 1] * (2 / _C2),
        turned[..., 0, 2] * (2 / _C2),
        turned[..., 1, 2] * (2 / _C2),
        (turned[..., 0, 0] - turned[..., 1, 1]) / (2 * _C3),
        turned[..., 2, 2] / (2 * _C4),
    ]
    return torch.cat([sh[..., :1, :], R @ sh[..., 1:4, :], torch.stack(band2, -2)], -2)
