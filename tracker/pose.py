"""First pose of a head from landmarks, and the choice of frames that see it from many sides."""

import cv2
import numpy as np

from tracker.camera import Intrinsics


def initial_pose(
    points_head_m: np.ndarray, targets_px: np.ndarray, intrinsics: Intrinsics
) -> tuple[np.ndarray, np.ndarray]:
    """Perspective-n-point pose.

    Args:
        points_head_m: (N, 3) head space.
        targets_px: (N, 2) continuous pixels.
        intrinsics: of the same picture.

    Returns:
        R (3, 3) and t (3,) of `x_cam = R x_head + t`, the head in front of the camera.

    Source: Terzakis and Lourakis, A Consistently Fast and Globally Optimal Solution to the Perspective-n-Point
    Problem, ECCV 2020 (cv2.SOLVEPNP_SQPNP). Pixel counts cancel: points and principal point use the same.
    """
    points, targets = np.ascontiguousarray(points_head_m, np.float64), np.ascontiguousarray(targets_px, np.float64)
    rotation, translation = _rough_pose(points, targets, intrinsics)
    rotation, translation = cv2.solvePnPRefineLM(
        points, targets, intrinsics.matrix(), np.zeros(4), rotation, translation
    )
    return cv2.Rodrigues(rotation)[0], translation[:, 0]


def rough_direction(points_head_m: np.ndarray, targets_px: np.ndarray, intrinsics: Intrinsics) -> tuple[float, float]:
    """Yaw and pitch as `yaw_pitch` has them, without the refinement of `initial_pose`, which takes seven times as long.

    Without it they are 0.1 degrees off (254 frames of a real clip). Arguments as there.
    """
    points, targets = np.ascontiguousarray(points_head_m, np.float64), np.ascontiguousarray(targets_px, np.float64)
    rotation, _ = _rough_pose(points, targets, intrinsics)
    yaw, pitch = yaw_pitch(cv2.Rodrigues(rotation)[0][None])[0]
    return float(yaw), float(pitch)


def _rough_pose(points: np.ndarray, targets: np.ndarray, intrinsics: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vector and translation, both (3, 1), of least algebraic error."""
    K = intrinsics.matrix()
    _, rotation, translation = cv2.solvePnP(points, targets, K, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
    return rotation, translation


def yaw_pitch(R: np.ndarray) -> np.ndarray:
    """Direction of the face in camera axes.

    Args:
        R: (N, 3, 3) head to camera.

    Returns:
        (N, 2) yaw (to image right positive) and pitch (down positive), radians.
    """
    forward = R[:, :, 2]
    return np.stack([np.arctan2(forward[:, 0], -forward[:, 2]), np.arcsin(np.clip(forward[:, 1], -1, 1))], 1)


def spread_frames(directions: np.ndarray, usable: np.ndarray, first: list[int], count: int) -> list[int]:
    """Frames that see the head from many sides: farthest-point choice in yaw and pitch.

    Args:
        directions: (N, 2) yaw and pitch of each frame.
        usable: (N,) bool, frames with a face.
        first: frames that are taken in any case (those without a face are dropped).
        count: number of frames wanted.

    Returns:
        Frame numbers in ascending order. With no frame given, the one nearest to frontal is the first.
    """
    candidates = np.flatnonzero(usable)
    chosen = [i for i in first if i < len(usable) and usable[i]]
    if not chosen and len(candidates):
        chosen = [int(candidates[np.linalg.norm(directions[candidates], axis=1).argmin()])]
    while len(chosen) < min(count, len(candidates)):
        distance = np.linalg.norm(directions[candidates, None] - directions[chosen][None], axis=2).min(1)
        # A tie (a still head) goes to the frame farthest in time, so that the choice does not cluster.
        apart = np.abs(candidates[:, None] - np.array(chosen)[None]).min(1) / max(len(usable), 1)
        score = np.where(np.isin(candidates, chosen), -np.inf, distance + 0.02 * apart)
        chosen.append(int(candidates[int(score.argmax())]))
    return sorted(chosen)
