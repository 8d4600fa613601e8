"""How the hidden surfaces (sockets, mouth bag, teeth) follow a field given on the outer skin."""

import numpy as np

from tracker.head.build import eyes
from tracker.head.build.assemble import HeadMesh

# Share of the lip edge's motion in each ring of the mouth bag, from the edge inwards.
_BAG_SHARE = (1.0, 0.95, 0.75, 0.5, 0.25, 0.1, 0.0)
_SOCKET_SHARE = (1.0, 1.0, 0.7, 0.35, 0.1, 0.0)


def follow_openings(mesh: HeadMesh, field: np.ndarray, bag_share: tuple[float, ...] = _BAG_SHARE) -> np.ndarray:
    """Copies a field (V, K) from the lip and lid edges to the rings behind them."""
    out = field.copy()
    for group, loop, shares in (
        ("mouth_bag", "lip_loop", bag_share),
        ("left_socket", "left_lid_loop", _SOCKET_SHARE),
        ("right_socket", "right_lid_loop", _SOCKET_SHARE),
    ):
        edge = field[mesh.groups[loop]]
        rings = mesh.groups[group][:-1].reshape(len(shares), -1)
        for ids, share in zip(rings, shares, strict=True):
            out[ids] = share * edge
        out[mesh.groups[group][-1]] = 0.0
    return out


def keep_lids_outside(mesh: HeadMesh, displacement: np.ndarray) -> np.ndarray:
    """Mends a displacement (V, 3) so that skin and socket at activation 1 stay off the mean eyeballs."""
    out = displacement.copy()
    moved = mesh.vertices + displacement
    for side, name in ((1, "left"), (-1, "right")):
        centre = eyes.EYE_CENTRE_MM * [side, 1, 1]
        for groups, least in (((f"{name}_socket",), eyes.LID_INNER_MM), (("face",), eyes.LID_OUTER_MM)):
            ids = np.concatenate([mesh.groups[group] for group in groups])
            arm = moved[ids] - centre
            radius = np.linalg.norm(arm, axis=1, keepdims=True)
            push = np.maximum(least - radius, 0) / radius * arm
            out[ids] += push
    return out
