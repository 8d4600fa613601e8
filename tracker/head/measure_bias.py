"""Measures a detector's landmark bias on rendered heads of other identities, for `tracker.head.landmark_bias`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tracker.camera import project, projection_jacobian
from tracker.demo.build import build_scene
from tracker.demo.scene import Scene
from tracker.demo.spec import DemoSpec, LightSpec
from tracker.detectors.facemesh import FaceMesh
from tracker.errors import InputError
from tracker.head.bias_file import shape_digest, template_digest
from tracker.head.landmark_bias import (
    LEAST_PEOPLE,
    LandmarkBias,
    mirrored_response,
    solve_offsets,
    solve_with_lids,
    summarise_bias,
    with_identity,
)
from tracker.head.model import HeadModel, embed, vertex_normals
from tracker.landmark_set import COUNT

Progress = Callable[[str], None]

PEOPLE = 24
# Clips of this seed and above; the demo clip's own seed lies below, so that it stays unseen.
_FIRST_SEED = 1000
# Weight of a view by the cosine to the line of sight: none for points that turn away.
_MIN_COSINE = 0.2
# Blinks come often, so that a short clip shows many.
_BLINK_SECONDS = 0.45
# Points that closing lids move by less than this on the model are not theirs, metres.
_MOVED_M = 1e-4


def measure_bias(
    model: HeadModel,
    people: int = PEOPLE,
    every: int = 2,
    kept: LandmarkBias | None = None,
    progress: Progress | None = None,
) -> LandmarkBias:
    """Renders clips of several identities, runs FaceMesh, and averages.

    Args:
        model: with FaceMesh points; those that it lacks get zeros.
        people: rendered identities.
        every: use every n-th of the 60 frames of each clip.
        kept: its offsets are kept, and only the response to closing lids is measured anew; or None.
        progress: told in words how far it is.

    Raises:
        InputError: FaceMesh finds no face in the renderings of more than half of the people.
    """
    found, shapes = [], []
    for number in range(people):
        if progress is not None:
            progress(f"landmark bias of {model.name}: person {number + 1} of {people}")
        scene = build_scene(clip_spec(number), model)
        one = measure(scene, every)
        if one is not None:
            found.append(one)
            shapes.append(scene.motion.shape.numpy())
    if len(found) < max(2, people / 2):
        raise InputError(f"{model.name}: FaceMesh finds a face in the renderings of {len(found)} of {people} people")
    offsets, responses, residuals, weights = zip(*found, strict=True)
    points, _ = _landmarks(model, model.template)
    response = mirrored_response(np.mean(responses, 0), points.numpy(), moved_by_lids(model))
    digest = template_digest(model)
    bias = summarise_bias(np.array(offsets), np.concatenate(residuals), np.concatenate(weights), response, digest)
    if len(found) >= LEAST_PEOPLE:
        bias = with_identity(bias, np.array(offsets), np.array(shapes), shape_digest(model))
    bias = scattered(bias, np.sort(model.landmarks478.indices.numpy()))
    return bias if kept is None else replace(kept, lid_response_m=bias.lid_response_m)


def scattered(bias: LandmarkBias, numbers: np.ndarray) -> LandmarkBias:
    """A bias of some points (N, ...), whose FaceMesh numbers (N,) are given, as one of all 478."""

    def whole(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.zeros((COUNT, *values.shape[1:]))
        found[numbers] = values
        return found

    parts: dict[str, Any] = {n: whole(value) for n, value in vars(bias).items() if isinstance(value, np.ndarray)}
    return replace(bias, **parts)


def clip_spec(number: int) -> DemoSpec:
    """The clip of one identity; focal length, distance and light differ from clip to clip."""
    rng = np.random.default_rng(_FIRST_SEED + number)
    return DemoSpec(
        seed=_FIRST_SEED + number,
        frame_count=60,
        size=(512, 512),
        focal_factor=float(rng.uniform(1.2, 2.6)),
        distance_m=0.6 * float(rng.uniform(0.9, 1.2)),
        yaw_degrees=float(rng.uniform(18, 34)),
        pitch_degrees=float(rng.uniform(6, 14)),
        blink_seconds=_BLINK_SECONDS,
        light=LightSpec(
            ambient=float(rng.uniform(0.35, 0.75)),
            key=float(rng.uniform(0.2, 0.7)),
            key_degrees=(float(rng.uniform(-50, 50)), float(rng.uniform(5, 45))),
        ),
        texture_size=1024,
    )


def measure(scene: Scene, every: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """What clips of one identity say of the model's N points, in the order of their numbers.

    Returns:
        Offset and lid response (N, 3), residuals (F, N, 2) in metres, and weights (F, N); None where no face is found.
    """
    model, motion = scene.model, scene.motion
    numbers = np.sort(model.landmarks478.indices.numpy())
    jacobians, differences, weights, metres, closure = [], [], [], [], []
    with FaceMesh(max_faces=1, tracking=True) as detector:
        for frame in range(0, scene.spec.frame_count, every):
            faces = detector.faces(scene.picture(frame))
            if not faces:
                continue
            points, normals = _landmarks(model, torch.from_numpy(scene.head_vertices(frame)))
            R, t = motion.R[frame].float(), motion.t[frame].float()
            cam, normals_cam = points @ R.T + t, normals @ R.T
            K = scene.intrinsics
            pixels = project(cam, K.focal_px, K.cx_px, K.cy_px)
            cosine = -(normals_cam * torch.nn.functional.normalize(cam, dim=1)).sum(1)
            jacobians.append((projection_jacobian(cam, K.focal_px) @ R).numpy())
            differences.append(faces[0].points_px[numbers] - pixels.numpy())
            weights.append(((cosine - _MIN_COSINE) / (1 - _MIN_COSINE)).clamp_min(0).numpy() + 1e-3)
            metres.append((cam[:, 2] / K.focal_px).numpy())
            closure.append(float(motion.eyelids[frame].mean()))
    if not jacobians:
        return None
    J, d, w = np.array(jacobians, np.float64), np.array(differences), np.array(weights, np.float64)
    own = moved_by_lids(model).any(1)
    offset, response = solve_offsets(J, d, w), np.zeros((len(numbers), 3))
    offset[own], response[own] = solve_with_lids(J[:, own], d[:, own], w[:, own], np.array(closure))
    shift = offset + np.array(closure)[:, None, None] * response
    residual = d - np.einsum("fndi,fni->fnd", J, shift)
    return offset, response, residual * np.array(metres)[..., None], w


def moved_by_lids(model: HeadModel) -> np.ndarray:
    """(N, 2) whether the left and the right lids move a landmark, in the order of their numbers."""
    at = model.landmarks478
    basis = embed(at.faces, at.bary, model.triangles, model.eyelid_basis.flatten(1)).reshape(-1, 3, 2)
    return (basis.norm(dim=1) > _MOVED_M)[torch.argsort(at.indices)].numpy()


def _landmarks(model: HeadModel, vertices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's N points and their normals, in the order of their numbers."""
    embedding = model.landmarks478
    order = torch.argsort(embedding.indices)
    faces, bary = embedding.faces[order], embedding.bary[order]
    normals = vertex_normals(vertices, model.triangles)
    at = embed(faces, bary, model.triangles, vertices), embed(faces, bary, model.triangles, normals)
    return at[0], torch.nn.functional.normalize(at[1], dim=1)
