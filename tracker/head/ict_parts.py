"""Parts of ICT-FaceKit's mesh, its landmarks and the atlas of its textures.

Source: README of ICT-VGL/ICT-FaceKit (MIT), tables "Face Model Topology", "Face Area Details", "Eyeball Details" and
"Teeth Details". Vertex ids are those of the published OBJ files.
"""

import numpy as np

# Vertices of a published OBJ file, and how many of them are kept. What follows are layers that a shader makes
# transparent (lacrimal fluid, blend and occlusion meshes, lashes); drawn opaque they would cover the eyes.
PUBLISHED_VERTICES = 26719
KEPT_VERTICES = 24591

# Name: first and last vertex.
PARTS: dict[str, tuple[int, int]] = {
    "narrow_face": (0, 6705),
    "full_face": (0, 9408),
    "head_and_neck": (9409, 11247),
    "mouth_socket": (11248, 13293),
    "left_eye_socket": (13294, 13677),
    "right_eye_socket": (13678, 14061),
    "gums": (14062, 17038),
    "teeth": (17039, 21450),
    "upper_teeth": (17039, 19246),
    "lower_teeth": (19247, 21450),
    "left_eyeball": (21451, 23020),
    # The shell that is seen, cornea included; the published irises lie behind it.
    "left_sclera": (21451, 22220),
    "left_iris_mesh": (22221, 23020),
    "right_eyeball": (23021, 24590),
    "right_sclera": (23021, 23790),
    "right_iris_mesh": (23791, 24590),
}

# Below this height under the lowest jaw landmark the narrow face is throat, which does not follow the head; metres.
_THROAT_BELOW_CHIN_M = 0.012
# Box of the ears on the mean head: distance from the middle, lowest, highest, foremost; metres.
_EAR = (0.0745, -0.0215, 0.040, 0.012)
# Height of the neck's upper end behind the ears and under the jaw on the mean head, metres; back to front.
_NECK_LINE = ((-0.09, -0.045), (-0.03, -0.035), (0.01, -0.055), (0.06, -0.085))
# The shoulders' open end.
_BOUNDARY_M = 0.012

# Radius of the iris on the cornea, metres (Forrester et al., The Eye, 2016).
_IRIS_RADIUS_M = 0.0059

# Square cells of the texture atlas: part, UDIM tile of the published UVs (None: any), left, bottom, side.
_CELLS: tuple[tuple[str, int | None, float, float, float], ...] = (
    ("left_sclera", None, 0.0, 0.0, 0.25),
    ("right_sclera", None, 0.25, 0.0, 0.25),
    ("gums", None, 0.5, 0.0, 0.25),
    ("teeth", None, 0.75, 0.0, 0.25),
    ("left_iris_mesh", None, 0.75, 0.25, 0.25),
    ("right_iris_mesh", None, 0.75, 0.5, 0.25),
    ("all", 0, 0.0, 0.25, 0.75),
    ("all", 1, 0.75, 0.75, 0.25),
)


def ids(name: str) -> np.ndarray:
    """Vertex ids of a part, int64."""
    first, last = PARTS[name]
    return np.arange(first, last + 1)


def regions(template_m: np.ndarray, landmarks68: np.ndarray) -> dict[str, np.ndarray]:
    """Named vertex sets: the published parts, and FLAME_masks' names that the tracker asks for.

    Args:
        template_m: (24591, 3) mean head, metres.
        landmarks68: (68,) vertex ids.

    Returns:
        Name to sorted vertex ids. `face` is the narrow face without the throat.
    """
    chin = template_m[landmarks68[:17], 1].min()
    narrow, skin = ids("narrow_face"), np.concatenate([ids("full_face"), ids("head_and_neck")])
    face = narrow[template_m[narrow, 1] > chin - _THROAT_BELOW_CHIN_M]
    around = np.setdiff1d(skin, narrow)
    x, y, z = template_m[around].T
    side, low, high, front = _EAR
    ear = (np.abs(x) > side) & (y > low) & (y < high) & (z < front)
    line = np.array(_NECK_LINE)
    neck = ~ear & (y < np.interp(z, line[:, 0], line[:, 1]))
    inner_mouth = np.concatenate([ids("mouth_socket"), ids("gums"), ids("teeth")])
    named = {name: ids(name) for name in PARTS}
    named |= {
        "face": face,
        "left_ear": around[ear & (x > 0)],
        "right_ear": around[ear & (x < 0)],
        "neck": np.union1d(around[neck], np.setdiff1d(narrow, face)),
        "scalp": around[~ear & ~neck],
        "inner_mouth": inner_mouth,
        "boundary": skin[template_m[skin, 1] < template_m[skin, 1].min() + _BOUNDARY_M],
        "skin": np.concatenate([skin, ids("left_eye_socket"), ids("right_eye_socket")]),
        "iris_left": _iris(template_m, "left_sclera"),
        "iris_right": _iris(template_m, "right_sclera"),
    }
    return {name: np.unique(chosen) for name, chosen in named.items()}


def _iris(template_m: np.ndarray, sclera: str) -> np.ndarray:
    """Vertices of the eyeball's outer shell around its foremost one, the pupil."""
    shell = ids(sclera)
    pupil = template_m[shell[template_m[shell, 2].argmax()]]
    return shell[np.linalg.norm(template_m[shell] - pupil, axis=1) <= _IRIS_RADIUS_M]


def atlas_uv(uv: np.ndarray, triangles: np.ndarray, uv_triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates in one square instead of the published tiles, of which several hold more than one part.

    Args:
        uv: (T, 2) published coordinates; the whole number of u is the tile.
        triangles: (F, 3) vertex ids.
        uv_triangles: (F, 3) into uv.

    Returns:
        (T', 2) float32 in [0, 1] and (F, 3) int64: the face has the upper left 0.75 x 0.75, the others quarters.
    """
    tile = np.floor(uv[uv_triangles].mean(1)[:, 0]).astype(np.int64)
    cell = np.full(len(triangles), -1)
    for place, (part, wanted, *_) in enumerate(_CELLS):
        first, last = (0, KEPT_VERTICES - 1) if part == "all" else PARTS[part]
        inside = (triangles >= first).all(1) & (triangles <= last).all(1)
        cell[(cell < 0) & inside & ((wanted is None) | (tile == wanted))] = place
    if (cell < 0).any():
        raise ValueError(f"{int((cell < 0).sum())} triangles lie in no known tile of ICT-FaceKit's UV layout")
    keys = np.stack([uv_triangles.ravel(), np.repeat(cell, 3), np.repeat(tile, 3)], 1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    place = np.array([entry[2:] for entry in _CELLS])[unique[:, 1]]
    own = uv[unique[:, 0]] - np.stack([unique[:, 2], np.zeros(len(unique))], 1)
    moved = place[:, :2] + place[:, 2:] * own
    return moved.astype(np.float32), inverse.reshape(-1, 3).astype(np.int64)
