"""What skin around the eyes looks like when they are shut: a second appearance, laid over the first as lids close.

Open eyes show a crease, lashes before the white and the shadow between them where a shut lid is smooth skin; one colour
a texel cannot be both. Texels near an eye therefore have two colours, unwrapped from frames with open and with shut
lids, and the closure says how much of each a frame shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Closures between which a frame's look goes over from open to shut. A blink's lowest frame is often fitted at 0.6.
_OPEN, _SHUT = 0.2, 0.6


@dataclass(frozen=True, eq=False)
class ShutLids:
    """The look of shut lids.

    Attributes:
        albedo: (T, T, 3) float32 sRGB, row 0 is v = 1.
        mask: (T, T, 2) float32 in [0, 1], how far a texel takes the look of the left and of the right lids.
    """

    albedo: np.ndarray
    mask: np.ndarray

    def over(self, texture: np.ndarray, closure: Sequence[float]) -> np.ndarray:
        """A texture with the lids as far closed as they are.

        Args:
            texture: (T, T, 4) float32 of open eyes, see `tracker.render.rgba_texture`.
            closure: of the left and the right lids.

        Returns:
            The texture itself where both are open, else a new one.
        """
        share = shut_share(np.asarray(closure, np.float32))
        if not share.any():
            return texture
        rows, columns = (np.flatnonzero(self.mask.any((axis, 2))) for axis in (1, 0))
        if not len(rows):
            return texture
        out = texture.copy()
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        weight = (self.mask[box] @ share)[..., None]
        out[box][..., :3] += weight * (self.albedo[box] - out[box][..., :3])
        return out


def shut_share(closure: np.ndarray) -> np.ndarray:
    """How much of the shut look lids show: 0 for open ones, 1 from a closure of 0.6 on, smooth between."""
    x = np.clip((np.asarray(closure) - _OPEN) / (_SHUT - _OPEN), 0, 1)
    return x * x * (3 - 2 * x)
