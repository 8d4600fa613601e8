"""Which frames of a clip MICA is asked about: frontal, neutral, sharp, and apart in time.

MICA was trained on pictures of any pose, but what a turned head, an open mouth or a blur does to its code does not
average out: such frames err to the same side. A few good frames serve better than many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tracker.camera import Intrinsics
from tracker.head.generic import GENERIC_HEAD_PATH
from tracker.head.plain import read_head
from tracker.landmark_set import apertures, inter_ocular_px
from tracker.pose import initial_pose

# A fault of this size costs 1: turn of the head in degrees, gap between the lips and change of the mouth's width in
# inter-ocular distances, missing part of the usual lid opening, halvings of the sharpness.
_TURN_DEG = 15.0
_GAP = 0.06
_WIDTH = 0.08
_LIDS = 0.3
_HALVINGS = 1.0
# Frames beyond this cost are taken only if there is nothing better.
_TOO_BAD = 4.0
# Frames that are looked at for sharpness, as a multiple of those wanted: reading a picture takes 5 ms.
_SHORT_LIST = 5
# Frames nearer in time than this part of the clip's length for each wanted frame look alike.
_APART = 0.25
_MOUTH_CORNERS = (61, 291)
# FaceMesh points that hardly move with the expression: eye corners, bridge and base of the nose, forehead, temples.
RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 2, 98, 327, 10, 151, 9, 8, 127, 356, 234, 454)


@dataclass(frozen=True)
class FrameLook:
    """What a frame's landmarks say of it.

    Attributes:
        index: of the frame.
        yaw_deg: turn away from the camera to the side, degrees.
        pitch_deg: the same up or down; the head model's zero, which is not everybody's.
        mouth_gap: between the lips, inter-ocular distances.
        lids: opening, as a part of what is usual in the clip.
        cost: sum of squared faults, 0 is perfect; sharpness counts once the picture is read.
    """

    index: int
    yaw_deg: float
    pitch_deg: float
    mouth_gap: float
    lids: float
    cost: float


def rate_frames(points: dict[int, np.ndarray], camera: Intrinsics) -> list[FrameLook]:
    """How good each frame's pose and expression are.

    Args:
        points: index to (478, 2) continuous pixels, frames with a face alone.
        camera: a guess of the pictures' camera; a wrong focal length turns all heads alike.

    Returns:
        The frames in the order of `points`.
    """
    rest = read_head(GENERIC_HEAD_PATH, _rigid_points)
    turns = [_turn_deg(rest, found[list(RIGID)], camera) for found in points.values()]
    opening = np.array([apertures(found) for found in points.values()]).reshape(-1, 2)
    width = np.array([_mouth_width(found) for found in points.values()])
    frontal = np.array([np.hypot(*turn) for turn in turns])
    # The clip's most frontal half says what this person's eyes and mouth are like.
    usual = frontal <= np.median(frontal) if len(frontal) else np.zeros(0, bool)
    looks = []
    for place, (index, (yaw, pitch)) in enumerate(zip(points, turns, strict=True)):
        lids = float(opening[place, 0] / max(np.median(opening[usual, 0]), 1e-6))
        faults = (
            frontal[place] / _TURN_DEG,
            opening[place, 1] / _GAP,
            (width[place] - np.median(width[usual])) / _WIDTH,
            max(0.0, 1 - lids) / _LIDS,
        )
        cost = float(sum(fault**2 for fault in faults))
        looks.append(FrameLook(index, yaw, pitch, float(opening[place, 1]), lids, cost))
    return looks


def choose_frames(
    looks: Sequence[FrameLook], count: int, sharpness: Callable[[int], float]
) -> list[tuple[FrameLook, float]]:
    """The best frames.

    Args:
        looks: of all frames with a face, in order of time.
        count: how many are wanted.
        sharpness: of a frame by its index, in any unit (`face_sharpness`); asked for the better ones alone.

    Returns:
        At most `count` frames in order of time, each with its sharpness as a part of the clip's sharpest. Fewer where
        the others are bad; at least one where there is any.
    """
    short = sorted(looks, key=lambda look: look.cost)[: count * _SHORT_LIST]
    if not short:
        return []
    sharp = np.array([sharpness(look.index) for look in short])
    sharp /= max(float(sharp.max()), 1e-12)
    costs = [look.cost + (np.log2(max(s, 1e-6)) / _HALVINGS) ** 2 for look, s in zip(short, sharp, strict=True)]
    order = np.argsort(costs)
    limit = max(_TOO_BAD, 2 * costs[order[0]])
    good = [int(place) for place in order if costs[place] <= limit]
    indices = [look.index for look in looks]
    gap = _APART * (indices[-1] - indices[0]) / max(count, 1)
    while True:
        chosen = _apart(good, short, count, gap)
        if len(chosen) == min(count, len(good)) or gap < 1:
            return [(short[place], float(sharp[place])) for place in sorted(chosen, key=lambda p: short[p].index)]
        gap /= 2


def face_sharpness(face: np.ndarray) -> float:
    """Sharpness of an aligned face: energy of the Laplacian by the picture's own contrast.

    Args:
        face: (112, 112, 3) uint8; at this size noise hardly counts, and neither does detail that MICA does not see.
    """
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var() / max(grey.var(), 1.0))


def _apart(good: list[int], short: Sequence[FrameLook], count: int, gap: float) -> list[int]:
    """The first of `good` that are not nearer in time than `gap` to one taken before."""
    taken: list[int] = []
    for place in good:
        index = short[place].index
        if len(taken) < count and all(abs(index - short[other].index) >= max(gap, 1) for other in taken):
            taken.append(place)
    return taken


def _rigid_points(data: dict[str, np.ndarray]) -> np.ndarray:
    """The head model's points of `RIGID`: (N, 3) metres."""
    rows = {int(index): row for row, index in enumerate(data["lmk478_indices"])}
    chosen = [rows[index] for index in RIGID]
    corners = data["template"][data["triangles"][data["lmk478_faces"][chosen]]]
    return np.einsum("nij,ni->nj", corners.astype(np.float64), data["lmk478_bary"][chosen].astype(np.float64))


def _turn_deg(rest_m: np.ndarray, found_px: np.ndarray, camera: Intrinsics) -> tuple[float, float]:
    """Yaw and pitch of a face against the line of sight to it, degrees."""
    R, t = initial_pose(rest_m, found_px, camera)
    centre = R @ rest_m.mean(0) + t
    sight = centre / max(float(np.linalg.norm(centre)), 1e-9)
    forward = -R[:, 2]
    side = np.array([sight[2], 0, -sight[0]]) / max(float(np.hypot(sight[0], sight[2])), 1e-9)
    down = np.cross(sight, side)
    yaw, pitch = np.arcsin(np.clip([forward @ side, forward @ down], -1, 1))
    if forward @ sight < 0:
        # Seen from behind: no landmarks' fit means it, and no such frame is good.
        yaw = np.pi - abs(yaw)
    return float(np.degrees(yaw)), float(np.degrees(pitch))


def _mouth_width(points_px: np.ndarray) -> float:
    left, right = (points_px[index] for index in _MOUTH_CORNERS)
    return float(np.linalg.norm(left - right)) / max(inter_ocular_px(points_px), 1e-6)
