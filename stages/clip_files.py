"""Between the subject directory and the solver: frames, head model, and the calibration's record."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages import files
from stages.appearance_file import load_appearance, read_calibrated
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.clip import ClipModel, FrameInput, SampleSet
from tracker.config import Config
from tracker.errors import InputError
from tracker.flow import FlowAppearance, flow_appearance
from tracker.head.model import HeadModel
from tracker.landmark_set import LandmarkSet, is_detected, landmark_set
from tracker.light_response import LightResponse
from tracker.samples import face_samples

# With a smaller spread of the log focal length than this (95 % within 15 %) the clip tells it; else it hardly does.
OBSERVED_LOG_STD = 0.075
# Provider of 68 points that says nothing beyond the 478 (they are derived from them).
_DERIVED = "facemesh478"


def picture_inputs(subject: Subject) -> list[Path]:
    """What every solving stage reads of the subject's pictures: themselves, their landmarks, the crop."""
    return [subject.images_dir, subject.kpt_dir, subject.kpt_dense_dir, subject.crop_path, subject.providers_path]


def has_sparse(subject: Subject) -> bool:
    """Whether the 68 points come from a detector of their own."""
    return subject.load_providers().sparse != _DERIVED


def frame_input(subject: Subject, index: int, with_sparse: bool) -> FrameInput:
    """Picture and detections of a tracked frame."""
    dense = subject.load_kpt_dense(index)
    sparse = subject.load_kpt(index) if with_sparse else None
    return FrameInput(subject.load_image(index), dense if is_detected(dense) else None, sparse)


@dataclass(frozen=True, eq=False)
class CalibrationRecord:
    """calibration.npz: what the calibration found, in arrays.

    Attributes:
        shape: (S,) float64 identity.
        camera: (3,) focal length, cx, cy in pixels of the crop.
        camera_prior: (2,) mean focal length in pixels of the crop, spread of its logarithm (0: known).
        log_focal_std: () posterior spread of the log focal length, NaN where unknown.
        offsets_m: (N, 3) landmark offsets.
        contrast: (L, M, 3) float32 local contrast of the samples a level.
        albedo: (M, 3) float32 albedo of the samples.
        seen: (M,) float32 weight with which each sample was seen.
        light: (9, 3) mean light, camera axes.
        depth_m: () typical distance of the head.
        light_own: (M, 8) float32 response of the samples' shading to the light, see `tracker.light_response`; (0, 8)
            under steady light.
        light_around: (L, M, 8) float32 that of their local means, or (0, 8).
        frames: (K,) calibration frames.
        reprojection_px: () median landmark error over them.
        photometric_l1: () mean absolute colour residual over them.
    """

    shape: np.ndarray
    camera: np.ndarray
    camera_prior: np.ndarray
    log_focal_std: np.ndarray
    offsets_m: np.ndarray
    contrast: np.ndarray
    albedo: np.ndarray
    seen: np.ndarray
    light: np.ndarray
    depth_m: np.ndarray
    light_own: np.ndarray
    light_around: np.ndarray
    frames: np.ndarray
    reprojection_px: np.ndarray
    photometric_l1: np.ndarray

    @property
    def focal_observed(self) -> bool:
        """Whether the clip (or the user) tells the focal length."""
        return bool(self.camera_prior[1] == 0 or self.log_focal_std < OBSERVED_LOG_STD)

    @property
    def response(self) -> LightResponse | None:
        """How the contrast follows the light; None where that was steady."""
        if not len(self.light_own):
            return None
        arrays = (self.albedo, self.light_own, self.light_around)
        return LightResponse(*(torch.from_numpy(array) for array in arrays))

    @property
    def intrinsics(self) -> Intrinsics:
        """Camera of the crop."""
        return Intrinsics(*(float(value) for value in self.camera))

    def save(self, path: Path) -> None:
        """Writes the record atomically."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **vars(self))

        files.write_atomic(path, write)

    @classmethod
    def load(cls, path: Path) -> "CalibrationRecord":
        """Reads a record.

        Raises:
            InputError: missing or damaged.
        """
        return read_calibrated(path, lambda arrays: cls(**arrays))


def calibrated_landmarks(subject: Subject, config: Config, model: HeadModel) -> LandmarkSet:
    """The landmarks that the clip's detectors and the head model share."""
    if not config.calibration.measured_offsets:
        model = model.without_landmark_bias()
    return landmark_set(model, has_sparse(subject))


def load_clip(subject: Subject, config: Config, model: HeadModel) -> tuple[ClipModel, CalibrationRecord]:
    """The calibrated clip.

    Raises:
        InputError: the record is missing, damaged, or was made for another head model or sampling.
    """
    record = CalibrationRecord.load(subject.calibration_path)
    landmarks = calibrated_landmarks(subject, config, model)
    samples = SampleSet.of(model, face_samples(model, config.tracking.samples))
    expected = {
        "shape": (model.shape_count,),
        "offsets_m": (len(landmarks), 3),
        "contrast": (config.tracking.levels, len(samples.surface), 3),
    }
    for key, size in expected.items():
        if getattr(record, key).shape != size:
            raise InputError(
                f"{subject.calibration_path}: {key} has shape {getattr(record, key).shape}, the config asks for "
                f"{size}; run the stage calibration again"
            )
    shape = torch.from_numpy(record.shape)
    crop = subject.load_crop()
    clip = ClipModel(
        model=model,
        shape=shape,
        intrinsics=record.intrinsics,
        size=crop.crop_size,
        landmarks=landmarks,
        landmark_points=landmarks.template.with_shape(shape).moved(torch.from_numpy(record.offsets_m)),
        samples=samples,
        sample_points=samples.template.with_shape(shape),
        contrast=torch.from_numpy(record.contrast),
        albedo=torch.from_numpy(record.albedo),
        seen=torch.from_numpy(record.seen),
        light=torch.from_numpy(record.light),
        depth_m=float(record.depth_m),
        response=record.response,
    )
    return clip, record


def load_flow_appearance(subject: Subject, config: Config, model: HeadModel) -> FlowAppearance | None:
    """What the flow term draws; None where it is switched off, without a look at any file.

    Raises:
        InputError: the appearance is missing or damaged.
    """
    if config.energy.flow_weight == 0:
        return None
    look = load_appearance(subject.appearance_path)
    return flow_appearance(model, look.albedo, look.valid)
