"""The coarse face: MediaPipe's canonical 468-point face brought to anthropometric size, eyes and mouth opened.

Source of the geometry: data/canonical_face_model.obj (google/mediapipe, Apache-2.0, see data/NOTICE). Sizes: ANSUR
1988/2012 summary statistics and Farkas, Anthropometry of the Head and Face, 1994, means of both sexes.
"""

from pathlib import Path

import numpy as np

CANONICAL_OBJ = Path(__file__).parent / "data" / "canonical_face_model.obj"

# Rings of the FaceMesh topology, subject's right side (negative x) from the outer corner.
RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

EYE_Y_MM = 26.3
EYE_X_MM = 31.5  # half the mean inter-pupillary distance, 63 mm
# Half of the remaining slit between the closed lips: enough to keep the two surfaces apart, too little to see.
LIP_HALF_GAP_MM = 0.05
LIP_CLOSING_RANGE_MM = 6.5


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
    vertices = close_lips(to_metric(vertices))
    for ring in (
        RIGHT_UPPER_LID + RIGHT_LOWER_LID,
        LEFT_UPPER_LID + LEFT_LOWER_LID,
        UPPER_INNER_LIP + LOWER_INNER_LIP,
    ):
        triangles = triangles[~np.isin(triangles, ring).all(1)]
    return vertices, triangles


def to_metric(vertices: np.ndarray) -> np.ndarray:
    """Bends the canonical face to mean human proportions (mm in, mm out).

    The canonical model is 155 mm wide before the ears and 127 mm from sellion to chin; means are about 141 and 121.
    """
    x, y, z = vertices.T.copy()
    y = EYE_Y_MM + 0.955 * (y - EYE_Y_MM)
    beyond = np.maximum(np.abs(x) - 30, 0)
    jaw = smoothstep((-5 - y) / 50)
    shrink = (0.16 + 0.09 * jaw) * beyond**2 / (beyond + 10)
    x = np.sign(x) * (np.abs(x) - shrink)
    behind = np.maximum(40 - z, 0)
    z = z - 0.09 * behind**2 / (behind + 15)
    return np.stack([x, y, z], 1)


def close_lips(vertices: np.ndarray) -> np.ndarray:
    """Moves both lips to a common line; the canonical mouth is 5 mm open."""
    upper, lower = vertices[list(UPPER_INNER_LIP)], vertices[list(LOWER_INNER_LIP)]
    middle = (upper + lower) / 2
    # The lower lip travels further in speech, but the neutral line lies midway.
    middle[1:-1, 1] = 0.5 * middle[1:-1, 1] + 0.5 * np.interp(middle[1:-1, 0], middle[[0, 5, 10], 0], middle[[0, 5, 10], 1])
    out = vertices.copy()
    line_y = np.interp(vertices[:, 0], middle[:, 0], middle[:, 1])
    for ids, ring, side in ((UPPER_INNER_LIP, upper, 1.0), (LOWER_INNER_LIP, lower, -1.0)):
        target = middle.copy()
        target[1:-1, 1] += side * LIP_HALF_GAP_MM
        moves = target - ring
        own = side * (vertices[:, 1] - line_y) > 0
        own[list(ids)] = True
        for vertex in np.flatnonzero(own):
            distance = np.linalg.norm(vertices[vertex] - ring, axis=1)
            closeness = np.exp(-((distance / 4.0) ** 2)) + 1e-12
            fade = np.exp(-((distance.min() / LIP_CLOSING_RANGE_MM) ** 2))
            out[vertex] = vertices[vertex] + fade * (closeness @ moves) / closeness.sum()
        out[list(ids)] = target
    return out


def smoothstep(t: np.ndarray | float) -> np.ndarray:
    """0 below 0, 1 above 1, cubic between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3 - 2 * t)
