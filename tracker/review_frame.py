"""One review frame: input | colour overlay | landmarks | shaded geometry, with a footer (metrical-tracker's layout)."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tracker.head.plain import LEFT_EYE, RIGHT_EYE, PlainHead, region_triangles
from tracker.overlay import AMBER, GREEN, GREY, RED, Text, draw_landmarks, footer
from tracker.render import (
    Drawing,
    Layer,
    Selection,
    Surface,
    View,
    coverage,
    draw,
    render,
    render_geometry,
    rgba_texture,
)

if TYPE_CHECKING:
    # Frames are drawn without torch, which takes a second to import.
    from tracker.head.model import HeadModel

FOOTER_PX = 24
GEOMETRY_OPACITY = 0.9
STATUS_COLOURS = {"ok": GREEN, "poor": AMBER, "lost": RED}
# Regions behind the lips, by the names that head models use; the overlay shows the input there.
MOUTH_REGIONS = (
    "mouth_interior",
    "mouth",
    "mouth_socket",
    "inner_mouth",
    "tongue",
    "gums",
    "teeth",
    "upper_teeth",
    "lower_teeth",
)
# A texel counts as seen from this weight on, a pixel as the face's from this coverage on.
_SEEN = 0.5
# Clay: eyeballs a little brighter than skin, irises and the mouth's inside dark, so that gaze and lips can be judged.
_TONES = (
    (MOUTH_REGIONS, 0.4),
    (("left_eyeball", "right_eyeball"), 1.15),
    (("iris_left", "iris_right", "left_iris", "right_iris"), 0.4),
)
# The neck fades between these shares of the way from its end up to the chin.
_FADE = (0.5, 0.9)
_WHOLE_PIXEL = 0.999


@dataclass(frozen=True, eq=False)
class ReviewHead:
    """What of a subject stays the same in all frames.

    Attributes:
        surface: topology of the head.
        coloured: what shows appearance: all but the inside of the mouth.
        sculpted: what shows as clay, irises and the mouth's inside darker.
        measured: (F,) bool, triangles on which the overlay is compared with the input: face and eyeballs.
        texture: (T, T, 4) float32 appearance, see `tracker.render.rgba_texture`.
    """

    surface: Surface
    coloured: Selection
    sculpted: Selection
    measured: np.ndarray
    texture: np.ndarray


@dataclass(frozen=True, eq=False)
class ReviewInput:
    """What a review frame shows.

    Attributes:
        index: number of the tracked frame.
        image: (H, W, 3) uint8 RGB, the tracked picture.
        vertices_head_m: (V, 3).
        view: camera of the picture.
        sh: (9, 3) light in head space.
        status: 'ok', 'poor' or 'lost'.
        reprojection_px: median landmark error, NaN where there is none.
        photometric_l1: mean colour residual, NaN where there is none.
        fitted478_px: (478, 2), NaN where the model has no such point.
        detected478_px: (478, 2), or None where no face was found.
        detected68_px: (68, 2), or None.
    """

    index: int
    image: np.ndarray
    vertices_head_m: np.ndarray
    view: View
    sh: np.ndarray
    status: str
    reprojection_px: float
    photometric_l1: float
    fitted478_px: np.ndarray
    detected478_px: np.ndarray | None
    detected68_px: np.ndarray | None


@dataclass(frozen=True, eq=False)
class ReviewFrame:
    """A finished review frame.

    Attributes:
        picture: (H + footer, 4 W, 3) uint8 RGB, even sides.
        psnr_db: of the overlay inside the face; NaN where nothing of the face is seen.
    """

    picture: np.ndarray
    psnr_db: float


def review_head(model: "HeadModel | PlainHead", albedo: np.ndarray, valid: np.ndarray) -> ReviewHead:
    """Prepares a head model and its appearance.

    Args:
        model: the head.
        albedo: (T, T, 3) sRGB texture, row 0 is v = 1.
        valid: (T, T) weights in [0, 1].
    """
    surface = Surface.of(model)
    count = model.vertex_count
    mouth = np.zeros(len(surface.triangles), bool)
    for name in MOUTH_REGIONS:
        if name in model.regions:
            mouth[region_triangles(surface.triangles, model.regions[name], count)] = True
    eyes = np.asarray(model.skin_weights)[:, [LEFT_EYE, RIGHT_EYE]].sum(1) > 0.5
    measured = eyes[surface.triangles].all(1)
    if "face" in model.regions:
        measured[region_triangles(surface.triangles, model.regions["face"], count)] = True
    else:
        measured[:] = True
    seen = np.where(np.asarray(valid, np.float32) >= _SEEN, 1.0, 0.0).astype(np.float32)
    fade = _neck_fade(model)
    sculpted = Selection(opacity=fade, tone=_clay_tone(model))
    return ReviewHead(surface, Selection(~mouth, fade), sculpted, measured & ~mouth, rgba_texture(albedo, seen))


def _neck_fade(model: "HeadModel | PlainHead") -> np.ndarray:
    """(V,) opacity that fades over the lowest part of the neck: collars hide it, and its end is a cut."""
    height = np.asarray(model.template)[:, 1]
    face = height[np.asarray(model.regions["face"])] if "face" in model.regions else None
    chin = float(np.median(height) if face is None else face.min())
    low = float(height.min())
    start, end = low + _FADE[0] * (chin - low), low + _FADE[1] * (chin - low)
    return np.clip((height - start) / max(end - start, 1e-6), 0, 1).astype(np.float32)


def _clay_tone(model: "HeadModel | PlainHead") -> np.ndarray:
    """(V,) brightness of the clay by region."""
    tone = np.ones(model.vertex_count, np.float32)
    for names, value in _TONES:
        for name in names:
            if name in model.regions:
                tone[np.asarray(model.regions[name])] = value
    return tone


def compose(head: ReviewHead, shown: ReviewInput, panel_px: int = 1024) -> ReviewFrame:
    """Draws a review frame.

    Args:
        head: from `review_head`.
        shown: the frame.
        panel_px: a wider picture is shrunk to this width before anything is drawn; four panels of 1024 side by side
            stay within what players decode.

    Returns:
        The picture and the overlay's PSNR, at the size that is drawn.
    """
    scale = min(1.0, panel_px / shown.image.shape[1])
    shown = _shrunk(shown, scale)
    overlay, geometry, psnr = _drawn(head, shown)
    panels = [shown.image, overlay, shown.image, geometry]
    lines = (shown.detected478_px, shown.fitted478_px, shown.detected68_px)
    panels[2] = draw_landmarks(panels[2], *lines, scale=scale)
    row = np.concatenate(panels, 1)
    return ReviewFrame(np.concatenate([row, _footer(row.shape[1], shown, psnr)]), psnr)


def _shrunk(shown: ReviewInput, scale: float) -> ReviewInput:
    """The frame in a smaller picture of even sides; its landmarks are left in pixels of the larger one."""
    if scale == 1:
        return shown
    height, width = (2 * round(side * scale / 2) for side in shown.image.shape[:2])
    image = cv2.resize(shown.image, (width, height), interpolation=cv2.INTER_AREA)
    view = replace(shown.view, intrinsics=shown.view.intrinsics.scaled(scale), size=(height, width))
    return replace(shown, image=image, view=view)


def _drawn(head: ReviewHead, shown: ReviewInput) -> tuple[np.ndarray, np.ndarray, float]:
    """The picture with the head in its colours, with the head as clay, both uint8; the overlay's PSNR.

    Only the part of the picture with the head in it is rasterised, painted and converted.
    """
    overlay, geometry = shown.image.copy(), shown.image.copy()
    window = shown.view.window(shown.vertices_head_m)
    if not shown.image[window].size:
        return overlay, geometry, math.nan
    drawing = draw(head.surface, shown.vertices_head_m, shown.view.within(window))
    background = shown.image[window].astype(np.float32) / 255
    colour = render(drawing, head.texture, shown.sh, head.coloured, once=True)
    over = colour.over(background)
    psnr = overlay_psnr(background, over, face_mask(drawing, colour, head))
    overlay[window] = _as_bytes(over)
    geometry[window] = _as_bytes(render_geometry(drawing, head.sculpted).over(background, GEOMETRY_OPACITY))
    return overlay, geometry, psnr


def face_mask(drawing: Drawing, colour: Layer, head: ReviewHead) -> np.ndarray:
    """(H, W) bool: pixels wholly covered by face or eyes with known appearance."""
    return (coverage(drawing, head.measured) >= _WHOLE_PIXEL) & (colour.alpha >= _WHOLE_PIXEL)


def overlay_psnr(image: np.ndarray, overlay: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio of an overlay against the input inside a mask.

    Args:
        image: (H, W, 3) in [0, 1].
        overlay: (H, W, 3) in [0, 1].
        mask: (H, W) bool.

    Returns:
        Decibels; NaN for an empty mask, infinite for equal pictures.
    """
    if not mask.any():
        return math.nan
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    difference = cv2.subtract(image[box], overlay[box])
    error = cv2.norm(difference, cv2.NORM_L2SQR, mask[box].astype(np.uint8)) / (3 * np.count_nonzero(mask))
    return math.inf if error == 0 else -10 * math.log10(error)


def _footer(width: int, shown: ReviewInput, psnr_db: float) -> np.ndarray:
    left = [Text(f"frame {shown.index:05d}"), Text(shown.status, STATUS_COLOURS.get(shown.status, RED))]
    if shown.detected478_px is None:
        left.append(Text("no face found", RED))
    right = [
        Text(f"{label} {value:.{digits}f}{unit}", GREY)
        for label, value, digits, unit in (
            ("landmarks", shown.reprojection_px, 2, " px"),
            ("colour", shown.photometric_l1, 3, ""),
            ("overlay", psnr_db, 1, " dB"),
        )
        if math.isfinite(value)
    ]
    return footer(width, FOOTER_PX, left, right)


def _as_bytes(picture: np.ndarray) -> np.ndarray:
    # Colours are within [0, 1] up to rounding; the conversion saturates at 255 and rounds.
    return cv2.convertScaleAbs(picture, alpha=255)
