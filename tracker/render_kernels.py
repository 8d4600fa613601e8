"""Pixel loops of the renderer, in numba. Arrays in, arrays out; `tracker.render` documents their meaning."""

import math
from typing import Any

import numba
import numpy as np

Real = float | np.floating[Any]
Corners = tuple[np.uint32, np.uint32, np.uint32]
Place = tuple[Real, Real, Real]


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
def corners_of(triangles: np.ndarray, t: int) -> Corners:
    """Vertices of a triangle, unsigned: an index that cannot be negative needs no look at its sign."""
    return np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])


@numba.njit(cache=True, nogil=True, inline="always")
def blend(values: np.ndarray, corners: Corners, place: Place, column: int) -> Real:
    """One column of (V, C) values interpolated over a triangle, at its barycentric weights."""
    i, j, k = corners
    return place[0] * values[i, column] + place[1] * values[j, column] + place[2] * values[k, column]


@numba.njit(cache=True, nogil=True, inline="always")
def irradiance(light: np.ndarray, channel: int, x: Real, y: Real, z: Real) -> Real:
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
def _mix(texture: np.ndarray, cells: tuple[int, int, int, int], shares: tuple[Real, Real, Real, Real], c: int) -> Real:
    """One channel of a texture between four texels."""
    r0, r1, c0, c1 = cells
    return (
        shares[0] * texture[r0, c0, c]
        + shares[1] * texture[r0, c1, c]
        + shares[2] * texture[r1, c0, c]
        + shares[3] * texture[r1, c1, c]
    )


@numba.njit(cache=True, nogil=True, inline="always")
def texel(texture: np.ndarray, uv: np.ndarray, corners: Corners, place: Place) -> tuple[Real, Real, Real, Real]:
    """The four channels of a (Th, Tw, 4) float32 texture at one place of a triangle, between its texels."""
    one, half, zero = np.float32(1), np.float32(0.5), np.float32(0)
    rows, columns = texture.shape[0], texture.shape[1]
    # Texel centres lie at i + 0.5, and row 0 is v = 1.
    s = blend(uv, corners, place, 0) * np.float32(columns) - half
    r = (one - blend(uv, corners, place, 1)) * np.float32(rows) - half
    s, r = min(max(s, zero), np.float32(columns - 1)), min(max(r, zero), np.float32(rows - 1))
    c0, r0 = int(s), int(r)
    cells = (r0, min(r0 + 1, rows - 1), c0, min(c0 + 1, columns - 1))
    fs, fr = s - np.float32(c0), r - np.float32(r0)
    shares = ((one - fr) * (one - fs), (one - fr) * fs, fr * (one - fs), fr * fs)
    return (
        _mix(texture, cells, shares, 0),
        _mix(texture, cells, shares, 1),
        _mix(texture, cells, shares, 2),
        _mix(texture, cells, shares, 3),
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _textured(
    place: Place,
    corners: tuple[Corners, Corners],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texture: np.ndarray,
    light: np.ndarray,
) -> tuple[Real, Real, Real, Real]:
    """Colour times coverage, and coverage, at one place of a triangle."""
    corners3d, corners_uv = corners
    normals, opacity, uv = vertices
    one, zero = np.float32(1), np.float32(0)
    red, green, blue, valid = texel(texture, uv, corners_uv, place)
    i, j, k = corners3d
    valid *= place[0] * opacity[i] + place[1] * opacity[j] + place[2] * opacity[k]
    if valid <= zero:
        return zero, zero, zero, zero
    x, y, z = (
        blend(normals, corners3d, place, 0),
        blend(normals, corners3d, place, 1),
        blend(normals, corners3d, place, 2),
    )
    scale = one / max(np.float32(math.sqrt(x * x + y * y + z * z)), np.float32(1e-9))
    x, y, z = x * scale, y * scale, z * scale
    red = min(max(red * irradiance(light, 0, x, y, z), zero), one)
    green = min(max(green * irradiance(light, 1, x, y, z), zero), one)
    blue = min(max(blue * irradiance(light, 2, x, y, z), zero), one)
    return valid * red, valid * green, valid * blue, valid


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_texture(
    fragments: tuple[np.ndarray, np.ndarray],
    topology: tuple[np.ndarray, np.ndarray, np.ndarray],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texture: np.ndarray,
    light: np.ndarray,
    supersample: int,
) -> np.ndarray:
    """Textured, lit, averaged over the samples of a pixel: (H, W, 4) float32, premultiplied."""
    index, bary = fragments
    triangles, uv_triangles, drawn = topology
    out = np.zeros((index.shape[0] // supersample, index.shape[1] // supersample, 4), np.float32)
    share = np.float32(1.0 / (supersample * supersample))
    for i in range(out.shape[0] * supersample):
        for j in range(out.shape[1] * supersample):
            t = index[i, j]
            if t < 0 or not drawn[t]:
                continue
            corners = (corners_of(triangles, t), corners_of(uv_triangles, t))
            place = (bary[i, j, 0], bary[i, j, 1], bary[i, j, 2])
            red, green, blue, valid = _textured(place, corners, vertices, texture, light)
            row, column = i // supersample, j // supersample
            out[row, column, 0] += share * red
            out[row, column, 1] += share * green
            out[row, column, 2] += share * blue
            out[row, column, 3] += share * valid
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
