"""Smooth fields over the outer skin that take given values at handles (screened bi-Laplacian).

The skin is cut at the eye and mouth openings, so that a field on the upper lip reaches the lower one only around the
corners. Length scale: the Green's function of `lap^2 + 1 / scale^4` falls off within about two scales.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from tracker.head.build.assemble import HeadMesh
from tracker.head.build.mesh import cotangent_laplacian

_OUTER_PARTS = ("face", "skull", "left_ear", "right_ear", "neck_cap")


class SkinFields:
    """Solver of smooth fields on one head mesh."""

    def __init__(self, mesh: HeadMesh) -> None:
        self.count = len(mesh.vertices)
        self.outer = np.unique(np.concatenate([mesh.groups[name] for name in _OUTER_PARTS]))
        index = np.full(self.count, -1)
        index[self.outer] = np.arange(len(self.outer))
        self.index = index
        triangles = index[mesh.triangles]
        triangles = triangles[(triangles >= 0).all(1)]
        laplacian, self.areas = cotangent_laplacian(mesh.vertices[self.outer], triangles)
        self.bending = (laplacian @ sparse.diags(1 / self.areas) @ laplacian).tocsc()
        self.laplacian = laplacian

    def solve(self, ids: np.ndarray, values: np.ndarray, scale_mm: float, stiffness: float = 400.0) -> np.ndarray:
        """The smoothest field with `values` at vertices `ids` that dies away from them.

        Args:
            ids: (H,) vertex ids on the outer skin.
            values: (H, K).
            scale_mm: fall-off length.
            stiffness: of the handles relative to the screening; high values interpolate.

        Returns:
            (V, K); zero off the outer skin.
        """
        handle = np.zeros(len(self.outer))
        target = np.zeros((len(self.outer), values.shape[1]))
        local = self.index[ids]
        # A handle acts as a patch of fixed area, however fine the mesh is there.
        handle[local] = stiffness * 12.0 / scale_mm**4
        target[local] = values
        system = self.bending + sparse.diags(self.areas / scale_mm**4 + handle)
        solution = splu(system.tocsc()).solve(handle[:, None] * target)
        out = np.zeros((self.count, values.shape[1]))
        out[self.outer] = solution
        return out

    def through(self, values: dict[int, float]) -> np.ndarray:
        """A field within [0, 1] that takes the given values at the given vertices and bends little between: (V,)."""
        ids = self.index[np.array(list(values))]
        fixed = np.zeros(len(self.outer), bool)
        fixed[ids] = True
        value = np.zeros(len(self.outer))
        value[ids] = list(values.values())
        free = ~fixed
        system = self.bending[free][:, free]
        value[free] = splu(system.tocsc()).solve(-self.bending[free][:, fixed] @ value[fixed])
        out = np.zeros(self.count)
        out[self.outer] = np.clip(value, 0, 1)
        return out
