"""A head model in numpy: what drawing needs of it, without torch, which takes a second to import.

`tracker.head.model.HeadModel` is the same head for the solver.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracker.npz import Out, read_as

if TYPE_CHECKING:
    from tracker.head.model import HeadModel

# Joint order of FLAME, kept by every model: root, neck, jaw, left eyeball (at +x), right eyeball.
ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)
JOINT_COUNT = 5
PARENTS = (-1, 0, 1, 1, 1)
REGION_PREFIX = "region_"


@dataclass(frozen=True, eq=False)
class PlainHead:
    """The arrays of a head model; names and units as in `tracker.head.model.HeadModel`.

    Attributes:
        name: 'generic', 'flame', 'ict'.
        template: (V, 3) float32 metres.
        shape_basis: (V, 3, S) float32 metres.
        expression_basis: (V, 3, E) float32 metres.
        eyelid_basis: (V, 3, 2) float32 metres.
        joint_regressor: (5, V) float32.
        skin_weights: (V, 5) float32.
        triangles: (F, 3) int64.
        uv: (T, 2) float32.
        uv_triangles: (F, 3) int64.
        regions: name to vertex ids.
        pose_correctives: (V, 3, 36) float32, or None.
    """

    name: str
    template: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    eyelid_basis: np.ndarray
    joint_regressor: np.ndarray
    skin_weights: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray
    regions: dict[str, np.ndarray]
    pose_correctives: np.ndarray | None = None

    @classmethod
    def of(cls, model: "HeadModel") -> "PlainHead":
        """The arrays of a model on the CPU; memory is shared."""
        names = [name for name in cls.__dataclass_fields__ if name not in ("name", "regions", "pose_correctives")]
        correctives = model.pose_correctives
        return cls(
            name=model.name,
            regions={name: ids.numpy() for name, ids in model.regions.items()},
            pose_correctives=None if correctives is None else correctives.numpy(),
            **{name: getattr(model, name).numpy() for name in names},
        )

    @classmethod
    def read(cls, path: Path) -> "PlainHead":
        """Reads a head model in the project's npz layout (`tracker.head.store`).

        Raises:
            InputError: the file is missing, damaged or lacks a key.
        """
        return read_head(path, cls._from_arrays)

    @classmethod
    def _from_arrays(cls, data: dict[str, np.ndarray]) -> "PlainHead":
        whole = ("triangles", "uv_triangles")
        real = ("template", "shape_basis", "expression_basis", "eyelid_basis", "joint_regressor", "uv")
        weights = data["skin_weights"].astype(np.float32)
        correctives = data.get("pose_correctives")
        return cls(
            name=str(data["name"]),
            skin_weights=weights / weights.sum(1, keepdims=True),
            regions={
                key.removeprefix(REGION_PREFIX): ids.astype(np.int64)
                for key, ids in data.items()
                if key.startswith(REGION_PREFIX)
            },
            pose_correctives=None if correctives is None else correctives.astype(np.float32),
            **{key: data[key].astype(np.int64) for key in whole},
            **{key: data[key].astype(np.float32) for key in real},
        )

    @property
    def vertex_count(self) -> int:
        """Number of vertices V."""
        return len(self.template)

    def with_modes(self, shape_count: int, expression_count: int) -> "PlainHead":
        """The head cut to its first modes; counts beyond what it has are clipped."""
        # Contiguous: products with a cut basis are then a single pass over it.
        shape = np.ascontiguousarray(self.shape_basis[..., :shape_count])
        expression = np.ascontiguousarray(self.expression_basis[..., :expression_count])
        return replace(self, shape_basis=shape, expression_basis=expression)

    def shaped(self, shape: np.ndarray) -> "PlainHead":
        """The head of one person: the identity (S,) goes into the template, and no mode of it is left."""
        template = self.template + self.shape_basis[..., : len(shape)] @ shape.astype(np.float32)
        return replace(self, template=template, shape_basis=self.shape_basis[..., :0])

    def vertices(self, expression: np.ndarray, jaw: np.ndarray, eyes: np.ndarray, eyelids: np.ndarray) -> np.ndarray:
        """Posed vertices in head space: twin of `HeadModel.vertices`, of the template as it is.

        Args:
            expression: (E,) or fewer.
            jaw: (3, 3) rotation about the jaw joint.
            eyes: (2, 3, 3) rotations of the left and right eyeball.
            eyelids: (2,) closure.

        Returns:
            (V, 3) float32 metres.
        """
        # Here, because numba takes a third of a second to import.
        from tracker.kernels.mesh import skin

        # As one matrix: numpy takes a stack of small ones one by one.
        basis = self.expression_basis[..., : len(expression)].reshape(self.template.size, len(expression))
        rest = self.template + (basis @ expression.astype(np.float32)).reshape(-1, 3)
        joints = self.joint_regressor @ rest
        identity = np.eye(3, dtype=np.float32)
        rotations = np.stack([identity, identity, jaw, eyes[0], eyes[1]]).astype(np.float32)
        if self.pose_correctives is not None:
            rest = rest + self.pose_correctives @ (rotations[1:] - identity).reshape(-1)
        R, t = np.empty((JOINT_COUNT, 3, 3), np.float32), np.empty((JOINT_COUNT, 3), np.float32)
        R[0], t[0] = identity, 0
        for joint in range(1, JOINT_COUNT):
            parent = PARENTS[joint]
            R[joint] = R[parent] @ rotations[joint]
            t[joint] = R[parent] @ joints[joint] + t[parent] - R[joint] @ joints[joint]
        return skin(rest, self.skin_weights, R, t, self.eyelid_basis, eyelids.astype(np.float32))


def read_head(path: Path, make: Callable[[dict[str, Any]], Out]) -> Out:
    """What a function makes of the arrays of a head model's npz file.

    Raises:
        InputError: the file is missing, damaged or lacks a key.
    """
    missing = "no such head model; `python -m tracker.head.build` makes the generic one"
    return read_as(path, make, missing, "not a head model in this project's layout", "make or download it again")


def region_triangles(triangles: Any, vertex_ids: Any, vertex_count: int) -> np.ndarray:
    """Ids of the triangles whose three corners all lie in a region: (M,) int64.

    Args:
        triangles: (F, 3), an array or a tensor on the CPU, as the next.
        vertex_ids: of the region.
        vertex_count: V.
    """
    inside = np.zeros(vertex_count, bool)
    inside[np.asarray(vertex_ids)] = True
    return np.flatnonzero(inside[np.asarray(triangles)].all(1))
