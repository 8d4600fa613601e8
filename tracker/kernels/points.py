"""Projection of surface points and its Jacobian, one pass over the points: the twin of `tracker.points` in torch.

A pose is a tuple of small arrays in the points' own dtype, made once a state by `posed`:

    R (3, 3), t (3,)            head to camera
    turns (3, 3, 3)             rotations of jaw, left eye, right eye
    pivots (3, 3)               their joints, expression included
    pivot_expression (3, 3, E)  (turn - I) times the derivative of the joint by the expression
    pivot_shape (3, 3, S)       the same by the identity; S = 0 where identity is not asked for
    axes (2, 2, 3)              increments of yaw and pitch of both eyes
    expression (E,), lids (2,)
    features (27,), turned (27, 7)   pose correctives: vec(turn - I) and its derivative by jaw, yaws and pitches
    camera (3,)                 focal length, cx, cy
"""

import math
from typing import Any

import numba
import numpy as np

from tracker.kernels.options import FAST

Pose = tuple[Any, ...]
Surface = tuple[Any, ...]
Joints = tuple[np.ndarray, np.ndarray, np.ndarray]
_EYE_COLUMNS = 9
_LID_COLUMNS = 13
_EXPRESSION_COLUMNS = 15


@numba.njit(cache=True, nogil=True)
def posed(
    R: np.ndarray,
    t: np.ndarray,
    jaw: np.ndarray,
    eyes: np.ndarray,
    lids: np.ndarray,
    expression: np.ndarray,
    joints: Joints,
    camera: np.ndarray,
) -> Pose:
    """The pose of a state.

    Args:
        R: (3, 3).
        t: (3,).
        jaw: (3, 3) rotation of the jaw.
        eyes: (2, 2) yaw and pitch of both eyes.
        lids: (2,).
        expression: (E,).
        joints: (3, 3) positions without expression, (3, 3, E) and (3, 3, S) derivatives, in the points' dtype.
        camera: (3,) focal length, cx, cy.
    """
    pivots, by_expression, by_shape = joints
    dtype = pivots.dtype
    turns, axes = np.empty((3, 3, 3)), np.zeros((2, 2, 3))
    turns[0] = jaw
    for side in range(2):
        cy, sy = math.cos(eyes[side, 0]), math.sin(eyes[side, 0])
        cp, sp = math.cos(eyes[side, 1]), math.sin(eyes[side, 1])
        turn = turns[1 + side]
        turn[0, 0], turn[0, 1], turn[0, 2] = cy, sy * sp, sy * cp
        turn[1, 0], turn[1, 1], turn[1, 2] = 0, cp, -sp
        turn[2, 0], turn[2, 1], turn[2, 2] = -sy, cy * sp, cy * cp
        axes[side, 0, 1] = 1
        axes[side, 1, 0], axes[side, 1, 2] = cy, -sy
    deltas = turns.copy()
    for j in range(3):
        for a in range(3):
            deltas[j, a, a] -= 1
    moved = np.empty((3, 3))
    through_expression, through_shape = np.zeros(by_expression.shape), np.zeros(by_shape.shape)
    for j in range(3):
        for a in range(3):
            value = float(pivots[j, a])
            for e in range(expression.shape[0]):
                value += by_expression[j, a, e] * expression[e]
            moved[j, a] = value
            for b in range(3):
                for e in range(by_expression.shape[2]):
                    through_expression[j, a, e] += deltas[j, a, b] * by_expression[j, b, e]
                for s in range(by_shape.shape[2]):
                    through_shape[j, a, s] += deltas[j, a, b] * by_shape[j, b, s]
    turned = np.zeros((27, 7))
    for c in range(7):
        j = 0 if c < 3 else 1 + (c - 3) // 2
        axis = np.zeros(3)
        if c < 3:
            axis[c] = 1
        else:
            axis[:] = axes[j - 1, (c - 3) % 2]
        for b in range(3):
            x, y, z = turns[j, 0, b], turns[j, 1, b], turns[j, 2, b]
            turned[9 * j + b, c] = axis[1] * z - axis[2] * y
            turned[9 * j + 3 + b, c] = axis[2] * x - axis[0] * z
            turned[9 * j + 6 + b, c] = axis[0] * y - axis[1] * x
    return (
        R.astype(dtype),
        t.astype(dtype),
        turns.astype(dtype),
        moved.astype(dtype),
        through_expression.astype(dtype),
        through_shape.astype(dtype),
        axes.astype(dtype),
        expression.astype(dtype),
        lids.astype(dtype),
        deltas.reshape(27).astype(dtype),
        turned.astype(dtype),
        camera.astype(dtype),
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _place(surface: Surface, pose: Pose, n: int, unposed: np.ndarray, transform: np.ndarray, head: np.ndarray) -> None:
    """Unposed position, skinning transform and head-space position of point n."""
    rest, basis, lid_basis, weights, correctives, _ = surface
    _, _, turns, pivots, _, _, _, expression, lids, features, _, _ = pose
    for a in range(3):
        value = rest[n, a]
        for e in range(expression.shape[0]):
            value += basis[n, a, e] * expression[e]
        if correctives.shape[0] > 0:
            for k in range(27):
                value += correctives[n, a, k] * features[k]
        unposed[a] = value
    for a in range(3):
        moved = unposed[a] + lid_basis[n, a, 0] * lids[0] + lid_basis[n, a, 1] * lids[1]
        for b in range(3):
            transform[a, b] = 1 if a == b else 0
        for j in range(3):
            w = weights[n, j]
            if w != 0:
                for b in range(3):
                    delta = turns[j, a, b] - (1 if a == b else 0)
                    transform[a, b] += w * delta
                    moved += w * delta * (unposed[b] - pivots[j, b])
        head[a] = moved


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def place(surface: Surface, pose: Pose, head: np.ndarray) -> None:
    """Writes the head-space positions (N, 3) of all points."""
    dtype = head.dtype
    unposed, transform = np.empty(3, dtype), np.empty((3, 3), dtype)
    for n in range(head.shape[0]):
        _place(surface, pose, n, unposed, transform, head[n])


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def project(surface: Surface, pose: Pose, pixels: np.ndarray) -> None:
    """Writes the pixels (N, 2) of all points."""
    R, t, camera = pose[0], pose[1], pose[11]
    dtype = pixels.dtype
    unposed, head, transform = np.empty(3, dtype), np.empty(3, dtype), np.empty((3, 3), dtype)
    for m in range(pixels.shape[0]):
        _place(surface, pose, m, unposed, transform, head)
        x = R[0, 0] * head[0] + R[0, 1] * head[1] + R[0, 2] * head[2] + t[0]
        y = R[1, 0] * head[0] + R[1, 1] * head[1] + R[1, 2] * head[2] + t[1]
        z = R[2, 0] * head[0] + R[2, 1] * head[1] + R[2, 2] * head[2] + t[2]
        pixels[m, 0] = camera[0] * x / z + camera[1]
        pixels[m, 1] = camera[0] * y / z + camera[2]


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def linearise(surface: Surface, pose: Pose, pixels: np.ndarray, jacobian: np.ndarray, by_rest: np.ndarray) -> None:
    """Pixels and their derivatives.

    Args:
        surface: rest (N, 3), expression basis (N, 3, E), lid basis (N, 3, 2), skinning weights of jaw and eyes (N, 3),
            correctives (N, 3, 27) or (0, 3, 27), shape basis (N, 3, S), S = 0 where identity is not asked for.
        pose: see the module.
        pixels: (N, 2) written.
        jacobian: (N, 2, 15 + E) written; or (N, 2, 15 + E + S + 3), then also by identity, log focal length, cx, cy.
        by_rest: (N, 2, 3) written, derivative by the point's own rest position.
    """
    _, basis, lid_basis, weights, correctives, shape_basis = surface
    R, t, turns, pivots, pivot_expression, pivot_shape, axes, _, _, _, turned, camera = pose
    expressions, shapes = basis.shape[2], shape_basis.shape[2]
    shared = jacobian.shape[2] > _EXPRESSION_COLUMNS + expressions
    first_shape = _EXPRESSION_COLUMNS + expressions
    dtype = pixels.dtype
    unposed, head, transform = np.empty(3, dtype), np.empty(3, dtype), np.empty((3, 3), dtype)
    P, D, inner = np.zeros((2, 3), dtype), np.empty((2, 3), dtype), np.empty((2, 3), dtype)
    arm, column = np.empty(3, dtype), np.empty(3, dtype)
    for n in range(pixels.shape[0]):
        _place(surface, pose, n, unposed, transform, head)
        x = R[0, 0] * head[0] + R[0, 1] * head[1] + R[0, 2] * head[2]
        y = R[1, 0] * head[0] + R[1, 1] * head[1] + R[1, 2] * head[2]
        z = R[2, 0] * head[0] + R[2, 1] * head[1] + R[2, 2] * head[2]
        cx, cy, cz = x + t[0], y + t[1], z + t[2]
        scale = camera[0] / cz
        pixels[n, 0], pixels[n, 1] = scale * cx + camera[1], scale * cy + camera[2]
        P[0, 0], P[0, 2], P[1, 1], P[1, 2] = scale, -scale * cx / cz, scale, -scale * cy / cz
        for i in range(2):
            row = jacobian[n, i]
            p0, p1, p2 = P[i, 0], P[i, 1], P[i, 2]
            # - P [R x]x
            row[0], row[1], row[2] = p2 * y - p1 * z, p0 * z - p2 * x, p1 * x - p0 * y
            row[3], row[4], row[5] = p0, p1, p2
            for b in range(3):
                D[i, b] = p0 * R[0, b] + p1 * R[1, b] + p2 * R[2, b]
            for b in range(3):
                inner[i, b] = D[i, 0] * transform[0, b] + D[i, 1] * transform[1, b] + D[i, 2] * transform[2, b]
                by_rest[n, i, b] = inner[i, b]
            for k in range(6, _LID_COLUMNS):
                row[k] = 0
            row[13] = D[i, 0] * lid_basis[n, 0, 0] + D[i, 1] * lid_basis[n, 1, 0] + D[i, 2] * lid_basis[n, 2, 0]
            row[14] = D[i, 0] * lid_basis[n, 0, 1] + D[i, 1] * lid_basis[n, 1, 1] + D[i, 2] * lid_basis[n, 2, 1]
            i0, i1, i2 = inner[i, 0], inner[i, 1], inner[i, 2]
            for e in range(expressions):
                row[15 + e] = i0 * basis[n, 0, e] + i1 * basis[n, 1, e] + i2 * basis[n, 2, e]
            if shared:
                for s in range(shapes):
                    row[first_shape + s] = (
                        i0 * shape_basis[n, 0, s] + i1 * shape_basis[n, 1, s] + i2 * shape_basis[n, 2, s]
                    )
                at = first_shape + shapes
                row[at] = pixels[n, i] - camera[1 + i]
                row[at + 1], row[at + 2] = 1 - i, i
            if correctives.shape[0] > 0:
                for c in range(7):
                    value = row[6 + c]
                    for a in range(3):
                        moved = dtype.type(0)
                        for k in range(27):
                            moved += correctives[n, a, k] * turned[k, c]
                        value += inner[i, a] * moved
                    row[6 + c] = value
        for j in range(3):
            w = weights[n, j]
            if w == 0:
                continue
            for a in range(3):
                value = dtype.type(0)
                for b in range(3):
                    value += turns[j, a, b] * (unposed[b] - pivots[j, b])
                arm[a] = value
            for i in range(2):
                row = jacobian[n, i]
                d0, d1, d2 = D[i, 0], D[i, 1], D[i, 2]
                if j == 0:
                    row[6] += w * (d2 * arm[1] - d1 * arm[2])
                    row[7] += w * (d0 * arm[2] - d2 * arm[0])
                    row[8] += w * (d1 * arm[0] - d0 * arm[1])
                else:
                    for angle in range(2):
                        axis = axes[j - 1, angle]
                        column[0] = axis[1] * arm[2] - axis[2] * arm[1]
                        column[1] = axis[2] * arm[0] - axis[0] * arm[2]
                        column[2] = axis[0] * arm[1] - axis[1] * arm[0]
                        row[_EYE_COLUMNS + 2 * (j - 1) + angle] += w * (
                            d0 * column[0] + d1 * column[1] + d2 * column[2]
                        )
                for e in range(expressions):
                    row[15 + e] -= w * (
                        d0 * pivot_expression[j, 0, e] + d1 * pivot_expression[j, 1, e] + d2 * pivot_expression[j, 2, e]
                    )
                if shared:
                    for s in range(shapes):
                        row[first_shape + s] -= w * (
                            d0 * pivot_shape[j, 0, s] + d1 * pivot_shape[j, 1, s] + d2 * pivot_shape[j, 2, s]
                        )
