"""Pixel loop of the review frames, in numba: the head in its colours and as clay over a picture, in one pass.

Light is worked out at the vertices. It is smooth over a triangle, which is a few pixels wide: nine bands of a light, or
three lights on clay, differ from those of the interpolated normal by two levels of 255 at most (tested).
"""

import math
from pathlib import Path

import numba
import numpy as np

from tracker import render_kernels
from tracker.kernels.options import renew
from tracker.render_kernels import Corners, Place, Real, blend, corners_of, irradiance, texel

# Clay and its lights (camera frame: x right, y down, z forward; directions point from the surface to the light).
_CLAY = (0.60, 0.68, 0.80)
_KEY_LIGHT, _KEY = (-0.45, -0.60, -0.66), 0.72
_FILL_LIGHT, _FILL = (0.80, -0.10, -0.59), 0.26
_RIM_LIGHT, _RIM = (0.15, -0.75, 0.64), 0.30
_AMBIENT = 0.22
_GLOSS = 0.16
_CLAY_OPACITY = 0.9
# A pixel counts as wholly covered from this share on.
_WHOLE_PIXEL = 0.999
# Kinds of triangles.
COLOURED, MEASURED = 1, 2
# Columns of the values at the vertices, and their number.
_LIT, _FADE, _SCULPTED, _VALUES = 0, 3, 4, 8


@numba.njit(cache=True, nogil=True, inline="always")
def _lambert(x: Real, y: Real, z: Real, light: tuple[float, float, float]) -> Real:
    return max(x * light[0] + y * light[1] + z * light[2], 0.0)


@numba.njit(cache=True, nogil=True)
def lit_vertices(
    normals_head: np.ndarray, R: np.ndarray, light: np.ndarray, fade: np.ndarray, tone: np.ndarray
) -> np.ndarray:
    """What is interpolated over the triangles.

    Args:
        normals_head: (V, 3) unit normals, head space.
        R: (3, 3) head to camera.
        light: (9, 3) light in head space, times the constants of its functions.
        fade: (V,) opacity.
        tone: (V,) brightness of the clay.

    Returns:
        (V, 8) float32: irradiance, opacity, colour of the clay times its opacity, its opacity.
    """
    # Half vector of the key light and a distant viewer at -z.
    hx, hy, hz = _KEY_LIGHT[0], _KEY_LIGHT[1], _KEY_LIGHT[2] - 1.0
    h = math.sqrt(hx * hx + hy * hy + hz * hz)
    half = (hx / h, hy / h, hz / h)
    out = np.empty((normals_head.shape[0], _VALUES), np.float32)
    for v in range(out.shape[0]):
        x, y, z = normals_head[v, 0], normals_head[v, 1], normals_head[v, 2]
        for k in range(3):
            out[v, _LIT + k] = irradiance(light, k, x, y, z)
        out[v, _FADE] = fade[v]
        cx = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z
        cy = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z
        cz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z
        shade = _AMBIENT + _KEY * _lambert(cx, cy, cz, _KEY_LIGHT)
        shade += _FILL * _lambert(cx, cy, cz, _FILL_LIGHT) + _RIM * _lambert(cx, cy, cz, _RIM_LIGHT)
        # To the power 24: a highlight about 20 degrees wide.
        eighth = _lambert(cx, cy, cz, half) ** 8
        gloss = _GLOSS * eighth * eighth * eighth
        for k in range(3):
            out[v, _SCULPTED + k] = _CLAY_OPACITY * fade[v] * min(_CLAY[k] * shade * tone[v] + gloss, 1.0)
        out[v, _SCULPTED + 3] = _CLAY_OPACITY * fade[v]
    return out


@numba.njit(cache=True, nogil=True, inline="always")
def _touch(triangles: np.ndarray, first: int, second: int) -> bool:
    """Whether two triangles share a vertex."""
    i, j, k = triangles[first, 0], triangles[first, 1], triangles[first, 2]
    a, b, c = triangles[second, 0], triangles[second, 1], triangles[second, 2]
    return a in (i, j, k) or b in (i, j, k) or c in (i, j, k)


@numba.njit(cache=True, nogil=True, inline="always")
def _alike(index: np.ndarray, triangles: np.ndarray, kind: np.ndarray, corner: tuple[int, int], samples: int) -> bool:
    """Whether all samples of the pixel with this first one show nothing, or neighbouring triangles of one kind."""
    row, column = corner
    first = index[row, column]
    for i in range(row, row + samples):
        for j in range(column, column + samples):
            t = index[i, j]
            if t != first and (t < 0 or first < 0 or kind[t] != kind[first] or not _touch(triangles, first, t)):
                return False
    return True


@numba.njit(cache=True, nogil=True, inline="always")
def _place(vertices: np.ndarray, corners: Corners, du: float, dv: float) -> Place:
    """Perspective-correct weights of the corners where the ray (du, dv, 1) meets a triangle's plane.

    Beside the triangle, a place at its edge: in the plane of one seen edge-on a pixel is a long way.
    """
    i, j, k = corners
    ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
    bx, by, bz = vertices[j, 0], vertices[j, 1], vertices[j, 2]
    cx, cy, cz = vertices[k, 0], vertices[k, 1], vertices[k, 2]
    wa = du * (by * cz - bz * cy) + dv * (bz * cx - bx * cz) + (bx * cy - by * cx)
    wb = du * (cy * az - cz * ay) + dv * (cz * ax - cx * az) + (cx * ay - cy * ax)
    wc = du * (ay * bz - az * by) + dv * (az * bx - ax * bz) + (ax * by - ay * bx)
    # All three have the sign of their sum inside.
    sign = 1.0 if wa + wb + wc > 0 else -1.0
    wa, wb, wc = max(wa * sign, 0.0), max(wb * sign, 0.0), max(wc * sign, 0.0)
    share = 1 / (wa + wb + wc)
    return np.float32(wa * share), np.float32(wb * share), np.float32(wc * share)


@numba.njit(cache=True, nogil=True, inline="always")
def _colours(
    t: int,
    corners: Corners,
    place: Place,
    surface: tuple[np.ndarray, np.ndarray, np.ndarray],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texture: np.ndarray,
) -> tuple[Real, Real, Real, Real]:
    """Lit colour times coverage, and coverage, at one place of a triangle."""
    zero, one = np.float32(0), np.float32(1)
    _, uv_triangles, kind = surface
    _, values, uv = vertices
    if not kind[t] & COLOURED:
        return zero, zero, zero, zero
    red, green, blue, valid = texel(texture, uv, corners_of(uv_triangles, t), place)
    valid *= blend(values, corners, place, _FADE)
    red *= blend(values, corners, place, _LIT)
    green *= blend(values, corners, place, _LIT + 1)
    blue *= blend(values, corners, place, _LIT + 2)
    return (
        valid * min(max(red, zero), one),
        valid * min(max(green, zero), one),
        valid * min(max(blue, zero), one),
        valid,
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _over(colour: Real, alpha: Real, behind: Real) -> Real:
    """A colour in [0, 1], times its coverage, over a level of 255: the level, within [0, 255]."""
    level = np.float32(255)
    return min(max(level * colour + (np.float32(1) - alpha) * behind, np.float32(0)), level)


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_both(
    index: np.ndarray,
    surface: tuple[np.ndarray, np.ndarray, np.ndarray],
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texture: np.ndarray,
    camera: tuple[float, float, float],
    supersample: int,
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[float, int]:
    """Paints a head twice over a picture; a pixel that shows neighbouring triangles is shaded once, at its centre.

    Args:
        index: (H', W') triangle or -1, `supersample` times as fine as the picture.
        surface: (F, 3) vertices and (F, 3) texture vertices of the triangles; (F,) uint8, their kind: `COLOURED` if
            they show their colours, plus `MEASURED` if these are compared with the picture.
        vertices: (V, 3) float64 in the camera frame, (V, 8) from `lit_vertices`, (T, 2) texture coordinates.
        texture: (Th, Tw, 4) float32 colour and coverage.
        camera: focal length and principal point, pixels of the picture.
        supersample: samples a pixel and axis.
        pictures: (H, W, 3) uint8: the picture, and what receives it with the colours and with the clay.

    Returns:
        Sum of squared differences between colours and picture, both in [0, 1], over the pixels that compared triangles
        of known colour cover wholly; their number.
    """
    triangles, kind, values = surface[0], surface[2], vertices[1]
    picture, overlay, geometry = pictures
    focal, centre_x, centre_y = camera
    zero, half = np.float32(0), np.float32(0.5)
    squares, count = 0.0, 0
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            top, left = row * supersample, column * supersample
            alike = _alike(index, triangles, kind, (top, left), supersample)
            if alike and index[top, left] < 0:
                for c in range(3):
                    overlay[row, column, c] = geometry[row, column, c] = picture[row, column, c]
                continue
            # Samples a step: all of the pixel's at once, or one after another.
            step = supersample if alike else 1
            share = np.float32(step * step / (supersample * supersample))
            part = zero
            red, green, blue, alpha = zero, zero, zero, zero
            clay_red, clay_green, clay_blue, clay_alpha = zero, zero, zero, zero
            for i in range(top, top + supersample, step):
                for j in range(left, left + supersample, step):
                    t = index[i, j]
                    if t < 0:
                        continue
                    du = ((j + 0.5 * step) / supersample - centre_x) / focal
                    dv = ((i + 0.5 * step) / supersample - centre_y) / focal
                    corners = corners_of(triangles, t)
                    place = _place(vertices[0], corners, du, dv)
                    clay_red += share * blend(values, corners, place, _SCULPTED)
                    clay_green += share * blend(values, corners, place, _SCULPTED + 1)
                    clay_blue += share * blend(values, corners, place, _SCULPTED + 2)
                    clay_alpha += share * blend(values, corners, place, _SCULPTED + 3)
                    r, g, b, valid = _colours(t, corners, place, surface, vertices, texture)
                    red += share * r
                    green += share * g
                    blue += share * b
                    alpha += share * valid
                    part += share if kind[t] & MEASURED else zero
            known = part >= _WHOLE_PIXEL and alpha >= _WHOLE_PIXEL
            count += 1 if known else 0
            colours, clay = (red, green, blue), (clay_red, clay_green, clay_blue)
            for c in range(3):
                behind = np.float32(picture[row, column, c])
                shown = _over(colours[c], alpha, behind)
                squares += float((shown - behind) / 255.0) ** 2 if known else 0.0
                overlay[row, column, c] = np.uint8(shown + half)
                geometry[row, column, c] = np.uint8(_over(clay[c], clay_alpha, behind) + half)
    return squares, count


renew(paint_both, [Path(render_kernels.__file__)])
