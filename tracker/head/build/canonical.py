"""The coarse face: MediaPipe's canonical 468-point face brought to anthropometric size, eyes and mouth opened.

Source of the geometry: data/canonical_face_model.obj (google/mediapipe, Apache-2.0, see data/NOTICE). Sizes: ANSUR
1988/2012 summary statistics and Farkas, Anthropometry of the Head and Face, 1994, means of both sexes.
"""

from pathlib import Path

import numpy as np

from tracker.head.build.fair import fair_values

CANONICAL_OBJ = Path(__file__).parent / "data" / "canonical_face_model.obj"

# Rings of the FaceMesh topology, subject's right side (negative x) from the outer corner.
RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

UPPER_SECOND_RING = (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292)
LOWER_SECOND_RING = (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292)
SECOND_RING_GAP_MM = 0.7

EYE_Y_MM = 26.3
EYE_X_MM = 31.5  # half the mean inter-pupillary distance, 63 mm
# The closed lips overlap by twice this, so that rounding cannot show the teeth through them.
LIP_OVERLAP_MM = 0.04
LIP_CLOSING_RANGE_MM = 12.0


def read_canonical(path: Path = CANONICAL_OBJ) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (468, 3) in millimetres and triangles (898, 3)."""
    vertices, triangles = [], []
    for line in path.read_text().splitlines():
        parts = line.split()
        if parts[:1] == ["v"]:
            vertices.append([10 * float(value) for value in parts[1:4]])
        elif parts[:1] == ["f"]:
            triangles.append([int(corner.split("/")[0]) - 1 for corner in parts[1:4]])
    return np.array(vertices), np.array(triangles)


def coarse_face() -> tuple[np.ndarray, np.ndarray]:
    """The metric face with open eye slits and closed lips: (468, 3) mm, and triangles without lid and lip fillings."""
    vertices, triangles = read_canonical()
    vertices = to_metric(vertices)
    for ring in (
        RIGHT_UPPER_LID + RIGHT_LOWER_LID,
        LEFT_UPPER_LID + LEFT_LOWER_LID,
        UPPER_INNER_LIP + LOWER_INNER_LIP,
    ):
        triangles = triangles[~np.isin(triangles, ring).all(1)]
    return close_lips(vertices, triangles), triangles


def to_metric(vertices: np.ndarray) -> np.ndarray:
    """Bends the canonical face to mean human proportions (mm in, mm out).

    The canonical model is 155 mm wide before the ears and 127 mm from sellion to chin; means are about 141 and 121.
    """
    x, y, z = vertices.T.copy()
    y = EYE_Y_MM + 0.955 * (y - EYE_Y_MM)
    side, x = np.sign(x), np.abs(x)
    beyond = np.maximum(x - 45, 0)
    jaw = smoothstep((-5 - y) / 50)
    x = x - (0.26 + 0.17 * jaw) * beyond**2 / (beyond + 10)
    # Mouth: 49 mm in the canonical face, mean 52.
    x = x + 1.6 * np.exp(-(((x - 26) / 12) ** 2) - ((y + 41) / 14) ** 2) * smoothstep(x / 10) * (z > 20)
    behind = np.maximum(40 - z, 0)
    z = z - 0.09 * behind**2 / (behind + 15)
    # The canonical forehead is too flat: its brows' outer ends lie as far forward as their middles do on a head.
    z = z - 5.0 * smoothstep((x - 36) / 22) * smoothstep((y - 28) / 16) * smoothstep((z + 10) / 20)
    x = side * x
    return np.stack([x, y, z], 1)


def close_lips(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Moves both lips to a common line; the canonical mouth is 5 mm open. `triangles` must leave the mouth open."""
    upper, lower = vertices[list(UPPER_INNER_LIP)], vertices[list(LOWER_INNER_LIP)]
    middle = (upper + lower) / 2
    straight = np.interp(middle[:, 0], middle[[0, 5, 10], 0], middle[[0, 5, 10], 1])
    middle[1:-1, 1] = (0.5 * middle[:, 1] + 0.5 * straight)[1:-1]
    target = vertices.copy()
    for ids, side in ((UPPER_INNER_LIP, 1.0), (LOWER_INNER_LIP, -1.0)):
        target[list(ids)] = middle
        target[list(ids[1:-1]), 1] -= side * LIP_OVERLAP_MM
    ring = list(UPPER_INNER_LIP + LOWER_INNER_LIP)
    distance = np.linalg.norm(vertices[:, None] - vertices[ring][None], axis=2).min(1)
    fixed = distance > LIP_CLOSING_RANGE_MM
    fixed[ring] = True
    return _part_second_rings(vertices + fair_values(vertices, triangles, fixed, target - vertices))


def _part_second_rings(vertices: np.ndarray) -> np.ndarray:
    """Keeps the rings in front of the lip line apart; at the canonical corners the upper one hangs below the lower."""
    out = vertices.copy()
    for upper, lower in zip(UPPER_SECOND_RING[1:-1], LOWER_SECOND_RING[1:-1], strict=True):
        lack = max(SECOND_RING_GAP_MM - (out[upper, 1] - out[lower, 1]), 0.0)
        out[upper, 1] += lack / 2
        out[lower, 1] -= lack / 2
    return out


def smoothstep(t: np.ndarray | float) -> np.ndarray:
    """0 below 0, 1 above 1, cubic between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3 - 2 * t)
