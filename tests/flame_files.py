"""Small files in FLAME's format, fully synthetic: a ball with two eyeballs, its embeddings, masks and UV template."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracker.head.model import HeadModel

SHAPES, EXPRESSIONS = 300, 100
EYE_CENTRES_M = np.array([[0.03, 0.02, 0.075], [-0.03, 0.02, 0.075]])
EYE_RADIUS_M = 0.0125


def ball(rows: int, columns: int, radius: float, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward triangles of a ball whose poles lie on z."""
    polar, around = np.linspace(0, np.pi, rows), np.arange(columns) * 2 * np.pi / columns
    grid = [(np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)) for p in polar[1:-1] for a in around]
    vertices = np.array([(0, 0, 1), *grid, (0, 0, -1)]) * radius + centre
    triangles, last = [], len(vertices) - 1
    for j in range(columns):
        k = (j + 1) % columns
        triangles += [(0, 1 + j, 1 + k), (last, last - columns + k, last - columns + j)]
        for i in range(rows - 3):
            a, b = 1 + i * columns, 1 + (i + 1) * columns
            triangles += [(a + j, b + j, b + k), (a + j, b + k, a + k)]
    return vertices, np.array(triangles)


def arrays(shapes: int = SHAPES, expressions: int = EXPRESSIONS, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a model file."""
    rng = np.random.RandomState(seed)
    parts = [ball(10, 14, 0.09, np.zeros(3)), *(ball(9, 12, EYE_RADIUS_M, centre) for centre in EYE_CENTRES_M)]
    vertices, triangles, weights = [], [], []
    for part, (points, faces) in enumerate(parts):
        triangles.append(faces + sum(map(len, vertices)))
        vertices.append(points)
        own = np.zeros((len(points), 5))
        own[:, 1 if part == 0 else 2 + part] = 1
        weights.append(own)
    template, count = np.concatenate(vertices), sum(map(len, vertices))
    regressor = rng.dirichlet(np.ones(count), 5)
    return {
        "f": np.concatenate(triangles).astype(np.uint32),
        "v_template": template,
        "shapedirs": 1e-3 * rng.standard_normal((count, 3, shapes + expressions)),
        "posedirs": 1e-3 * rng.standard_normal((count, 3, 36)),
        "J_regressor": regressor,
        "weights": np.concatenate(weights),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


def points_on(rng: np.random.RandomState, triangle_count: int, *size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random triangles and barycentric coordinates."""
    return rng.randint(0, triangle_count, size), rng.dirichlet(np.ones(3), size).astype(np.float32)


def write_npy(path: Path, content: Any) -> None:
    """An .npy that holds one object."""
    np.save(path, np.array(content, dtype=object), allow_pickle=True)


def write_landmarks(folder: Path, triangle_count: int, seed: int = 1) -> dict[str, Any]:
    """landmark_embedding.npy with torch tensors inside, as the published file has them."""
    rng = np.random.RandomState(seed)
    inner, rows = points_on(rng, triangle_count, 51), points_on(rng, triangle_count, 79, 17)
    full = points_on(rng, triangle_count, 1, 68)
    data = {
        "static_lmk_faces_idx": inner[0],
        "static_lmk_bary_coords": inner[1].astype(np.float64),
        "dynamic_lmk_faces_idx": torch.from_numpy(rows[0]),
        "dynamic_lmk_bary_coords": torch.from_numpy(rows[1]),
        "full_lmk_faces_idx": full[0],
        "full_lmk_bary_coords": full[1],
    }
    write_npy(folder / "landmark_embedding.npy", data)
    return data


def write_facemesh(folder: Path, triangle_count: int, seed: int = 2) -> None:
    """mediapipe_landmark_embedding.npz of 105 points."""
    rng = np.random.RandomState(seed)
    faces, bary = points_on(rng, triangle_count, 105)
    numbers = np.sort(rng.permutation(468)[:105])
    path = folder / "mediapipe_landmark_embedding.npz"
    np.savez(path, lmk_face_idx=faces.astype(np.uint32), lmk_b_coords=bary, landmark_indices=numbers)


def write_template(path: Path, triangles: np.ndarray, uv_triangles: np.ndarray | None = None) -> np.ndarray:
    """An OBJ with texture coordinates; returns them (T, 2)."""
    count = int(triangles.max()) + 1
    uv = np.random.RandomState(3).rand(count, 2).round(6)
    corners = triangles if uv_triangles is None else uv_triangles
    lines = [f"v {i} 0 0" for i in range(count)] + [f"vt {u} {v}" for u, v in uv]
    for face, texture in zip(triangles + 1, corners + 1, strict=True):
        lines.append("f " + " ".join(f"{a}/{b}" for a, b in zip(face, texture, strict=True)))
    path.write_text("\n".join(lines) + "\n")
    return uv


def write_folder(folder: Path, **changed: Any) -> dict[str, np.ndarray]:
    """A complete folder with generic_model.npz; arrays may be replaced or (None) left out."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {key: value for key, value in (arrays() | changed).items() if value is not None}
    np.savez(folder / "generic_model.npz", **data)
    triangles = np.asarray(data["f"]).astype(np.int64)
    write_landmarks(folder, len(triangles))
    write_facemesh(folder, len(triangles))
    write_template(folder / "head_template.obj", triangles)
    return data


def same_geometry(one: HeadModel, other: HeadModel) -> bool:
    """Whether two models have equal arrays."""
    names = ("template", "shape_basis", "expression_basis", "pose_correctives", "joint_regressor", "skin_weights")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)
