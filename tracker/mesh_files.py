"""Files of a tracked head: depth pictures, PLY meshes, the canonical OBJ with texture coordinates."""

from typing import TYPE_CHECKING

import numpy as np

from tracker.rasterizer import Fragments

if TYPE_CHECKING:
    # Depth pictures and meshes are written without torch, which takes a second to import.
    import torch

    from tracker.head.model import HeadModel

# metrical-tracker opens the mouth of its canonical head by this angle about x, so that lips do not stick together.
CANONICAL_JAW_DEGREES = 12.0
_MILLIMETRES = 1000.0


def depth_png(fragments: Fragments) -> np.ndarray:
    """Depth picture: (H, W) uint16 millimetres along the optical axis, rounded; 0 is background."""
    return np.clip(np.rint(fragments.depth_m * _MILLIMETRES), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def ply_bytes(vertices_head_m: np.ndarray, triangles: np.ndarray) -> bytes:
    """A binary PLY of a mesh; the order of vertices and triangles is kept.

    Args:
        vertices_head_m: (V, 3) metres.
        triangles: (F, 3).
    """
    import trimesh

    mesh = trimesh.Trimesh(np.asarray(vertices_head_m, np.float32), np.asarray(triangles), process=False)
    return bytes(trimesh.exchange.ply.export_ply(mesh))


def canonical_vertices(model: "HeadModel", shape: "torch.Tensor") -> "torch.Tensor":
    """The subject's neutral head with the jaw opened by 12 degrees, by joint or by shape: (S,) to (V, 3) metres."""
    from tracker.head.jaw import opened

    neutral = model.neutral(shape.dtype)
    expression, jaw = opened(model, float(np.deg2rad(CANONICAL_JAW_DEGREES)))
    params = type(neutral)(shape, expression.to(shape), jaw.to(shape), neutral.eyes, neutral.eyelids)
    return model.vertices(params)


def obj_text(model: "HeadModel", vertices_head_m: np.ndarray) -> str:
    """A Wavefront OBJ of a head with its texture coordinates; faces are `vertex/texture`, counted from 1.

    Args:
        model: gives triangles and UVs.
        vertices_head_m: (V, 3) metres.
    """
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in np.asarray(vertices_head_m, np.float64)]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in model.uv.cpu().numpy()]
    pairs = np.stack([model.triangles.cpu().numpy(), model.uv_triangles.cpu().numpy()], -1) + 1
    lines += ["f " + " ".join(f"{vertex}/{texture}" for vertex, texture in corners) for corners in pairs.tolist()]
    return "\n".join(lines) + "\n"
