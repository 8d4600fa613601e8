"""Named vertex sets, with FLAME_masks' names where they exist."""

import numpy as np
from scipy.spatial import cKDTree

from tracker.head.build import eyes
from tracker.head.build.assemble import HeadMesh
from tracker.head.build.canonical import LEFT_LOWER_LID, LEFT_UPPER_LID, RIGHT_LOWER_LID, RIGHT_UPPER_LID
from tracker.head.build.mesh import in_polygon

_OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_NOSE = (
    *(1, 2, 3, 4, 5, 6, 19, 20, 44, 45, 48, 49, 51, 59, 60, 64, 75, 79, 94),
    *(97, 98, 99, 102, 115, 122, 125, 129, 131, 134, 141, 166, 168, 174, 193, 195, 196, 197, 198),
    *(209, 217, 218, 219, 220, 235, 236, 237, 238, 239, 240, 241, 242, 248, 250, 274, 275, 278, 279),
    *(281, 289, 290, 294, 305, 309, 326, 327, 328, 331, 344, 351, 354, 358, 360, 363, 370, 392, 399),
    *(417, 419, 420, 429, 437, 438, 439, 440, 455, 456, 457, 458, 459, 460, 461, 462),
)
_FOREHEAD = (
    *(10, 338, 297, 332, 284, 251, 109, 67, 103, 54, 21, 151, 337, 299, 333, 298, 301, 108, 69),
    *(104, 68, 71, 9, 8, 107, 336, 66, 296, 105, 334, 63, 293, 70, 300),
)


def build_regions(mesh: HeadMesh) -> dict[str, np.ndarray]:
    """Region name to sorted vertex ids."""
    groups, vertices = mesh.groups, mesh.vertices
    face = groups["face"]
    skull = groups["skull"]
    neck = skull[_below_head(vertices[skull])]
    inner_mouth = np.concatenate([groups["mouth_bag"], groups["upper_teeth"], groups["lower_teeth"]])
    balls = np.concatenate([groups["left_eyeball"], groups["right_eyeball"]])
    out = {
        "face": np.concatenate([face, groups["left_socket"], groups["right_socket"]]),
        "neck": np.concatenate([neck, groups["neck_cap"]]),
        "scalp": np.setdiff1d(skull, neck),
        "nose": _near(vertices, face, _NOSE),
        "lips": _inside_outline(vertices, face, _OUTER_LIPS),
        "forehead": _near(vertices, face, _FOREHEAD),
        "left_ear": groups["left_ear"],
        "right_ear": groups["right_ear"],
        "left_eyeball": groups["left_eyeball"],
        "right_eyeball": groups["right_eyeball"],
        "inner_mouth": inner_mouth,
        "teeth": np.concatenate([groups["upper_teeth"], groups["lower_teeth"]]),
        "boundary": groups["neck_cap"],
        "skin": np.setdiff1d(np.arange(len(vertices)), np.concatenate([inner_mouth, balls])),
    }
    for side, lids in (("left", LEFT_UPPER_LID + LEFT_LOWER_LID), ("right", RIGHT_UPPER_LID + RIGHT_LOWER_LID)):
        distance, _ = cKDTree(vertices[list(lids)]).query(vertices[face])
        out[f"{side}_eye_region"] = np.concatenate([face[distance < 11.0], groups[f"{side}_socket"]])
        ball = groups[f"{side}_eyeball"]
        out[f"iris_{side}"] = ball[: 1 + (eyes.IRIS_RING + 1) * eyes.LONGITUDES]
    out["eye_region"] = np.concatenate([out["left_eye_region"], out["right_eye_region"]])
    return {name: np.unique(ids) for name, ids in out.items()}


def _below_head(points: np.ndarray) -> np.ndarray:
    """Skull vertices under the line from the nape's hairline over the mastoid to the jaw's angle, and under the jaw."""
    line = np.interp(points[:, 2], [-110, -60, -45, -30, 60], [-62, -50, -40, -22, -22])
    return points[:, 1] < line


def _inside_outline(vertices: np.ndarray, face: np.ndarray, outline: tuple[int, ...]) -> np.ndarray:
    """Face vertices that lie within a closed line of FaceMesh points seen from the front, or on it."""
    polygon = vertices[list(outline), :2]
    arm = polygon - polygon.mean(0)
    grown = polygon + 0.5 * arm / np.linalg.norm(arm, axis=1, keepdims=True)
    return face[in_polygon(vertices[face, :2], grown)]


def _near(vertices: np.ndarray, face: np.ndarray, facemesh_ids: tuple[int, ...]) -> np.ndarray:
    """Face vertices whose nearest FaceMesh point (of all 468) is in the set, or that lie between two that are."""
    distance, nearest = cKDTree(vertices[:468]).query(vertices[face], k=2)
    inside = np.isin(nearest, facemesh_ids)
    chosen = np.where(face < 468, np.isin(face, facemesh_ids), inside.all(1) | (inside[:, 0] & (distance[:, 0] < 1e-6)))
    return face[chosen]
