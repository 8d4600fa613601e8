"""One review frame: input | colour overlay | landmarks | shaded geometry, with a footer (metrical-tracker's layout)."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tracker.head.plain import LEFT_EYE, RIGHT_EYE, PlainHead, region_triangles
from tracker.overlay import AMBER, GREEN, GREY, RED, Text, draw_landmarks, footer
from tracker.rasterizer import rasterize
from tracker.render import SUPERSAMPLE, Surface, View, rgba_texture, scaled_light
from tracker.render_kernels import mesh_normals
from tracker.review_kernels import COLOURED, MEASURED, lit_vertices, paint_both

if TYPE_CHECKING:
    # Frames are drawn without torch, which takes a second to import.
    from tracker.head.model import HeadModel

FOOTER_PX = 24
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
# A texel counts as seen from this weight on.
_SEEN = 0.5
# Clay: eyeballs a little brighter than skin, irises and the mouth's inside dark, so that gaze and lips can be judged.
_TONES = (
    (MOUTH_REGIONS, 0.4),
    (("left_eyeball", "right_eyeball"), 1.15),
    (("iris_left", "iris_right", "left_iris", "right_iris"), 0.4),
)
# The neck fades between these shares of the way from its end up to the chin.
_FADE = (0.5, 0.9)


@dataclass(frozen=True, eq=False)
class ReviewHead:
    """What of a subject stays the same in all frames.

    Attributes:
        surface: topology of the head.
        kind: (F,) uint8, 1 (`COLOURED`) for triangles that show appearance: all but the inside of the mouth; 2 more
            (`MEASURED`) for those on which the overlay is compared with the input: face and eyeballs.
        fade: (V,) float32 opacity.
        tone: (V,) float32 brightness of the clay: irises and the mouth's inside are darker.
        texture: (T, T, 4) float32 appearance, see `tracker.render.rgba_texture`.
    """

    surface: Surface
    kind: np.ndarray
    fade: np.ndarray
    tone: np.ndarray
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
    texture = rgba_texture(albedo, seen)
    kind = np.where(mouth, 0, COLOURED + MEASURED * measured).astype(np.uint8)
    return ReviewHead(surface, kind, _neck_fade(model), _clay_tone(model), texture)


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

    Only the part of the picture with the head in it is rasterised and painted.
    """
    overlay, geometry = shown.image.copy(), shown.image.copy()
    window = shown.view.window(shown.vertices_head_m)
    if not shown.image[window].size:
        return overlay, geometry, math.nan
    view, surface = shown.view.within(window), head.surface
    size = (SUPERSAMPLE * view.size[0], SUPERSAMPLE * view.size[1])
    vertices = np.ascontiguousarray(shown.vertices_head_m, np.float32)
    points = vertices @ view.R.T + view.t
    fine = view.intrinsics.scaled(SUPERSAMPLE)
    fragments = rasterize(points, surface.triangles, fine, size, cull_back=True, weights=False)
    normals = mesh_normals(vertices, surface.triangles)
    lit = lit_vertices(normals, np.asarray(view.R, np.float64), scaled_light(shown.sh), head.fade, head.tone)
    camera = view.intrinsics
    squares, count = paint_both(
        fragments.triangle_index,
        (surface.triangles, surface.uv_triangles, head.kind),
        (points, lit, surface.uv),
        head.texture,
        (camera.focal_px, camera.cx_px, camera.cy_px),
        SUPERSAMPLE,
        (shown.image[window], overlay[window], geometry[window]),
    )
    return overlay, geometry, _psnr_db(squares, 3 * count)


def _psnr_db(squares: float, count: int) -> float:
    """Peak signal-to-noise ratio from a sum of squared differences of values in [0, 1] and their number.

    Returns:
        Decibels; NaN for no values, infinite for equal ones.
    """
    if count == 0:
        return math.nan
    return math.inf if squares == 0 else -10 * math.log10(squares / count)


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
