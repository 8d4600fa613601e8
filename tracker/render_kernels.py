"""Pixel loops of the renderer, in numba. Arrays in, arrays out; `tracker.render` documents their meaning."""

import math

import numba
import numpy as np

# Clay and its lights (camera frame: x right, y down, z forward; directions point from the surface to the light).
_CLAY = (0.60, 0.68, 0.80)
_KEY_LIGHT, _KEY = (-0.45, -0.60, -0.66), 0.72
_FILL_LIGHT, _FILL = (0.80, -0.10, -0.59), 0.26
_RIM_LIGHT, _RIM = (0.15, -0.75, 0.64), 0.30
_AMBIENT = 0.22
_GLOSS, _GLOSS_POWER = 0.16, 24.0


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
def _blend(values: np.ndarray, corners: np.ndarray, weights: np.ndarray, axis: int) -> float:
    """One component interpolated over a triangle."""
    return (
        weights[0] * values[corners[0], axis]
        + weights[1] * values[corners[1], axis]
        + weights[2] * values[corners[2], axis]
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _irradiance(light: np.ndarray, channel: int, x: float, y: float, z: float) -> float:
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


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_texture(
    fragments: tuple[np.ndarray, np.ndarray],
    topology: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    normals: np.ndarray,
    uv: np.ndarray,
    texture: np.ndarray,
    light: np.ndarray,
    supersample: int,
) -> np.ndarray:
    """Textured, lit, averaged over the samples of a pixel: (H, W, 4) float32, premultiplied."""
    index, bary = fragments
    triangles, uv_triangles, drawn, opacity = topology
    rows, columns = index.shape[0] // supersample, index.shape[1] // supersample
    out = np.zeros((rows, columns, 4), np.float32)
    tex_rows, tex_columns = texture.shape[0], texture.shape[1]
    share = np.float32(1.0 / (supersample * supersample))
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0 or not drawn[t]:
                continue
            weights, corners, uv_corners = bary[row, column], triangles[t], uv_triangles[t]
            x, y, z = (
                _blend(normals, corners, weights, 0),
                _blend(normals, corners, weights, 1),
                _blend(normals, corners, weights, 2),
            )
            scale = 1 / max(math.sqrt(x * x + y * y + z * z), 1e-9)
            x, y, z = x * scale, y * scale, z * scale
            # Texel centres lie at i + 0.5, and row 0 is v = 1.
            s = _blend(uv, uv_corners, weights, 0) * tex_columns - 0.5
            r = (1 - _blend(uv, uv_corners, weights, 1)) * tex_rows - 0.5
            s, r = min(max(s, 0.0), tex_columns - 1.0), min(max(r, 0.0), tex_rows - 1.0)
            c0, r0 = int(s), int(r)
            c1, r1 = min(c0 + 1, tex_columns - 1), min(r0 + 1, tex_rows - 1)
            fs, fr = s - c0, r - r0
            w00, w01, w10, w11 = (1 - fr) * (1 - fs), (1 - fr) * fs, fr * (1 - fs), fr * fs
            valid = (
                w00 * texture[r0, c0, 3]
                + w01 * texture[r0, c1, 3]
                + w10 * texture[r1, c0, 3]
                + w11 * texture[r1, c1, 3]
            )
            valid *= (
                weights[0] * opacity[corners[0]] + weights[1] * opacity[corners[1]] + weights[2] * opacity[corners[2]]
            )
            if valid <= 0:
                continue
            orow, ocolumn = row // supersample, column // supersample
            for k in range(3):
                albedo = (
                    w00 * texture[r0, c0, k]
                    + w01 * texture[r0, c1, k]
                    + w10 * texture[r1, c0, k]
                    + w11 * texture[r1, c1, k]
                )
                colour = albedo * _irradiance(light, k, x, y, z)
                out[orow, ocolumn, k] += share * valid * min(max(colour, 0.0), 1.0)
            out[orow, ocolumn, 3] += share * valid
    return out


@numba.njit(cache=True, nogil=True, inline="always")
def _lambert(x: float, y: float, z: float, light: tuple[float, float, float]) -> float:
    return max(x * light[0] + y * light[1] + z * light[2], 0.0)


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_clay(
    fragments: tuple[np.ndarray, np.ndarray],
    topology: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    normals_cam: np.ndarray,
    supersample: int,
) -> np.ndarray:
    """Clay under three lights: (H, W, 4) float32, premultiplied."""
    index, bary = fragments
    triangles, drawn, opacity, tone = topology
    out = np.zeros((index.shape[0] // supersample, index.shape[1] // supersample, 4), np.float32)
    share = np.float32(1.0 / (supersample * supersample))
    # Half vector of the key light and a distant viewer at -z.
    hx, hy, hz = _KEY_LIGHT[0], _KEY_LIGHT[1], _KEY_LIGHT[2] - 1.0
    h = math.sqrt(hx * hx + hy * hy + hz * hz)
    half = (hx / h, hy / h, hz / h)
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0 or not drawn[t]:
                continue
            weights, corners = bary[row, column], triangles[t]
            x = _blend(normals_cam, corners, weights, 0)
            y = _blend(normals_cam, corners, weights, 1)
            z = _blend(normals_cam, corners, weights, 2)
            scale = 1 / max(math.sqrt(x * x + y * y + z * z), 1e-9)
            x, y, z = x * scale, y * scale, z * scale
            light = _AMBIENT + _KEY * _lambert(x, y, z, _KEY_LIGHT) + _FILL * _lambert(x, y, z, _FILL_LIGHT)
            light += _RIM * _lambert(x, y, z, _RIM_LIGHT)
            gloss = _GLOSS * _lambert(x, y, z, half) ** _GLOSS_POWER
            light *= weights[0] * tone[corners[0]] + weights[1] * tone[corners[1]] + weights[2] * tone[corners[2]]
            alpha = (
                weights[0] * opacity[corners[0]] + weights[1] * opacity[corners[1]] + weights[2] * opacity[corners[2]]
            )
            orow, ocolumn = row // supersample, column // supersample
            for k in range(3):
                out[orow, ocolumn, k] += share * alpha * min(_CLAY[k] * light + gloss, 1.0)
            out[orow, ocolumn, 3] += share * alpha
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
