"""One review frame: input | colour overlay | landmarks | shaded geometry, with a footer, as metrical-tracker lays it out."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tracker.head.model import LEFT_EYE, RIGHT_EYE, HeadModel, region_triangles
from tracker.overlay import AMBER, GREEN, GREY, RED, Text, draw_landmarks, footer
from tracker.render import Drawing, Layer, Surface, View, coverage, draw, render, render_geometry, rgba_texture

FOOTER_PX = 24
# Wider panels are shrunk: four of them side by side stay within what players decode.
MAX_PANEL_PX = 1024
GEOMETRY_OPACITY = 0.9
STATUS_COLOURS = {"ok": GREEN, "poor": AMBER, "lost": RED}
# Regions behind the lips, by the names that head models use; the overlay shows the input there.
MOUTH_REGIONS = ("mouth_interior", "mouth", "mouth_socket", "inner_mouth", "tongue", "gums", "teeth", "upper_teeth", "lower_teeth")
# A texel counts as seen from this weight on, a pixel as the face's from this coverage on.
_SEEN = 0.5
_WHOLE_PIXEL = 0.999


@dataclass(frozen=True, eq=False)
class ReviewHead:
    """What of a subject stays the same in all frames.

    Attributes:
        surface: topology of the head.
        painted: (F,) bool, triangles that show appearance: all but the inside of the mouth.
        measured: (F,) bool, triangles on which the overlay is compared with the input: face and eyeballs.
        texture: (T, T, 4) float32 appearance, see `tracker.render.rgba_texture`.
    """

    surface: Surface
    painted: np.ndarray
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


def review_head(model: HeadModel, albedo: np.ndarray, valid: np.ndarray) -> ReviewHead:
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
    eyes = model.skin_weights[:, [LEFT_EYE, RIGHT_EYE]].sum(1).numpy() > 0.5
    measured = eyes[surface.triangles].all(1)
    if "face" in model.regions:
        measured[region_triangles(surface.triangles, model.regions["face"], count)] = True
    else:
        measured[:] = True
    seen = np.where(np.asarray(valid, np.float32) >= _SEEN, 1.0, 0.0).astype(np.float32)
    return ReviewHead(surface, ~mouth, measured & ~mouth, rgba_texture(albedo, seen))


def compose(head: ReviewHead, shown: ReviewInput) -> ReviewFrame:
    """Draws a review frame.

    Args:
        head: from `review_head`.
        shown: the frame.

    Returns:
        The picture and the overlay's PSNR.
    """
    drawing = draw(head.surface, shown.vertices_head_m, shown.view)
    background = shown.image.astype(np.float32) / 255
    colour = render(drawing, head.texture, shown.sh, head.painted)
    overlay = colour.over(background)
    psnr = overlay_psnr(background, overlay, face_mask(drawing, colour, head))
    geometry = render_geometry(drawing).over(background, GEOMETRY_OPACITY)
    height, width = shown.image.shape[:2]
    scale = min(1.0, MAX_PANEL_PX / width)
    size = (2 * round(width * scale / 2), 2 * round(height * scale / 2))
    panels = [shown.image, _as_bytes(overlay), shown.image, _as_bytes(geometry)]
    if size != (width, height):
        panels = [cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels]
    lines = (shown.detected478_px, shown.fitted478_px, shown.detected68_px)
    panels[2] = draw_landmarks(panels[2], *lines, scale=scale)
    row = np.concatenate(panels, 1)
    return ReviewFrame(np.concatenate([row, _footer(row.shape[1], shown, psnr)]), psnr)


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
    error = float(np.mean((image[mask] - overlay[mask]) ** 2, dtype=np.float64))
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
    return cv2.convertScaleAbs(np.clip(picture, 0, 1), alpha=255)
