"""What skin around the eyes looks like when they are shut: a second appearance, laid over the first as lids close.

Open eyes show a crease, lashes before the white and the shadow between them where a shut lid is smooth skin; one colour
a texel cannot be both. Texels near an eye therefore have two colours, unwrapped from frames with open and with shut
lids, and the closure says how much of each a frame shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tracker.head.model import LEFT_EYE as LEFT_EYE_JOINT
from tracker.head.model import RIGHT_EYE as RIGHT_EYE_JOINT
from tracker.head.model import HeadModel, embed
from tracker.landmark_lines import LEFT_EYE, RIGHT_EYE

# Closures between which a frame's look goes over from open to shut. A blink's lowest frame is often fitted at 0.6.
_OPEN, _SHUT = 0.2, 0.6
# The shut look reaches this far from the eye's border at rest, wholly and at all, metres: lids and crease, not brows.
_WHOLE_M, _AT_ALL_M = 0.009, 0.014
# Extra frames with shut lids: eyes open by less than this share of the clip's median, this many frames apart.
_SHUT_SHARE, _APART, _MOST = 0.5, 3, 4


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


def lid_mask(model: HeadModel) -> np.ndarray:
    """(V, 2) how far a vertex takes the look of the left and of the right lids, in [0, 1]; zero on eyeballs.

    A model without FaceMesh's points on the eyes' borders has none.
    """
    at, mask = model.landmarks478, np.zeros((model.vertex_count, 2), np.float32)
    balls = model.skin_weights[:, [LEFT_EYE_JOINT, RIGHT_EYE_JOINT]].sum(1).numpy() > 0.5
    for side, line in enumerate((LEFT_EYE, RIGHT_EYE)):
        on_border = torch.from_numpy(np.isin(at.indices.numpy(), line.points))
        if not bool(on_border.any()) or not bool(model.eyelid_basis[..., side].any()):
            continue
        border = embed(at.faces[on_border], at.bary[on_border], model.triangles, model.template)
        distance = torch.cdist(model.template, border).min(1).values.numpy()
        x = np.clip((_AT_ALL_M - distance) / (_AT_ALL_M - _WHOLE_M), 0, 1)
        mask[:, side] = np.where(balls, 0, x * x * (3 - 2 * x))
    return mask


def shut_frames(opening: np.ndarray, taken: Sequence[int]) -> list[int]:
    """Frames that show shut lids best, beside those that are taken already.

    Args:
        opening: (N,) of the detected eyes in each frame, infinite where there is no face.
        taken: frames that are looked at anyway.

    Returns:
        At most four, most closed first.
    """
    seen = np.isfinite(opening)
    if not seen.any():
        return []
    chosen: list[int] = []
    for index in np.argsort(opening, kind="stable").tolist():
        if opening[index] >= _SHUT_SHARE * np.median(opening[seen]) or len(chosen) == _MOST:
            break
        if all(abs(index - other) >= _APART for other in chosen):
            chosen.append(index)
    return [index for index in chosen if index not in taken]
