"""What a rasterisation gives, and the tests that a depth buffer answers."""

from dataclasses import dataclass

import numpy as np

from tracker.camera import Intrinsics

BACKGROUND = -1

# A surface point may lie this far behind the depth buffer and still count as seen: half a pixel of a 0.25 m head that
# fills 512 pixels, at 75 degrees from the line of sight, changes depth by about 1 mm; the rest is margin.
VISIBILITY_TOLERANCE_M = 0.003


@dataclass(frozen=True, eq=False)
class Fragments:
    """The nearest surface at each pixel centre (pixel i covers [i, i + 1), its centre lies at i + 0.5).

    Attributes:
        triangle_index: (H, W) int32 triangle, -1 where nothing is seen.
        bary: (H, W, 3) float32 perspective-correct barycentric coordinates, 0 on the background; may be empty where
            they were not asked for.
        depth_m: (H, W) float32 metres along the optical axis, 0 on the background.
    """

    triangle_index: np.ndarray
    bary: np.ndarray
    depth_m: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        """(H, W) bool, where any triangle is seen."""
        return self.triangle_index >= 0

    def interpolate(self, values: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        """Per-vertex values at the covered pixels.

        Args:
            values: (V, C) values of the vertices (or texture vertices) that `triangles` counts.
            triangles: (F, 3), in the order that was rasterised.

        Returns:
            (P, C) float32, one row a covered pixel, in the order of `np.nonzero(fragments.covered)`.
        """
        covered = self.covered
        corners = np.asarray(values, np.float32)[triangles[self.triangle_index[covered]]]
        return np.einsum("pk,pkc->pc", self.bary[covered], corners)


def visible_points(
    fragments: Fragments,
    points_cam_m: np.ndarray,
    normals_cam: np.ndarray,
    intrinsics: Intrinsics,
    tolerance_m: float = VISIBILITY_TOLERANCE_M,
    min_cosine: float = 0.1,
) -> np.ndarray:
    """Which surface points the camera sees, judged against a depth buffer of the same camera.

    A point is seen if it lies in the picture, turns towards the camera, and is no farther than the surface rasterised
    at its pixel. A point whose pixel is background (within a pixel of the silhouette) counts as unseen.

    Args:
        fragments: the depth buffer.
        points_cam_m: (N, 3) metres, camera frame.
        normals_cam: (N, 3) unit outward normals, camera frame.
        intrinsics: camera of the depth buffer.
        tolerance_m: how far behind the buffer a point may lie, metres.
        min_cosine: least cosine between the normal and the direction to the camera.

    Returns:
        (N,) bool.
    """
    height, width = fragments.depth_m.shape
    points = np.asarray(points_cam_m, np.float64)
    normals = np.asarray(normals_cam, np.float64)
    z = points[:, 2]
    ahead = z > 0
    safe_z = np.where(ahead, z, 1.0)
    u = np.floor(intrinsics.focal_px * points[:, 0] / safe_z + intrinsics.cx_px)
    v = np.floor(intrinsics.focal_px * points[:, 1] / safe_z + intrinsics.cy_px)
    inside = ahead & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    cosine = -(points * normals).sum(1) / np.maximum(np.linalg.norm(points, axis=1), 1e-12)
    column = np.where(inside, u, 0).astype(np.int64)
    row = np.where(inside, v, 0).astype(np.int64)
    depth = fragments.depth_m[row, column]
    return inside & (cosine >= min_cosine) & (depth > 0) & (z <= depth + tolerance_m)
