"""Pixel loops of the renderer, in numba. Arrays in, arrays out; `tracker.render` documents their meaning."""

import math
from typing import Any

import numba
import numpy as np

Real = float | np.floating[Any]

# Clay and its lights (camera frame: x right, y down, z forward; directions point from the surface to the light).
_CLAY = (0.60, 0.68, 0.80)
_KEY_LIGHT, _KEY = (-0.45, -0.60, -0.66), 0.72
_FILL_LIGHT, _FILL = (0.80, -0.10, -0.59), 0.26
_RIM_LIGHT, _RIM = (0.15, -0.75, 0.64), 0.30
_AMBIENT = 0.22
_GLOSS = 0.16


@numba.njit(cache=True, nogil=True)
def mesh_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit vertex normals: (V, 3) float32 and (F, 3) to (V, 3) float32."""
    normals = np.zeros((vertices.shape[0], 3), np.float32)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        bx, by, bz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in (i, j, k):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for v in range(normals.shape[0]):
        length = math.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2)
        if length > 0:
            normals[v] /= length
    return normals


@numba.njit(cache=True, nogil=True, inline="always")
def _blend(values: np.ndarray, corners: np.ndarray, weights: tuple[Real, Real, Real], axis: int) -> Real:
    """One component interpolated over a triangle."""
    return (
        weights[0] * values[corners[0], axis]
        + weights[1] * values[corners[1], axis]
        + weights[2] * values[corners[2], axis]
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _blend_one(values: np.ndarray, corners: np.ndarray, weights: tuple[Real, Real, Real]) -> Real:
    """A number a vertex interpolated over a triangle."""
    return weights[0] * values[corners[0]] + weights[1] * values[corners[1]] + weights[2] * values[corners[2]]


@numba.njit(cache=True, nogil=True, inline="always")
def _irradiance(light: np.ndarray, channel: int, x: Real, y: Real, z: Real) -> Real:
    """Nine-band irradiance; the basis constants are already in `light`."""
    return (
        light[0, channel]
        + light[1, channel] * x
        + light[2, channel] * y
        + light[3, channel] * z
        + light[4, channel] * x * y
        + light[5, channel] * x * z
        + light[6, channel] * y * z
        + light[7, channel] * (x * x - y * y)
        + light[8, channel] * (3 * z * z - 1)
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _whole(index: np.ndarray, row: int, column: int, supersample: int) -> bool:
    """Whether all samples of the pixel with this first sample lie in one triangle, or all in none."""
    first = index[row, column]
    for i in range(supersample):
        for j in range(supersample):
            if index[row + i, column + j] != first:
                return False
    return True


@numba.njit(cache=True, nogil=True, inline="always")
def _weights(bary: np.ndarray, row: int, column: int, samples: int) -> tuple[Real, Real, Real]:
    """Barycentric weights of one sample (`samples` 1), or their mean over a pixel of samples x samples."""
    a, b, c = np.float32(0), np.float32(0), np.float32(0)
    for i in range(samples):
        for j in range(samples):
            a += bary[row + i, column + j, 0]
            b += bary[row + i, column + j, 1]
            c += bary[row + i, column + j, 2]
    share = np.float32(1.0 / (samples * samples))
    return a * share, b * share, c * share


@numba.njit(cache=True, nogil=True, inline="always")
def _textured(
    weights: tuple[Real, Real, Real],
    corners: tuple[np.ndarray, np.ndarray],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texture: np.ndarray,
    light: np.ndarray,
) -> tuple[Real, Real, Real, Real]:
    """Colour times coverage, and coverage, at one place of a triangle."""
    corners3d, corners_uv = corners
    normals, opacity, uv = vertices
    one, half, zero = np.float32(1), np.float32(0.5), np.float32(0)
    tex_rows, tex_columns = texture.shape[0], texture.shape[1]
    # Texel centres lie at i + 0.5, and row 0 is v = 1.
    s = _blend(uv, corners_uv, weights, 0) * np.float32(tex_columns) - half
    r = (one - _blend(uv, corners_uv, weights, 1)) * np.float32(tex_rows) - half
    s, r = min(max(s, zero), np.float32(tex_columns - 1)), min(max(r, zero), np.float32(tex_rows - 1))
    c0, r0 = int(s), int(r)
    c1, r1 = min(c0 + 1, tex_columns - 1), min(r0 + 1, tex_rows - 1)
    fs, fr = s - np.float32(c0), r - np.float32(r0)
    w00, w01, w10, w11 = (one - fr) * (one - fs), (one - fr) * fs, fr * (one - fs), fr * fs
    valid = w00 * texture[r0, c0, 3] + w01 * texture[r0, c1, 3] + w10 * texture[r1, c0, 3] + w11 * texture[r1, c1, 3]
    valid *= _blend_one(opacity, corners3d, weights)
    if valid <= zero:
        return zero, zero, zero, zero
    x, y, z = (
        _blend(normals, corners3d, weights, 0),
        _blend(normals, corners3d, weights, 1),
        _blend(normals, corners3d, weights, 2),
    )
    scale = one / max(np.float32(math.sqrt(x * x + y * y + z * z)), np.float32(1e-9))
    x, y, z = x * scale, y * scale, z * scale
    red = w00 * texture[r0, c0, 0] + w01 * texture[r0, c1, 0] + w10 * texture[r1, c0, 0] + w11 * texture[r1, c1, 0]
    green = w00 * texture[r0, c0, 1] + w01 * texture[r0, c1, 1] + w10 * texture[r1, c0, 1] + w11 * texture[r1, c1, 1]
    blue = w00 * texture[r0, c0, 2] + w01 * texture[r0, c1, 2] + w10 * texture[r1, c0, 2] + w11 * texture[r1, c1, 2]
    red = min(max(red * _irradiance(light, 0, x, y, z), zero), one)
    green = min(max(green * _irradiance(light, 1, x, y, z), zero), one)
    blue = min(max(blue * _irradiance(light, 2, x, y, z), zero), one)
    return valid * red, valid * green, valid * blue, valid


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_texture(
    fragments: tuple[np.ndarray, np.ndarray],
    topology: tuple[np.ndarray, np.ndarray, np.ndarray],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texture: np.ndarray,
    light: np.ndarray,
    supersample: int,
    once: bool,
) -> np.ndarray:
    """Textured, lit, averaged over the samples of a pixel: (H, W, 4) float32, premultiplied.

    With `once` a pixel that lies within one triangle is shaded at its centre alone.
    """
    index, bary = fragments
    triangles, uv_triangles, drawn = topology
    out = np.zeros((index.shape[0] // supersample, index.shape[1] // supersample, 4), np.float32)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            top, left = row * supersample, column * supersample
            # Samples a step: all of the pixel's at once, or one after another.
            step = supersample if once and _whole(index, top, left, supersample) else 1
            share = np.float32(step * step / (supersample * supersample))
            for i in range(top, top + supersample, step):
                for j in range(left, left + supersample, step):
                    t = index[i, j]
                    if t < 0 or not drawn[t]:
                        continue
                    place = _weights(bary, i, j, step)
                    red, green, blue, valid = _textured(
                        place, (triangles[t], uv_triangles[t]), vertices, texture, light
                    )
                    out[row, column, 0] += share * red
                    out[row, column, 1] += share * green
                    out[row, column, 2] += share * blue
                    out[row, column, 3] += share * valid
    return out


@numba.njit(cache=True, nogil=True, inline="always")
def _lambert(x: Real, y: Real, z: Real, light: tuple[float, float, float]) -> Real:
    return max(x * np.float32(light[0]) + y * np.float32(light[1]) + z * np.float32(light[2]), np.float32(0))


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_clay(
    fragments: tuple[np.ndarray, np.ndarray],
    topology: tuple[np.ndarray, np.ndarray],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    supersample: int,
) -> np.ndarray:
    """Clay under three lights: (H, W, 4) float32, premultiplied; pixels within one triangle are shaded once."""
    index, bary = fragments
    triangles, drawn = topology
    normals_cam, opacity, tone = vertices
    out = np.zeros((index.shape[0] // supersample, index.shape[1] // supersample, 4), np.float32)
    # Half vector of the key light and a distant viewer at -z.
    hx, hy, hz = _KEY_LIGHT[0], _KEY_LIGHT[1], _KEY_LIGHT[2] - 1.0
    h = math.sqrt(hx * hx + hy * hy + hz * hz)
    half = (hx / h, hy / h, hz / h)
    one = np.float32(1)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            top, left = row * supersample, column * supersample
            step = supersample if _whole(index, top, left, supersample) else 1
            share = np.float32(step * step / (supersample * supersample))
            for i in range(top, top + supersample, step):
                for j in range(left, left + supersample, step):
                    t = index[i, j]
                    if t < 0 or not drawn[t]:
                        continue
                    weights, corners = _weights(bary, i, j, step), triangles[t]
                    x = _blend(normals_cam, corners, weights, 0)
                    y = _blend(normals_cam, corners, weights, 1)
                    z = _blend(normals_cam, corners, weights, 2)
                    scale = one / max(np.float32(math.sqrt(x * x + y * y + z * z)), np.float32(1e-9))
                    x, y, z = x * scale, y * scale, z * scale
                    light = np.float32(_AMBIENT) + np.float32(_KEY) * _lambert(x, y, z, _KEY_LIGHT)
                    light += np.float32(_FILL) * _lambert(x, y, z, _FILL_LIGHT)
                    light += np.float32(_RIM) * _lambert(x, y, z, _RIM_LIGHT)
                    # To the power 24: a highlight about 20 degrees wide.
                    eighth = _lambert(x, y, z, half) ** 8
                    gloss = np.float32(_GLOSS) * eighth * eighth * eighth
                    light *= _blend_one(tone, corners, weights)
                    alpha = _blend_one(opacity, corners, weights)
                    for k in range(3):
                        out[row, column, k] += share * alpha * min(np.float32(_CLAY[k]) * light + gloss, one)
                    out[row, column, 3] += share * alpha
    return out


@numba.njit(cache=True, nogil=True)
def composite(rgba: np.ndarray, background: np.ndarray, opacity: float) -> np.ndarray:
    """Premultiplied (H, W, 4) over (H, W, 3), both float32: (H, W, 3) float32."""
    out = np.empty_like(background)
    for row in range(rgba.shape[0]):
        for column in range(rgba.shape[1]):
            keep = 1 - opacity * rgba[row, column, 3]
            for k in range(3):
                out[row, column, k] = opacity * rgba[row, column, k] + keep * background[row, column, k]
    return out


@numba.njit(cache=True, nogil=True)
def downsample_mask(index: np.ndarray, drawn: np.ndarray, supersample: int) -> np.ndarray:
    """Fraction of each pixel covered by the drawn triangles: (H, W) float32."""
    out = np.zeros((index.shape[0] // supersample, index.shape[1] // supersample), np.float32)
    share = np.float32(1.0 / (supersample * supersample))
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t >= 0 and drawn[t]:
                out[row // supersample, column // supersample] += share
    return out
