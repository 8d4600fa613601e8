"""The texels of a head's texture: which triangle each belongs to, and how values get from vertices to them."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tracker.camera import Intrinsics
from tracker.head.model import HeadModel
from tracker.rasterizer import Fragments, rasterize


@dataclass(frozen=True, eq=False)
class Texels:
    """P texels of a square texture (row 0 is v = 1) that lie inside a UV triangle.

    Attributes:
        size: texels a side.
        fragments: rasterised UV layout.
        triangles: (F, 3) vertex ids.
    """

    size: int
    fragments: Fragments
    triangles: np.ndarray

    @staticmethod
    def of(model: HeadModel, size: int) -> "Texels":
        """Rasterises a model's UV layout; texel centres lie at (column + 0.5) / size, 1 - (row + 0.5) / size."""
        uv = model.uv.numpy()
        flat = np.stack([uv[:, 0], 1 - uv[:, 1], np.ones(len(uv))], 1).astype(np.float32)
        fragments = rasterize(
            flat, model.uv_triangles.numpy(), Intrinsics(float(size), 0.0, 0.0), (size, size), "numba"
        )
        return Texels(size, fragments, model.triangles.numpy())

    def interpolate_vertices(self, values: np.ndarray) -> np.ndarray:
        """(V, C) vertex values at the texels: (P, C) float32."""
        return self.fragments.interpolate(values, self.triangles)

    def picture(self, values: np.ndarray) -> np.ndarray:
        """(P, C) texel values as a (size, size, C) picture; gaps take the nearest texel, so that seams do not show."""
        picture = np.zeros((self.size, self.size, values.shape[1]), np.float32)
        covered = self.fragments.covered
        picture[covered] = values
        rows, columns = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
        return picture[rows, columns]
