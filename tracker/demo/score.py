"""How far a track is from the truth.

Vertex errors are taken after a rigid alignment a frame (Kabsch, no scale) over the vertices of the face. Rotations are
given three times: as they are; after one constant rotation of head space for the whole clip is taken away (which way
the mean head looks is a convention that identity and pose share; what moves is not); and as the angle by which the face
that one sees, posed, is turned against the true one, whatever head space means by its axes. What moves over time
(jitter, blinks, lips) is measured in `tracker.demo.score_time`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.demo.truth import Truth
from tracker.head.model import HeadModel, HeadParams, embed
from tracker.render_kernels import mesh_normals
from tracker.rotations import rotation_angle

_MM = 1000.0
# FaceMesh points: middle of the upper and lower lid of the left and the right eye, inner edges of the lips.
_APERTURES = ((386, 374), (159, 145), (13, 14))


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
        status: what the track says of itself: ok, poor or lost.
    """

    frame: int
    params: HeadParams
    R: np.ndarray
    t: np.ndarray
    intrinsics: Intrinsics
    detected478_px: np.ndarray | None
    status: str = "ok"


@dataclass(frozen=True)
class FrameScore:
    """Errors of one frame.

    Attributes:
        frame: number of the true frame.
        vertex_mm: median over the face's vertices after rigid alignment.
        vertex_mean_mm: mean of the same.
        normal_mm: median of its part along the true surface's normals: error of form.
        tangential_mm: median of its part along the surface: points that slid.
        scale: factor that brings the found face to the true one's size.
        camera_mm: median over the face's vertices in camera space, not aligned (depth included).
        rotation_degrees: angle between estimated and true rotation.
        mesh_rotation_degrees: angle of the rotation in the best rigid alignment of the face's vertices in camera space.
        landmark_px: median distance of fitted and true landmarks, pixels of the video.
        detection_px: median distance of detected and true landmarks; NaN without detection.
        jaw_degrees: angle between the jaws' rotations.
        gaze_degrees: mean angle between the eyes' rotations.
        eyelid: mean absolute error of the lids' closure.
        lid_aperture_mm: mean absolute error of the distance between upper and lower lid, of both eyes; NaN for a model
            without these points.
        lip_aperture_mm: absolute error of the distance between the lips' inner edges; the same.
    """

    frame: int
    vertex_mm: float
    vertex_mean_mm: float
    normal_mm: float
    tangential_mm: float
    scale: float
    camera_mm: float
    rotation_degrees: float
    mesh_rotation_degrees: float
    landmark_px: float
    detection_px: float
    jaw_degrees: float
    gaze_degrees: float
    eyelid: float
    lid_aperture_mm: float
    lip_aperture_mm: float


def score_frame(model: HeadModel, truth: Truth, estimate: Estimate) -> FrameScore:
    """Errors of one frame; `truth` must have been made with `model`."""
    true_params = truth.head_params(estimate.frame)
    true, found = model.vertices(true_params).double().numpy(), model.vertices(estimate.params).double().numpy()
    face = face_vertices(model)
    normals = mesh_normals(true.astype(np.float32), model.triangles.numpy())[face]
    difference = rigidly_aligned(found[face], true[face]) - true[face]
    distance = np.linalg.norm(difference, axis=1)
    along, across = along_and_across(difference, normals)
    true_R, true_t = truth.R[estimate.frame], truth.t[estimate.frame]
    true_cam, found_cam = (true @ true_R.T + true_t)[face], (found @ estimate.R.T + estimate.t)[face]
    apertures = np.abs(apertures_mm(model, estimate.params) - apertures_mm(model, true_params))
    true_px = truth.landmarks478_px(model, estimate.frame)
    detected = estimate.detected478_px
    return FrameScore(
        frame=estimate.frame,
        vertex_mm=_MM * float(np.median(distance)),
        vertex_mean_mm=_MM * float(distance.mean()),
        normal_mm=_MM * float(np.median(along)),
        tangential_mm=_MM * float(np.median(across)),
        scale=size_factor(found[face], true[face]),
        camera_mm=_MM * float(np.median(np.linalg.norm(found_cam - true_cam, axis=1))),
        rotation_degrees=_angle(estimate.R @ true_R.T),
        mesh_rotation_degrees=_angle(best_rotation(found_cam, true_cam)),
        landmark_px=_median_distance(_landmarks_px(model, estimate), true_px),
        detection_px=float("nan") if detected is None else _median_distance(detected, true_px),
        jaw_degrees=_angle(estimate.params.jaw.double().numpy() @ true_params.jaw.double().numpy().T),
        gaze_degrees=float(np.mean([_angle(a @ b.T) for a, b in _eye_pairs(estimate.params, true_params)])),
        eyelid=float((estimate.params.eyelids - true_params.eyelids).abs().mean()),
        lid_aperture_mm=float(apertures[:2].mean()),
        lip_aperture_mm=float(apertures[2]),
    )


def along_and_across(difference: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (N,) of the parts of (N, 3) vectors along and across (N, 3) unit normals."""
    along = (difference * normals).sum(1)
    return np.abs(along), np.linalg.norm(difference - along[:, None] * normals, axis=1)


def apertures_mm(model: HeadModel, params: HeadParams) -> np.ndarray:
    """(3,) distances between upper and lower lid of the left and right eye and between the lips, NaN where unknown."""
    vertices = model.vertices(params)
    points = np.full((478, 3), np.nan)
    at = model.landmarks478
    points[at.indices.numpy()] = embed(at.faces, at.bary, model.triangles, vertices).numpy()
    upper, lower = np.array(_APERTURES).T
    return _MM * np.linalg.norm(points[upper] - points[lower], axis=1)


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
    return (points - points.mean(0)) @ best_rotation(points, target).T + target.mean(0)


def best_rotation(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) rotation that turns (N, 3) points, about their middle, nearest to a target (Kabsch 1976)."""
    left, _, right = np.linalg.svd((points - points.mean(0)).T @ (target - target.mean(0)))
    return np.asarray((left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right).T)


def size_factor(points: np.ndarray, target: np.ndarray) -> float:
    """Scale of the best similarity that takes points to a target (Umeyama 1991, eq. 42)."""
    turned = (points - points.mean(0)) @ best_rotation(points, target).T
    return float((turned * (target - target.mean(0))).sum() / (turned**2).sum())


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
