"""Where the look of shut lids (`tracker.shut_look`) holds, and which frames show it."""

from collections.abc import Sequence

import numpy as np
import torch

from tracker.head.model import LEFT_EYE as LEFT_EYE_JOINT
from tracker.head.model import RIGHT_EYE as RIGHT_EYE_JOINT
from tracker.head.model import HeadModel, embed
from tracker.landmark_lines import LEFT_EYE, RIGHT_EYE

# The shut look reaches this far from the eye's border at rest, wholly and at all, metres: lids and crease, not brows.
_WHOLE_M, _AT_ALL_M = 0.009, 0.014
# Extra frames with shut lids: eyes open by less than this share of the clip's median, this many frames apart.
_SHUT_SHARE, _APART, _MOST = 0.5, 3, 4


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
