"""The coefficients of a texture space that explain a clip's unwrapped appearance.

The appearance A was unwrapped with light divided out, which leaves two things open: the brightness and colour that
light and albedo share, and slow errors of the light over the head. The fit therefore asks for

    A = g * (mean + basis c + mean * sum_k e_k B_k(n))

with a gain g a channel, free, and a shading error e in the spherical harmonics of the head's normals, small. The code
c has the space's own prior, one standard deviation; what brightness and skin tone cannot tell apart thus goes to the
gain, which the light of the `.frame` file is multiplied with. Of all gains alike the largest would win, because it
makes the code smallest: the evidence for a gain, the code integrated out, has its logarithm once for each mode that
the data determine, and that is what is maximised. Texels that do not fit (beard, hair, brows of another form) lose
their weight (Geman-McClure).

Source: Blanz and Vetter, A Morphable Model for the Synthesis of 3D Faces, SIGGRAPH 1999, section 4 (maximum a
posteriori fit with colour gains); MacKay, Bayesian Interpolation, Neural Computation 1992 (determined parameters).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from tracker.head.model import HeadModel, vertex_normals
from tracker.samples import face_triangles
from tracker.shading import BAND_COUNT, sh_basis
from tracker.texels import Texels
from tracker.texture_space import TextureSpace, basis_at

# Texels used a side: on a face one every 2 mm, finer than any mode's detail.
_GRID = 128
# A texel counts from this validity on (0 never seen, 1 well seen).
_LEAST_VALID = 0.2
# Fewer texels than this say nothing: a face has about 4000.
FEWEST_TEXELS = 200
# Spread of the shading error, as a share of the albedo.
_SHADING_ERROR = 0.1
# Texels this many to one independent measurement: blur and light err together over 8 mm.
_ERRING_TOGETHER = 16.0
# Residuals are not trusted below this, in colour units of [0, 1].
_LEAST_NOISE = 0.01
_STEPS = 12


@dataclass(frozen=True, eq=False)
class TextureFit:
    """What the fit found.

    Attributes:
        code: (K,) float64 coefficients, standard deviations.
        gain: (3,) appearance over texture, RGB; the light that goes with the texture is that much brighter.
        residual: RMS difference of appearance and fit where it counts, colour units of [0, 1].
        texels: how many were looked at.
    """

    code: np.ndarray
    gain: np.ndarray
    residual: float
    texels: int


@dataclass(frozen=True, eq=False)
class _Data:
    """What is known of M texels.

    Attributes:
        seen: (M, 3) colours of the appearance.
        weight: (M,).
        mean: (M, 3) of the space.
        basis: (M, 3, K).
        harmonics: (M, H) of the head's normals, without the constant one.
    """

    seen: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    harmonics: np.ndarray


def fit_texture(
    space: TextureSpace, model: HeadModel, appearance: tuple[np.ndarray, np.ndarray], count: int
) -> TextureFit | None:
    """Fits the code to an unwrapped appearance.

    Args:
        space: the texture space; its layout is its own or the model's.
        model: the head model.
        appearance: albedo (T, T, 3) RGB in [0, 1] and validity (T, T) in the model's layout, row 0 at v = 1.
        count: modes to fit, at most those of the space.

    Returns:
        The fit, or None where too little of the face was seen.

    Raises:
        InputError: the space's file is damaged.
    """
    data = _data(space, model, appearance, count)
    return None if data is None else _solve(data)


def _data(space: TextureSpace, model: HeadModel, appearance: tuple[np.ndarray, np.ndarray], count: int) -> _Data | None:
    """The face's texels that were seen, on a grid over the space's layout."""
    own = model
    if space.layout is not None and len(space.layout[1]) == len(model.triangles):
        own = replace(model, uv=torch.from_numpy(space.layout[0]), uv_triangles=torch.from_numpy(space.layout[1]))
    fragments = Texels.of(own, space.side).fragments
    step = max(space.side // _GRID, 1)
    grid = np.zeros((space.side, space.side), bool)
    grid[step // 2 :: step, step // 2 :: step] = True
    chosen = grid & np.isin(fragments.triangle_index, face_triangles(model))
    triangle, bary = fragments.triangle_index[chosen], fragments.bary[chosen]

    def interpolated(values: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        return (values[triangles[triangle]] * bary[..., None]).sum(1)

    uv = interpolated(model.uv.numpy(), model.uv_triangles.numpy())
    albedo, valid = (_sampled(picture, uv) for picture in appearance)
    keep = valid > _LEAST_VALID
    if keep.sum() < FEWEST_TEXELS:
        return None
    normals = interpolated(vertex_normals(model.template, model.triangles).numpy(), model.triangles.numpy())[keep]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-6)
    texels = np.flatnonzero(chosen)[keep]
    return _Data(
        seen=albedo[keep].astype(np.float64),
        weight=valid[keep].astype(np.float64) ** 2,
        mean=space.mean.reshape(-1, 3)[texels].astype(np.float64),
        basis=basis_at(space, texels, count).astype(np.float64),
        # Without the constant one, which is the gain.
        harmonics=sh_basis(torch.from_numpy(normals)).numpy()[:, 1:].astype(np.float64),
    )


def _sampled(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """A picture (T, T) or (T, T, 3) at texture coordinates (N, 2)."""
    side = picture.shape[0]
    # cv2 counts pixel centres at whole numbers.
    x, y = uv[:, 0] * side - 0.5, (1 - uv[:, 1]) * side - 0.5
    rows = np.arange(0, len(uv), 1 << 14)
    parts = [
        cv2.remap(
            picture.astype(np.float32),
            x[i : i + (1 << 14), None].astype(np.float32),
            y[i : i + (1 << 14), None].astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[:, 0]
        for i in rows
    ]
    return np.concatenate(parts) if parts else np.zeros((0, *picture.shape[2:]), np.float32)


def _solve(data: _Data) -> TextureFit:
    """Gauss-Newton over code, shading error and gain, with robust weights."""
    modes, bands = data.basis.shape[2], BAND_COUNT - 1
    code, error = np.zeros(modes), np.zeros((3, bands))
    gain = (data.weight[:, None] * data.seen * data.mean).sum(0) / (data.weight[:, None] * data.mean**2).sum(0)
    prior = np.concatenate([np.ones(modes), np.full(3 * bands, _SHADING_ERROR**-2), np.zeros(3)])
    for _ in range(_STEPS):
        albedo, residual = _residual(data, code, error, gain)
        weight, noise = _robust(data, residual)
        rows = _rows(data, albedo, gain)
        flat = (weight / (_ERRING_TOGETHER * noise**2)).repeat(3)
        values = np.concatenate([code, error.ravel(), gain])
        H = (rows * flat[:, None]).T @ rows + np.diag(prior)
        inverse = np.linalg.inv(H)
        downhill = (rows * flat[:, None]).T @ residual.ravel() - prior * values
        determined = modes - (prior * np.diag(inverse))[:modes].sum()
        downhill[-3:] -= determined / (3 * gain)
        values += inverse @ downhill
        code, error, gain = values[:modes], values[modes:-3].reshape(3, bands), values[-3:].clip(1e-3)
    _, residual = _residual(data, code, error, gain)
    weight, _ = _robust(data, residual)
    rms = float(np.sqrt((weight[:, None] * residual**2).sum() / (3 * weight.sum())))
    return TextureFit(code, gain, rms, len(data.seen))


def _residual(data: _Data, code: np.ndarray, error: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The albedo (M, 3) that the unknowns stand for, and what it leaves of the seen colours."""
    albedo = data.mean * (1 + data.harmonics @ error.T) + data.basis @ code
    return albedo, data.seen - gain * albedo


def _rows(data: _Data, albedo: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(3 M, K + 3 H + 3) derivatives of the modelled colours."""
    count, bands = len(data.seen), data.harmonics.shape[1]
    shading, gains = np.zeros((count, 3, 3, bands)), np.zeros((count, 3, 3))
    for channel in range(3):
        shading[:, channel, channel] = gain[channel] * data.mean[:, channel, None] * data.harmonics
        gains[:, channel, channel] = albedo[:, channel]
    parts = [data.basis * gain[:, None], shading.reshape(count, 3, 3 * bands), gains]
    return np.concatenate(parts, 2).reshape(3 * count, -1)


def _robust(data: _Data, residual: np.ndarray) -> tuple[np.ndarray, float]:
    """Geman-McClure weights (M,) times the texels' own, and the noise of what fits."""
    size = np.sqrt((residual**2).mean(1))
    noise = max(1.4826 * float(np.median(size)), _LEAST_NOISE)
    return data.weight / (1 + (size / (2 * noise)) ** 2) ** 2, noise
