"""The texels of a head's texture: which triangle each belongs to, and how values get from vertices to them."""

from dataclasses import dataclass

import cv2
import numpy as np

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
        """(P, C) texel values as a (size, size, C) picture.

        Gaps take the nearest texel, or one hardly farther, so that seams do not show.
        """
        picture = np.zeros((self.size, self.size, values.shape[1]), np.float32)
        covered = self.fragments.covered
        picture[covered] = values
        if not covered.any():
            return picture
        # OpenCV's, because scipy.ndimage takes a sixth of a second to import.
        gaps = (~covered).astype(np.uint8)
        _, labels = cv2.distanceTransformWithLabels(gaps, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        # Labels count the covered texels from 1.
        nearest = np.flatnonzero(covered)[labels - 1]
        return picture.reshape(-1, values.shape[1])[nearest]
