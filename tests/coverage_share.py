"""How much of each pixel a drawn head covers."""

import numpy as np

from tracker.render import Drawing


def coverage(drawing: Drawing, chosen: np.ndarray | None = None) -> np.ndarray:
    """(H, W) share of each pixel's samples on which a triangle is seen, or one of the chosen (F,) bool."""
    index, samples = drawing.fragments.triangle_index, drawing.supersample
    seen = index >= 0
    if chosen is not None:
        seen = seen & chosen[index]
    height, width = drawing.view.size
    return seen.reshape(height, samples, width, samples).mean((1, 3)).astype(np.float32)
