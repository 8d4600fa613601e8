"""The complete generic head as a `HeadModel` in metres."""

import numpy as np
import torch

from tracker.head.build.assemble import HeadMesh, build_mesh
from tracker.head.build.blink import eyelid_basis
from tracker.head.build.contour import build_contour
from tracker.head.build.expressions import build_expressions
from tracker.head.build.fields import SkinFields
from tracker.head.build.identity import identity_basis
from tracker.head.build.landmarks import embed68, embed478
from tracker.head.build.regions import build_regions
from tracker.head.build.rig import build_rig
from tracker.head.build.uv import build_atlas
from tracker.head.model import ContourEmbedding, Embedding, HeadModel

_METRES = 1e-3


def build_model(mesh: HeadMesh | None = None) -> HeadModel:
    """Builds everything (about half a minute)."""
    mesh = build_mesh() if mesh is None else mesh
    fields = SkinFields(mesh)
    atlas, rig, expressions = build_atlas(mesh), build_rig(mesh, fields), build_expressions(mesh, fields)
    points68, points478, contour = embed68(mesh), embed478(mesh), build_contour(mesh)
    return HeadModel(
        name="generic",
        template=_real(mesh.vertices * _METRES),
        shape_basis=_real(identity_basis(mesh) * _METRES),
        expression_basis=_real(expressions.basis * _METRES),
        expression_names=expressions.names,
        expression_std=_real(expressions.std),
        expression_bounds=_real(expressions.bounds),
        eyelid_basis=_real(eyelid_basis(mesh) * _METRES),
        joint_regressor=_real(rig.joint_regressor),
        skin_weights=_real(rig.skin_weights),
        triangles=_whole(mesh.triangles),
        uv=_real(atlas.uv),
        uv_triangles=_whole(atlas.triangles),
        landmarks68=Embedding(_whole(points68.faces), _real(points68.bary), torch.arange(68)),
        landmarks478=Embedding(_whole(points478.faces), _real(points478.bary), torch.arange(478)),
        contour=ContourEmbedding(_whole(contour.faces), _real(contour.bary)),
        regions={name: _whole(ids) for name, ids in build_regions(mesh).items()},
    )


def _real(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _whole(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
