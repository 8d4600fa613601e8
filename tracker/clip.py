"""What is fixed for a clip once it is calibrated, and what one frame brings."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.camera import Intrinsics
from tracker.head.jaw import turns_jaw
from tracker.head.model import HeadModel
from tracker.kernels import visibility as kernels
from tracker.landmark_set import LandmarkSet, inter_ocular_px
from tracker.light_response import LightResponse
from tracker.points import PointSet, PointTemplate, point_template
from tracker.problem import Bounds
from tracker.residuals.landmark import LandmarkTerm
from tracker.residuals.prior import GaussianTerm
from tracker.samples import SurfaceSamples
from tracker.settings import EnergySettings, TrackingSettings
from tracker.state import FrameState, Layout, neutral_state, spreads

# Limits of what eyes do: gaze within the orbit (radians).
_GAZE_LIMITS = ((-0.8, 0.8), (-0.6, 0.6))


@dataclass(frozen=True, eq=False)
class FrameInput:
    """One picture and what the detectors found in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        dense_px: (478, 2) FaceMesh points, or None where no face was found.
        sparse_px: (68, 2) points of a detector of its own, or None.
        matte: (H, W) float32, 1 where the picture shows the person, or None where nobody looked.
    """

    image: np.ndarray
    dense_px: np.ndarray | None
    sparse_px: np.ndarray | None
    matte: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Photometric samples of a clip.

    Attributes:
        surface: where the N samples lie.
        template: float32 points before identity.
    """

    surface: SurfaceSamples
    template: PointTemplate

    @classmethod
    def of(cls, model: HeadModel, surface: SurfaceSamples) -> "SampleSet":
        """Interpolates the model at the samples."""
        return cls(surface, point_template(model, surface.faces, surface.bary, torch.float32))


@dataclass(frozen=True, eq=False)
class ClipModel:
    """The calibrated clip: head, camera, landmark points, photometric samples and appearance.

    Attributes:
        model: the head model.
        shape: (S,) identity, float64.
        intrinsics: camera of the crop, pixels.
        size: (height, width) of the crop.
        landmarks: which landmarks are used.
        landmark_points: the subject's landmark points, offsets applied, float64.
        samples: photometric samples.
        sample_points: the subject's samples, float32.
        contrast: (L, N, 3) local contrast of the samples at each pyramid level, full picture first.
        albedo: (N, 3) sRGB albedo of the samples.
        seen: (N,) how well each sample was seen in the calibration, 0 never.
        light: (9, 3) mean light in camera axes.
        depth_m: typical distance of the head, at which the disc of the local contrast is measured in pixels.
        response: how the contrast follows a light that moves, or None where the clip's is steady.
    """

    model: HeadModel
    shape: Tensor
    intrinsics: Intrinsics
    size: tuple[int, int]
    landmarks: LandmarkSet
    landmark_points: PointSet
    samples: SampleSet
    sample_points: PointSet
    contrast: Tensor
    albedo: Tensor
    seen: Tensor
    light: Tensor
    depth_m: float
    response: LightResponse | None = None

    def contrast_sigma_m(self, sigma_px: float, scale: float) -> float:
        """Standard deviation of the local contrast's disc in metres, the same in every frame.

        Args:
            sigma_px: in pixels of a pyramid level, for a head at the clip's typical distance.
            scale: pixels of the level per pixel of the full picture.
        """
        return sigma_px * self.depth_m / (self.intrinsics.focal_px * scale)


def prior_stds(model: HeadModel, energy: EnergySettings) -> Tensor:
    """Prior standard deviation (P,) of a frame's unknowns; the pose's is a loose metre and radian."""
    layout = Layout(model.expression_count)
    stds = torch.ones(layout.size, dtype=torch.float64)
    stds[layout.jaw] = torch.tensor([energy.jaw_std, energy.jaw_side_std, energy.jaw_side_std], dtype=torch.float64)
    stds[layout.eyes] = energy.gaze_std
    stds[layout.eyelids] = energy.eyelid_std
    stds[layout.expression] = model.expression_std.to(torch.float64)
    return stds


def change_stds(prior: Tensor, tracking: TrackingSettings) -> Tensor:
    """Standard deviations (P,) of a frame's unknowns around their prediction."""
    return spreads(
        prior,
        rotation=tracking.rotation_std,
        translation_mm=tracking.translation_std_mm,
        jaw=tracking.jaw_change_std,
        gaze=tracking.gaze_change_std,
        eyelids=tracking.eyelid_change_std,
        expression=tracking.expression_std,
    )


def frame_prior(model: HeadModel, energy: EnergySettings) -> GaussianTerm:
    """Prior of a frame's inner unknowns around the head at rest; pose is free."""
    inverse = 1 / prior_stds(model, energy)
    inverse[:6] = 0
    return GaussianTerm(neutral_state(model), inverse)


def step_scale(model: HeadModel, energy: EnergySettings) -> Tensor:
    """Scales (P,) by which steps are measured: one degree, five millimetres, and the priors' spreads."""
    scale = prior_stds(model, energy)
    scale[Layout.rotation] = 0.02
    scale[Layout.translation] = 0.005
    return scale


def frame_bounds(model: HeadModel) -> Bounds:
    """Box limits of a frame's unknowns."""
    double = torch.float64
    return Bounds(
        model.expression_bounds.to(double),
        torch.tensor(model.eyelid_bounds, dtype=double),
        torch.tensor(_GAZE_LIMITS, dtype=double),
    )


def held_unknowns(model: HeadModel, optimize_jaw: bool) -> Tensor:
    """Unknowns (P,) that no frame solves for: the jaw, where the config says so, and what moves nothing."""
    layout = Layout(model.expression_count)
    held = torch.zeros(layout.size, dtype=torch.bool)
    held[layout.jaw] = not optimize_jaw or not turns_jaw(model)
    held[layout.expression] = ~model.expression_basis.flatten(0, 1).any(0)
    for side in range(2):
        if not bool(model.eyelid_basis[..., side].any()):
            held[layout.eyelids.start + side] = True
    return held


def landmark_term(
    landmarks: LandmarkSet, points: PointSet, frame: FrameInput, facing: Tensor, energy: EnergySettings
) -> LandmarkTerm:
    """Landmark and closure residuals of one frame.

    Args:
        landmarks: which landmarks.
        points: the subject's points.
        frame: the picture; a face must have been found in it.
        facing: (N,) in [0, 1], how much each landmark's surface turns to the camera.
        energy: noise and weights.

    Returns:
        The term, in units of the detector's noise.
    """
    if frame.dense_px is None:
        raise ValueError("a frame without a face has no landmark term")
    size = inter_ocular_px(frame.dense_px)
    pairs = landmarks.pairs
    return LandmarkTerm(
        points=points,
        targets_px=landmarks.targets(frame.dense_px, frame.sparse_px),
        sigma_px=energy.landmark_sigma * size,
        confidence=energy.landmark_weight * facing,
        pairs=pairs,
        pair_sigma_px=energy.closure_sigma * size,
        pair_confidence=energy.closure_weight * facing[pairs[:, 0]],
    )


def landmark_facing(landmarks: LandmarkSet, normals_head: Tensor, model: HeadModel, state: FrameState) -> Tensor:
    """How much each landmark's surface turns to the camera.

    A detector guesses the points of the far side; their confidence falls from one at 60 degrees from the line of
    sight to a tenth where the surface turns away.

    Args:
        landmarks: N landmarks.
        normals_head: (V, 3) vertex normals, head space.
        model: the head model.
        state: pose of the head.

    Returns:
        (N,) float64 in [0.1, 1].
    """
    template = landmarks.template
    R, t, *_ = state.arrays
    places = template.faces.numpy(), template.bary.numpy()
    facing = kernels.landmark_facing(
        normals_head.numpy(), model.triangles.numpy(), places, template.points.rest.numpy(), R, t
    )
    return torch.from_numpy(facing)
