"""Dense optical flow between the predicted appearance and the picture, as targets of surface samples.

The clip's unwrapped appearance is drawn at a state; both it and the picture are divided by their local mean, so that
light drops out; flow runs from the drawing to the picture and back. A sample's target is its place in the drawing plus
the flow there. Flow looks much further than a photometric residual, whose slope ends with the texture's wavelength, and
needs no learned weights.

Source of the flow: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016, as OpenCV has it.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.clip import ClipModel
from tracker.head.model import HeadModel
from tracker.kernels.contrast import DARKEST_MEAN, HALF
from tracker.render import Selection, Surface, View, draw, render
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.projection import project_state
from tracker.review_frame import review_head
from tracker.review_kernels import COLOURED
from tracker.shading import rotate_sh
from tracker.state import FrameState

# Patches every 3 pixels down to full resolution, then variational smoothing.
_PRESET = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
# The longer side of what the flow sees is shrunk by a whole number to about this many pixels.
SIDE_PX = 200
# Room around the samples, as a share of their extent: where the head may really be.
_MARGIN = 0.15
# Standard deviation of the local mean, pixels of the flow's pictures.
_MEAN_SIGMA_PX = 6.0
# Structure is summed over a window of this standard deviation, pixels: about a patch of the flow.
_PATCH_SIGMA_PX = 2.0
# A patch whose weaker direction has this mean squared slope (local contrast a pixel, squared) is half believed.
_SLOPE = 0.01**2
# Forward and backward flow that disagree by this much are half believed, pixels of the flow's pictures.
_DISAGREEMENT_PX = 0.5
# Standard deviation of a target, pixels of the flow's pictures.
_SIGMA_PX = 0.5
# Every how many-th sample has a target: neighbours lie in the same patches.
_STRIDE = 3
# A target nearer than this to the drawing's edge mixes with what lies behind the head, pixels of the flow's pictures.
_EDGE_PX = 3
# A window that is narrower than two patches says nothing.
_LEAST_PX = 16
# Fewer targets than this say nothing.
_MIN_TARGETS = 30


@dataclass(frozen=True, eq=False)
class FlowAppearance:
    """What is drawn of a clip.

    Attributes:
        surface: topology of the head.
        painted: which triangles: not the inside of the mouth, whose look changes.
        texture: (T, T, 4) float32, see `tracker.render.rgba_texture`.
    """

    surface: Surface
    painted: Selection
    texture: np.ndarray


def flow_appearance(model: HeadModel, albedo: np.ndarray, valid: np.ndarray) -> FlowAppearance:
    """What the review's overlay shows of a clip.

    Args:
        model: the head model.
        albedo: (T, T, 3) sRGB texture, row 0 is v = 1.
        valid: (T, T) weights in [0, 1].
    """
    head = review_head(model, albedo, valid)
    return FlowAppearance(head.surface, Selection((head.kind & COLOURED) > 0, head.fade), head.texture)


@dataclass(frozen=True, eq=False)
class FlowWindow:
    """The part of the picture that the flow sees.

    Attributes:
        rows: of the full picture.
        columns: of the full picture.
        shrink: pixels of the full picture per pixel of the flow's.
    """

    rows: slice
    columns: slice
    shrink: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the flow's pictures."""
        return (self.rows.stop - self.rows.start) // self.shrink, (
            self.columns.stop - self.columns.start
        ) // self.shrink

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) float32 in [0, 1] of a full (H, W, 3) uint8 picture."""
        part = np.ascontiguousarray(image[self.rows, self.columns])
        if self.shrink > 1:
            part = cv2.resize(part, self.size[::-1], interpolation=cv2.INTER_AREA)
        return part.astype(np.float32) * np.float32(1 / 255)

    def inwards(self, pixels: np.ndarray) -> np.ndarray:
        """Continuous pixels (N, 2) of the full picture in those of the flow's."""
        return (pixels - (self.columns.start, self.rows.start)) / self.shrink

    def intrinsics(self, intrinsics: Intrinsics) -> Intrinsics:
        """The full picture's camera, for the flow's pictures."""
        moved = Intrinsics(
            intrinsics.focal_px, intrinsics.cx_px - self.columns.start, intrinsics.cy_px - self.rows.start
        )
        return moved.scaled(1 / self.shrink)


def window_around(pixels: np.ndarray, size: tuple[int, int]) -> FlowWindow | None:
    """The window around samples (N, 2) in a (height, width) picture; None where hardly any of it is in the picture."""
    low, high = pixels.min(0), pixels.max(0)
    room = _MARGIN * (high - low).max()
    shrink = max(1, round(float((high - low).max() + 2 * room) / SIDE_PX))
    parts = []
    for axis, length in ((1, size[0]), (0, size[1])):
        start = min(max(math.floor(low[axis] - room), 0), length)
        stop = min(max(math.ceil(high[axis] + room), start), length)
        parts.append(slice(start, start + (stop - start) // shrink * shrink))
    window = FlowWindow(parts[0], parts[1], shrink)
    return window if min(window.size) >= _LEAST_PX else None


def local_grey(picture: np.ndarray) -> np.ndarray:
    """Brightness over its local mean, an even area 128: (h, w) uint8 of an (h, w, 3) picture in [0, 1]."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture, np.float32), cv2.COLOR_RGB2GRAY)
    mean = cv2.GaussianBlur(grey, (0, 0), _MEAN_SIGMA_PX)
    return cv2.convertScaleAbs(grey / (mean + np.float32(DARKEST_MEAN)), alpha=256 * HALF)


def flow_between(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Optical flow of (h, w) uint8 pictures.

    Args:
        first: from `local_grey`.
        second: from `local_grey`.

    Returns:
        flow (h, w, 2) float32 from the first to the second, pixels; how far (h, w) the flow back misses the start.
    """
    dense = cv2.DISOpticalFlow.create(_PRESET)
    there, back = (np.zeros((*first.shape, 2), np.float32) for _ in range(2))
    dense.calc(first, second, there)
    dense.calc(second, first, back)
    rows, columns = np.indices(first.shape, np.float32)
    arrived = (columns + there[..., 0], rows + there[..., 1])
    returned = cv2.remap(back, *arrived, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return there, np.linalg.norm(there + returned, axis=2)


def weaker_slope(grey: np.ndarray) -> np.ndarray:
    """Mean squared slope around each pixel in the direction where it is weakest, (h, w) float32.

    The smaller eigenvalue of the structure tensor, in local contrast a pixel, squared.
    """
    slopes = cv2.spatialGradient(grey, ksize=3)
    x, y = (slope.astype(np.float32) * np.float32(1 / (8 * 256)) for slope in slopes)
    xx, xy, yy = (cv2.GaussianBlur(product, (0, 0), _PATCH_SIGMA_PX) for product in (x * x, x * y, y * y))
    return 0.5 * (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy * xy))


def flow_term(
    appearance: FlowAppearance,
    clip: ClipModel,
    image: np.ndarray,
    state: FrameState,
    vertices_head_m: Tensor,
    samples: tuple[Tensor, Tensor],
    weight: float,
) -> LandmarkTerm | None:
    """Where the flow from the drawn head to the picture takes the visible samples.

    Args:
        appearance: of the clip.
        clip: the calibrated clip.
        image: (H, W, 3) uint8 RGB.
        state: in which the head is drawn, light included.
        vertices_head_m: (V, 3) of the head in that state.
        samples: ids (M,) of the visible samples, and their cosine (M,) to the line of sight.
        weight: of a sample that is surely found.

    Returns:
        A term without pairs; None where too little of the face is seen.
    """
    ids, cosine = (part[::_STRIDE] for part in samples)
    points = clip.sample_points.subset(ids)
    pixels = project_state(points, state, clip.intrinsics)
    window = window_around(pixels.numpy(), clip.size)
    if window is None:
        return None
    picture = window.cut(image)
    view = View(state.R.numpy(), state.t.numpy(), window.intrinsics(clip.intrinsics), window.size)
    drawing = draw(appearance.surface, vertices_head_m.numpy(), view, supersample=1)
    layer = render(drawing, appearance.texture, rotate_sh(state.light, state.R.T).numpy(), appearance.painted)
    drawn, seen = local_grey(layer.over(picture)), local_grey(picture)
    there, miss = flow_between(drawn, seen)
    slope = weaker_slope(drawn)
    covered = cv2.erode(layer.alpha, np.ones((2 * _EDGE_PX + 1,) * 2, np.uint8))
    sure = covered * slope / (slope + _SLOPE) / (1 + (miss / _DISAGREEMENT_PX) ** 2) ** 2
    moved, found = _at(np.dstack([there, sure.astype(np.float32)]), window.inwards(pixels.numpy()))
    confidence = torch.from_numpy(found) * weight * cosine
    if int((confidence > 0.1 * weight).sum()) < _MIN_TARGETS:
        return None
    return LandmarkTerm(
        points=points,
        targets_px=pixels + window.shrink * torch.from_numpy(moved),
        sigma_px=_SIGMA_PX * window.shrink,
        confidence=confidence,
        pairs=torch.zeros(0, 2, dtype=torch.long),
        pair_sigma_px=1.0,
        pair_confidence=torch.zeros(0),
    )


def _at(maps: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow (N, 2) and confidence (N,) at continuous pixels."""
    # cv2 counts pixel centres at whole numbers.
    x, y = (pixels.T - 0.5).astype(np.float32)
    values = cv2.remap(maps, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    return values[:, :2], values[:, 2]
