"""A mesh in the Basel Face Model's topology as a FLAME mesh.

Published correspondences make FLAME vertices out of BFM vertices (a sparse matrix). They cover the face; the rest comes
from FLAME, whose identity, expression and jaw are fitted to the face together with a similarity.

Source: the rules of TimoBolkart/BFM_to_FLAME (mesh_convert.py), with its regularisers; solved here by Gauss-Newton,
with the similarity in closed form (Umeyama, PAMI 1991) at the start.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.errors import InputError
from tracker.head.flame_arrays import FlameArrays
from tracker.head.model import Embedding, HeadModel, HeadParams
from tracker.rotations import exp_so3
from tracker.safe_pickle import load_object_npz

# The converter's weights of jaw rotation (radians), identity and expression (standard deviations), against metres.
_JAW_WEIGHT, _SHAPE_WEIGHT, _EXPRESSION_WEIGHT = 1e-4, 1e-3, 1e-4
_SETUPS = ("BFM2017_corr", "BFM2009_corr", "BFM2009_cropped_corr")
_MASK = "FLAME_mask_ids"
_STEPS = 30
# Steps of less than this change no vertex by a micrometre.
_CONVERGED = 1e-6
# Radians, for the derivative by the jaw: error of central differences 1e-9.
_JAW_STEP = 1e-4


@dataclass(frozen=True, eq=False)
class MeshCorrespondence:
    """One topology of BFM.

    Attributes:
        name: key in the file.
        matrix: (V, n) sparse or dense, FLAME vertices from BFM vertices.
        face_ids: (M,) FLAME vertices that it gives meaningful places.
    """

    name: str
    matrix: Any
    face_ids: np.ndarray


@dataclass(frozen=True, eq=False)
class ConvertedMesh:
    """The FLAME mesh.

    Attributes:
        vertices: (V, 3) in the BFM mesh's frame and unit.
        shape: (S,) identity.
        expression: (E,).
        jaw: (3, 3).
        metres: of a unit of the BFM mesh.
        error_m: (M,) distances of the face's vertices from the corresponding ones, metres.
    """

    vertices: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    metres: float
    error_m: np.ndarray


def read_mesh_correspondence(path: Path, vertex_count: int, triangle_count: int) -> MeshCorrespondence:
    """Reads what BFM_to_FLAME_corr.npz has for a mesh.

    Args:
        path: the file.
        vertex_count: of the BFM mesh.
        triangle_count: of the BFM mesh.

    Returns:
        The correspondence of its topology: BFM 2017, 2009, or 2009 cropped (3DDFA).

    Raises:
        InputError: the file is missing or damaged, or has none of these counts.
    """
    data = load_object_npz(path)
    known = {name: data[name] for name in _SETUPS if _is_setup(data.get(name))}
    if not known or _MASK not in data:
        raise InputError(f"{path}: lacks {', '.join(_SETUPS)} or {_MASK}; get BFM_to_FLAME_corr.npz of BFM_to_FLAME")
    for name, setup in known.items():
        # The converter multiplies with the vertices over as many zeros, so that half of the columns count.
        if setup["mtx"].shape[1] == 2 * vertex_count and len(setup["f_in"]) == triangle_count:
            return MeshCorrespondence(name, setup["mtx"][:, :vertex_count], np.asarray(data[_MASK]).astype(np.int64))
    sizes = ", ".join(f"{setup['mtx'].shape[1] // 2} and {len(setup['f_in'])}" for setup in known.values())
    raise InputError(
        f"{path}: knows meshes of {sizes} vertices and triangles, the mesh has {vertex_count} and {triangle_count}"
    )


def _is_setup(setup: Any) -> bool:
    """Whether it is a dict with a matrix and a list of triangles."""
    if not isinstance(setup, dict):
        return False
    return np.ndim(setup.get("f_in", 0)) > 0 and len(getattr(setup.get("mtx"), "shape", ())) == 2


def corresponding_vertices(correspondence: MeshCorrespondence, vertices: np.ndarray) -> np.ndarray:
    """FLAME vertices (V, 3) that a BFM mesh (n, 3) gives, in its frame and unit."""
    return np.asarray(correspondence.matrix @ np.asarray(vertices, np.float64))


def fit_flame(arrays: FlameArrays, target: np.ndarray, face_ids: np.ndarray) -> ConvertedMesh:
    """Fits FLAME to corresponding vertices.

    Args:
        arrays: the FLAME model.
        target: (V, 3) in any frame and unit.
        face_ids: (M,) vertices that count.

    Returns:
        The whole head.

    Raises:
        InputError: the target is of another topology.
    """
    count = len(arrays.template)
    if len(target) != count or not len(face_ids) or face_ids.max() >= count:
        raise InputError(f"the correspondence makes {len(target)} vertices, the FLAME model has {count}")
    model, ids = _bare(arrays), torch.from_numpy(face_ids)
    points = torch.from_numpy(np.asarray(target, np.float64))
    params = model.neutral(torch.float64)
    similarity = _similarity(points[ids], model.vertices(params)[ids])
    weights = torch.cat(
        [
            torch.full((model.shape_count,), _SHAPE_WEIGHT),
            torch.full((model.expression_count,), _EXPRESSION_WEIGHT),
            torch.full((3,), _JAW_WEIGHT),
        ]
    ).double()
    turned = torch.zeros(3, dtype=torch.float64)
    for _ in range(_STEPS):
        params = replace(params, jaw=exp_so3(turned))
        own = _moved(similarity, points[ids])
        rows, residual = _equations(model, params, turned, ids, own)
        values = torch.cat([params.shape, params.expression, turned])
        free = rows.shape[1] - len(values)
        prior = torch.cat([weights**2, torch.zeros(free, dtype=torch.float64)])
        H = rows.T @ rows + torch.diag(prior)
        step = torch.linalg.solve(H, rows.T @ residual - prior * torch.nn.functional.pad(values, (0, free)))
        values = values + step[: len(values)]
        shape, expression, turned = values.split([model.shape_count, model.expression_count, 3])
        params = replace(params, shape=shape, expression=expression)
        similarity = _changed(similarity, step[len(values) :])
        if float(step.abs().max()) < _CONVERGED:
            break
    params = replace(params, jaw=exp_so3(turned))
    head = model.vertices(params)
    scale, R, t = similarity
    error = (head[ids] - _moved(similarity, points[ids])).norm(dim=1)
    return ConvertedMesh(
        vertices=((head - t) @ R / scale).numpy(),
        shape=params.shape.numpy(),
        expression=params.expression.numpy(),
        jaw=params.jaw.numpy(),
        metres=float(scale),
        error_m=error.numpy(),
    )


def _bare(arrays: FlameArrays) -> HeadModel:
    """The model without what only tracking needs."""
    nothing = Embedding(torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    expressions = arrays.expression_basis.shape[2]
    return HeadModel(
        name="flame",
        template=torch.from_numpy(arrays.template),
        shape_basis=torch.from_numpy(arrays.shape_basis),
        expression_basis=torch.from_numpy(arrays.expression_basis),
        expression_names=tuple(f"exp{i:03d}" for i in range(expressions)),
        expression_std=torch.ones(expressions),
        expression_bounds=torch.tensor([[-np.inf, np.inf]]).repeat(expressions, 1),
        eyelid_basis=torch.zeros(len(arrays.template), 3, 2),
        joint_regressor=torch.from_numpy(arrays.joint_regressor),
        skin_weights=torch.from_numpy(arrays.skin_weights),
        triangles=torch.from_numpy(arrays.triangles),
        uv=torch.zeros(0, 2),
        uv_triangles=torch.zeros(0, 3, dtype=torch.long),
        landmarks68=nothing,
        landmarks478=nothing,
        pose_correctives=torch.from_numpy(arrays.pose_correctives),
    )


Similarity = tuple[Tensor, Tensor, Tensor]


def _similarity(points: Tensor, onto: Tensor) -> Similarity:
    """Scale, rotation and shift that bring points (M, 3) onto others best."""
    middle, aim = points.mean(0), onto.mean(0)
    U, S, Vt = torch.linalg.svd((onto - aim).T @ (points - middle))
    flip = torch.ones(3, dtype=points.dtype)
    flip[2] = torch.sign(torch.det(U @ Vt))
    R = U @ torch.diag(flip) @ Vt
    scale = (S * flip).sum() / ((points - middle) ** 2).sum()
    return scale, R, aim - scale * R @ middle


def _moved(similarity: Similarity, points: Tensor) -> Tensor:
    scale, R, t = similarity
    return scale * points @ R.T + t


def _changed(similarity: Similarity, step: Tensor) -> Similarity:
    """After a step of log scale, rotation from the left about the origin, shift."""
    scale, R, t = similarity
    turn, growth = exp_so3(step[1:4].contiguous()), step[0].exp()
    return growth * scale, turn @ R, growth * (turn @ t) + step[4:]


def _equations(model: HeadModel, params: HeadParams, turned: Tensor, ids: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives (3 M, S + E + 3 + 7) of head minus moved target, and target minus head (3 M,)."""
    head = model.vertices(params)[ids]
    # With the rotations fixed the head is affine in the coefficients: differences are derivatives.
    base = params.shape, params.expression
    eye = torch.eye(model.shape_count + model.expression_count, dtype=torch.float64)
    varied = replace(
        params, shape=base[0] + eye[:, : model.shape_count], expression=base[1] + eye[:, model.shape_count :]
    )
    linear = (model.vertices(varied)[:, ids] - head).reshape(len(eye), -1).T
    jaw = []
    for axis in range(3):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[axis] = _JAW_STEP
        ahead, behind = (model.vertices(replace(params, jaw=exp_so3(turned + s * offset)))[ids] for s in (1, -1))
        jaw.append(((ahead - behind) / (2 * _JAW_STEP)).ravel())
    axes = torch.eye(3, dtype=torch.float64)
    target = [
        own,
        *(torch.linalg.cross(axis.expand_as(own), own) for axis in axes),
        *(axis.expand_as(own) for axis in axes),
    ]
    rows = torch.cat([linear, torch.stack(jaw, 1), -torch.stack([column.ravel() for column in target], 1)], 1)
    return rows, (own - head).ravel()
