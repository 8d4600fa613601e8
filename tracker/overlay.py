"""Drawing over pictures: landmark lines, panels side by side, a footer of text. All pictures are uint8 RGB."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tracker.camera import to_cv2_pixels
from tracker.landmark_lines import DENSE_LINES, Line

Colour = tuple[int, int, int]
GREEN: Colour = (60, 220, 90)
RED: Colour = (255, 70, 60)
AMBER: Colour = (255, 176, 32)
WHITE: Colour = (235, 235, 235)
GREY: Colour = (150, 150, 150)
FOOTER_COLOUR: Colour = (24, 26, 30)

_UNDERLINE: Colour = (24, 150, 58)

# cv2 draws at whole pixels unless coordinates come as fixed point with this many fractional bits.
_SHIFT = 4
_FOOTER_TEXT_SHARE = 0.58


@dataclass(frozen=True)
class Text:
    """A piece of text in a footer."""

    text: str
    colour: Colour = WHITE


def draw_lines(
    image: np.ndarray, points_px: np.ndarray, lines: Sequence[Line], colour: Colour, thickness: int = 1
) -> None:
    """Draws anti-aliased lines through landmarks in place; edges with a NaN end are left out.

    Args:
        image: (H, W, 3) uint8, contiguous.
        points_px: (N, 2) continuous pixels.
        lines: which landmarks to join.
        colour: RGB.
        thickness: pixels.
    """
    known = np.isfinite(points_px).all(1)
    all_known = bool(known.all())
    fixed = _fixed(points_px if all_known else np.where(known[:, None], points_px, 0))
    # Whole lines of a kind in one call: cv2 draws them one after another as single calls would.
    for closed, group in groupby(lines, lambda line: line.closed):
        ids = [_ids(line) for line in group]
        broken = [] if all_known else [i for i in ids if not known[i].all()]
        whole = [fixed[i] for i in ids if all_known or known[i].all()]
        cv2.polylines(image, whole, closed, colour, thickness, cv2.LINE_AA, _SHIFT)
        for i in broken:
            following = np.roll(i, -1)
            for here, there in zip(i, following if closed else following[:-1], strict=False):
                if known[here] and known[there]:
                    ends = tuple(fixed[here]), tuple(fixed[there])
                    cv2.line(image, *ends, colour, thickness, cv2.LINE_AA, _SHIFT)


@lru_cache(maxsize=256)
def _ids(line: Line) -> np.ndarray:
    """Landmarks of a line in an array."""
    return np.array(line.points)


def draw_points(image: np.ndarray, points_px: np.ndarray, colour: Colour, radius_px: float = 1.0) -> None:
    """Draws anti-aliased dots in place; NaN points are left out."""
    for x, y in _fixed(points_px[np.isfinite(points_px).all(1)]):
        cv2.circle(image, (int(x), int(y)), round(radius_px * (1 << _SHIFT)), colour, -1, cv2.LINE_AA, _SHIFT)


def draw_landmarks(
    image: np.ndarray,
    detected478_px: np.ndarray | None,
    fitted478_px: np.ndarray | None,
    detected68_px: np.ndarray | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    """Detected landmarks in green, fitted ones in red, as contour lines; the 68 as small dots.

    Args:
        image: (H, W, 3) uint8 RGB.
        detected478_px: (478, 2) pixels of the picture before scaling, or None.
        fitted478_px: (478, 2), NaN where the model has no such point, or None.
        detected68_px: (68, 2), or None.
        scale: of the drawn picture against the picture that the landmarks belong to.

    Returns:
        A new picture, a little darker so that the lines stand out.
    """
    out = np.ascontiguousarray(cv2.convertScaleAbs(image, alpha=0.72))
    if detected68_px is not None:
        draw_points(out, detected68_px * scale, (150, 235, 165), 1.3)
    if detected478_px is not None:
        # Thicker and darker than the red lines over it, so that both are seen where they agree.
        draw_lines(out, detected478_px * scale, DENSE_LINES, _UNDERLINE, thickness=2)
        draw_lines(out, detected478_px * scale, DENSE_LINES, GREEN)
    if fitted478_px is not None:
        draw_lines(out, fitted478_px * scale, DENSE_LINES, RED)
        draw_lines(out, fitted478_px * scale, DENSE_LINES, RED)
    return out


def footer(width: int, height: int, left: Sequence[Text], right: Sequence[Text]) -> np.ndarray:
    """A strip of text.

    Args:
        width: pixels.
        height: pixels.
        left: pieces set from the left edge.
        right: pieces set towards the right edge.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    strip = np.empty((height, width, 3), np.uint8)
    strip[:] = FOOTER_COLOUR
    gap = height * 0.7
    x = gap * 0.6
    for piece in left:
        picture, length = _written(piece, height)
        _put(strip, picture, round(x))
        x += length + gap
    x = width - gap * 0.6
    for piece in reversed(right):
        picture, length = _written(piece, height)
        _put(strip, picture, round(x - length))
        x -= length + gap
    return strip


def _put(strip: np.ndarray, picture: np.ndarray, x: int) -> None:
    """Copies a picture of the strip's height into it, as far as it lies within."""
    begin, end = max(x, 0), min(x + picture.shape[1], strip.shape[1])
    if begin < end:
        strip[:, begin:end] = picture[:, begin - x : end - x]


# Most figures come again within a few frames, and setting type takes as long as drawing the lines.
@lru_cache(maxsize=512)
def _written(piece: Text, height: int) -> tuple[np.ndarray, float]:
    """A piece of text as a part of a footer of this height, (height, W, 3); its length in pixels, at most W."""
    font = _font(max(round(height * _FOOTER_TEXT_SHARE), 6))
    length = float(font.getlength(piece.text))
    picture = Image.new("RGB", (math.ceil(length) + 1, height), FOOTER_COLOUR)
    ImageDraw.Draw(picture).text((0, height / 2), piece.text, fill=piece.colour, font=font, anchor="lm")
    return np.asarray(picture), length


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font: no font file of the machine is needed."""
    return ImageFont.load_default(size)


def _fixed(points_px: np.ndarray) -> np.ndarray:
    """Continuous pixels to cv2's fixed point; far-away points are clamped, because cv2 keeps 32-bit coordinates."""
    limited = np.clip(to_cv2_pixels(points_px), -1e4, 1e4)
    return np.round(limited * (1 << _SHIFT)).astype(np.int32)
