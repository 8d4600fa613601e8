"""How far a track is from the truth.

Vertex errors are taken after a rigid alignment a frame (Kabsch, no scale) over the vertices of the face. Rotations are
given twice: as they are, and after one constant rotation of head space for the whole clip is taken away (which way the
mean head looks is a convention that identity and pose share; what moves is not).
"""

from dataclasses import dataclass

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.demo.truth import Truth
from tracker.head.model import HeadModel, HeadParams, embed
from tracker.rotations import rotation_angle

_MM = 1000.0


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a track says of one frame, in the camera of the uncropped video.

    Attributes:
        frame: number of the true frame, from 0.
        params: head parameters.
        R: (3, 3) head to camera.
        t: (3,) metres.
        intrinsics: pixels of the video.
        detected478_px: (478, 2) detected landmarks in pixels of the video, or None.
    """

    frame: int
    params: HeadParams
    R: np.ndarray
    t: np.ndarray
    intrinsics: Intrinsics
    detected478_px: np.ndarray | None


@dataclass(frozen=True)
class FrameScore:
    """Errors of one frame.

    Attributes:
        frame: number of the true frame.
        vertex_mm: median over the face's vertices after rigid alignment.
        vertex_mean_mm: mean of the same.
        camera_mm: median over the face's vertices in camera space, not aligned (depth included).
        rotation_degrees: angle between estimated and true rotation.
        landmark_px: median distance of fitted and true landmarks, pixels of the video.
        detection_px: median distance of detected and true landmarks; NaN without detection.
        jaw_degrees: angle between the jaws' rotations.
        gaze_degrees: mean angle between the eyes' rotations.
        eyelid: mean absolute error of the lids' closure.
    """

    frame: int
    vertex_mm: float
    vertex_mean_mm: float
    camera_mm: float
    rotation_degrees: float
    landmark_px: float
    detection_px: float
    jaw_degrees: float
    gaze_degrees: float
    eyelid: float


def score_frame(model: HeadModel, truth: Truth, estimate: Estimate) -> FrameScore:
    """Errors of one frame; `truth` must have been made with `model`."""
    true_params = truth.head_params(estimate.frame)
    true, found = model.vertices(true_params).double().numpy(), model.vertices(estimate.params).double().numpy()
    face = face_vertices(model)
    distance = np.linalg.norm(rigidly_aligned(found[face], true[face]) - true[face], axis=1)
    true_R, true_t = truth.R[estimate.frame], truth.t[estimate.frame]
    in_camera = np.linalg.norm((found @ estimate.R.T + estimate.t - true @ true_R.T - true_t)[face], axis=1)
    true_px = truth.landmarks478_px(model, estimate.frame)
    fitted_px = _landmarks_px(model, estimate)
    detected = estimate.detected478_px
    return FrameScore(
        frame=estimate.frame,
        vertex_mm=_MM * float(np.median(distance)),
        vertex_mean_mm=_MM * float(distance.mean()),
        camera_mm=_MM * float(np.median(in_camera)),
        rotation_degrees=_angle(estimate.R @ true_R.T),
        landmark_px=_median_distance(fitted_px, true_px),
        detection_px=float("nan") if detected is None else _median_distance(detected, true_px),
        jaw_degrees=_angle(estimate.params.jaw.double().numpy() @ true_params.jaw.double().numpy().T),
        gaze_degrees=float(np.mean([_angle(a @ b.T) for a, b in _eye_pairs(estimate.params, true_params)])),
        eyelid=float((estimate.params.eyelids - true_params.eyelids).abs().mean()),
    )


def relative_rotation_degrees(truth: Truth, estimates: list[Estimate]) -> np.ndarray:
    """(N,) rotation errors after the one rotation of head space that suits the whole clip best is taken away."""
    true = truth.R[[estimate.frame for estimate in estimates]]
    found = np.stack([estimate.R for estimate in estimates])
    # The chordal mean of found^T true: the rotation Q for which found Q is nearest to true.
    left, _, right = np.linalg.svd(np.einsum("nba,nbc->ac", found, true))
    constant = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    return np.array([_angle(a @ constant @ b.T) for a, b in zip(found, true, strict=True)])


def face_vertices(model: HeadModel) -> np.ndarray:
    """Ids of the face's vertices; all vertices of a model that names no face."""
    if "face" in model.regions:
        return model.regions["face"].numpy()
    return np.arange(model.vertex_count)


def rigidly_aligned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N, 3) points moved onto a target by the best rotation and translation (Kabsch)."""
    middle, target_middle = points.mean(0), target.mean(0)
    left, _, right = np.linalg.svd((points - middle).T @ (target - target_middle))
    turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    return (points - middle) @ turn + target_middle


def _landmarks_px(model: HeadModel, estimate: Estimate) -> np.ndarray:
    vertices = model.vertices(estimate.params)
    points = embed(model.landmarks478.faces, model.landmarks478.bary, model.triangles, vertices).numpy()
    camera = points @ estimate.R.T + estimate.t
    lens = estimate.intrinsics
    pixels = np.full((478, 2), np.nan)
    pixels[model.landmarks478.indices.numpy()] = lens.focal_px * camera[:, :2] / camera[:, 2:] + [
        lens.cx_px,
        lens.cy_px,
    ]
    return pixels


def _median_distance(a: np.ndarray, b: np.ndarray) -> float:
    distance = np.linalg.norm(a - b, axis=1)
    return float(np.median(distance[np.isfinite(distance)]))


def _eye_pairs(a: HeadParams, b: HeadParams) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(a.eyes[side].double().numpy(), b.eyes[side].double().numpy()) for side in range(2)]


def _angle(R: np.ndarray) -> float:
    """Angle of a rotation, degrees."""
    return float(torch.rad2deg(rotation_angle(torch.from_numpy(np.asarray(R, np.float64)))))
