"""Eyelid shapes: the lids slide over the eyeball and meet.

The shape is a straight-line displacement, whose chord would cut the ball halfway; the closed lid therefore lies
further out than the open one, so that the mean of both still clears the ball.
"""

import numpy as np

from tracker.head.build import eyes
from tracker.head.build.assemble import HeadMesh
from tracker.head.build.canonical import LEFT_LOWER_LID, LEFT_UPPER_LID, smoothstep

# Share of the slit that the upper lid travels; the lower one rises by the rest.
UPPER_SHARE = 0.86
CLOSED_OUTER_MM = 13.9
CLOSED_INNER_MM = 13.4
_LID_INSIDE_MM = 13.0
# The upper lid closes a little over and in front of the lower one, so that no slit is left between them.
_OVERLAP_SHARE = 0.015
_UPPER_IN_FRONT_MM = 0.15
# Elevation above the lid's edge (radians over the ball) at which the skin no longer follows it.
_FOLLOW_UP_RAD = 0.85
_FOLLOW_DOWN_RAD = 0.75


def eyelid_basis(mesh: HeadMesh) -> np.ndarray:
    """(V, 3, 2) mm: left and right closure."""
    out = np.zeros((len(mesh.vertices), 3, 2))
    out[..., 0] = _closure(mesh, "left", 1, LEFT_UPPER_LID, LEFT_LOWER_LID)
    out[..., 1] = out[mesh.mirror][..., 0] * [-1, 1, 1]
    return out


def _closure(mesh: HeadMesh, name: str, side: int, upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    centre = eyes.EYE_CENTRE_MM * [side, 1, 1]
    arm = mesh.vertices - centre
    elevation = np.arctan2(arm[:, 1], arm[:, 2])
    upper_edge, lower_edge = _edges(arm, elevation, mesh, name, upper, lower)
    radius = np.linalg.norm(arm, axis=1)
    near = smoothstep((24.0 - radius) / 8.0) * (arm[:, 2] > 0)
    above = elevation - upper_edge
    below = lower_edge - elevation
    is_upper = above > below
    reach = np.where(is_upper, 1 - smoothstep(above / _FOLLOW_UP_RAD), 1 - smoothstep(below / _FOLLOW_DOWN_RAD))
    slit = upper_edge - lower_edge
    turn = np.where(is_upper, -(UPPER_SHARE + _OVERLAP_SHARE) * slit, (1 - UPPER_SHARE) * slit) * reach
    # Turning about the x axis through the ball's middle keeps every vertex at its distance from that axis.
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.stack([arm[:, 0], cos * arm[:, 1] + sin * arm[:, 2], -sin * arm[:, 1] + cos * arm[:, 2]], 1)
    closed_radius = np.where(is_upper, CLOSED_OUTER_MM, CLOSED_OUTER_MM - _UPPER_IN_FRONT_MM)
    turned *= ((1 - reach) * radius + reach * closed_radius)[:, None] / np.maximum(radius, 1e-9)[:, None]
    moved = (turned - arm) * near[:, None]
    out = np.zeros_like(arm)
    face = mesh.groups["face"]
    out[face] = moved[face]
    _move_socket(out, mesh, name, centre)
    return out


def _edges(
    arm: np.ndarray, elevation: np.ndarray, mesh: HeadMesh, name: str, upper: tuple[int, ...], lower: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Elevations of the upper and the lower lid edge as functions of x, at every vertex."""
    loop = mesh.groups[f"{name}_lid_loop"]
    inner, outer = sorted((upper[0], upper[-1]), key=lambda i: abs(mesh.vertices[i, 0]))
    position = [list(loop).index(i) for i in (outer, inner)]
    arc = np.roll(loop, -position[0])
    cut = list(arc).index(inner)
    first, second = arc[: cut + 1], np.concatenate([arc[cut:], arc[:1]])
    top, bottom = (first, second) if set(upper) <= set(first.tolist()) else (second, first)
    edges = []
    for ids in (top, bottom):
        order = ids[np.argsort(arm[ids, 0])]
        edges.append(np.interp(arm[:, 0], arm[order, 0], elevation[order]))
    return edges[0], edges[1]


def _move_socket(out: np.ndarray, mesh: HeadMesh, name: str, centre: np.ndarray) -> None:
    loop = mesh.groups[f"{name}_lid_loop"]
    rings = mesh.groups[f"{name}_socket"][:-1].reshape(-1, len(loop))
    closed = mesh.vertices[loop] + out[loop] - centre
    closed *= CLOSED_INNER_MM / np.linalg.norm(closed, axis=1, keepdims=True)
    out[rings[0]] = centre + closed - mesh.vertices[rings[0]]
    out[rings[1]] = out[rings[0]]
    # The lid's inside spans from its edge to where it leaves the ball: half-way, and clear of the ball on the way.
    half_way = closed / np.linalg.norm(closed, axis=1, keepdims=True) * eyes.LID_INNER_MM
    half_way = half_way + mesh.vertices[rings[2]] - centre
    half_way *= _LID_INSIDE_MM / np.linalg.norm(half_way, axis=1, keepdims=True)
    out[rings[2]] = centre + half_way - mesh.vertices[rings[2]]
