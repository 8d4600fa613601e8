"""The picture that ArcFace sees: a face turned, scaled and shifted so that five of its points lie where others' lie.

The five points are, as ArcFace orders them: the eye at the picture's left, the eye at its right, the nose's tip, the
mouth's corner at the left and at the right.

Sources: Deng et al., ArcFace, CVPR 2019; the five places are those of insightface's `face_align`; Umeyama,
Least-Squares Estimation of Transformation Parameters Between Two Point Patterns, PAMI 1991.
"""

import cv2
import numpy as np

from tracker.camera import to_cv2_pixels

# Places of the five points in a picture of 112 x 112, in cv2's count of pixels.
REFERENCE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
_REFERENCE_SIDE = 112
# insightface's other family of sizes keeps the face as large and leaves 8 more pixels on either side.
_WIDE_SIDE, _WIDE_MARGIN = 128, 8.0
_LEVELS = 127.5

# FaceMesh points whose mean stands for each of the five: the rings of the lids (they do not move with the gaze, as the
# irises do), the nose's tip, the outer corners of the lips.
# fmt: off
_IMAGE_LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
_IMAGE_RIGHT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
# fmt: on
FIVE_FROM_478 = (_IMAGE_LEFT_EYE, _IMAGE_RIGHT_EYE, (4,), (61,), (291,))
# The same out of the 68 iBUG points, as MICA takes them from FAN.
FIVE_FROM_68 = ((38, 41), (44, 46), (30,), (60,), (64,))


def five_points(points: np.ndarray) -> np.ndarray:
    """ArcFace's five points out of a face's landmarks.

    Args:
        points: (478, 2) FaceMesh or (68, 2) iBUG points, any pixels.

    Returns:
        (5, 2) float64, the same pixels.
    """
    rule = FIVE_FROM_478 if len(points) == 478 else FIVE_FROM_68
    return np.stack([np.asarray(points, np.float64)[list(ids)].mean(0) for ids in rule])


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift that bring points nearest to targets in the least-squares sense; no reflection.

    In float32, as insightface does it: a last digit decides whether a pixel of the cut face changes by some levels.

    Args:
        points: (N, 2), not all in one place.
        targets: (N, 2).

    Returns:
        (2, 3) float64 M with `targets = M [points, 1]`.

    Raises:
        ValueError: the points coincide or are not finite.
    """
    # Here, because it takes a third of a second to import.
    from skimage.transform import estimate_transform

    points, targets = np.asarray(points, np.float32), np.asarray(targets, np.float32)
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() <= 0:
        raise ValueError("the five points coincide or are not finite")
    return np.asarray(estimate_transform("similarity", points, targets).params[:2], np.float64)


def reference_points(side_px: int) -> np.ndarray:
    """Places of the five points in a square picture: (5, 2) float32, cv2 pixels.

    Raises:
        ValueError: the side is no multiple of 112 or 128.
    """
    if side_px % _REFERENCE_SIDE == 0:
        return REFERENCE_112 * np.float32(side_px / _REFERENCE_SIDE)
    if side_px % _WIDE_SIDE == 0:
        ratio = np.float32(side_px / _WIDE_SIDE)
        return REFERENCE_112 * ratio + np.array([_WIDE_MARGIN * ratio, 0.0], np.float32)
    raise ValueError(f"side {side_px}: expected a multiple of 112 or 128")


def aligned(image: np.ndarray, five_px: np.ndarray, side_px: int = _REFERENCE_SIDE) -> np.ndarray:
    """The aligned face, as insightface's `norm_crop` cuts it.

    Args:
        image: (H, W, 3) uint8.
        five_px: (5, 2) continuous pixels.
        side_px: side of the result, a multiple of 112 or 128.

    Returns:
        (side, side, 3) uint8, channels in the order of `image`; black beyond the picture.

    Raises:
        ValueError: the points coincide, or a side of another size.
    """
    matrix = similarity(to_cv2_pixels(np.asarray(five_px, np.float64)), reference_points(side_px))
    return cv2.warpAffine(image, matrix, (side_px, side_px))


def network_input(face: np.ndarray) -> np.ndarray:
    """What the network takes of an aligned face: (112, 112, 3) uint8 RGB to (3, 112, 112) float32 in [-1, 1]."""
    return np.ascontiguousarray(((face.astype(np.float32) - _LEVELS) / _LEVELS).transpose(2, 0, 1))
