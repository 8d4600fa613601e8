"""Settings of the solver stages; nested in the config under `calibration:` and `tracking:`.

Every standard deviation is in the unit its field names. Where a number was measured, docs/solver.md says on what.
"""

from pydantic import BaseModel, ConfigDict, Field

_SETTINGS = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EnergySettings(BaseModel):
    """Noise of the data and spread of the priors, shared by calibration and tracking."""

    model_config = _SETTINGS

    landmark_sigma: float = Field(
        0.012, gt=0, le=1, description="Noise of a detected landmark, as a fraction of the inter-ocular distance."
    )
    closure_sigma: float = Field(
        0.006, gt=0, le=1, description="Noise of the vector between paired lid or lip points, same unit."
    )
    landmark_weight: float = Field(
        0.05, ge=0, le=100, description="Weight of a landmark; below 1 because a detector's points err together."
    )
    closure_weight: float = Field(1.0, ge=0, le=100, description="Weight of a lid or lip pair.")
    contrast_sigma_px: float = Field(
        3.0, ge=1, le=100, description="Width of the local mean that the pictures are divided by, pixels of each level."
    )
    photometric_weight: float = Field(
        1.0, ge=0, le=100, description="Weight of a surface sample; below 1 because neighbours err together."
    )
    flow_weight: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Weight of a surface sample that optical flow surely finds, in tracking of frames without a "
        "detected face; 0 switches flow off.",
    )
    flow_always: bool = Field(False, description="Flow in frames with a detected face as well; about 15 ms a frame.")
    jaw_std: float = Field(0.12, gt=0, le=2, description="Spread of the jaw's opening, radians.")
    jaw_side_std: float = Field(0.02, gt=0, le=2, description="Spread of the jaw's turn to the side, radians.")
    gaze_std: float = Field(0.3, gt=0, le=2, description="Spread of each eye's yaw and pitch, radians.")
    eyelid_std: float = Field(0.5, gt=0, le=10, description="Spread of the eyelid closure, 1 = closed.")


class CalibrationSettings(BaseModel):
    """Joint solve of the per-clip unknowns on keyframes."""

    model_config = _SETTINGS

    frames: int = Field(
        12, ge=1, le=200, description="Frames solved jointly: the keyframes, filled up with others spread in yaw."
    )
    offset_std_mm: float = Field(
        3.0, ge=0, le=50, description="Spread of the constant 3-D landmark offsets, millimetres; 0 holds them."
    )
    measured_offsets: bool = Field(
        True,
        description="Start the landmark offsets at what was measured for the head model; false: at none, each with "
        "the spread of offset_std_mm.",
    )
    landmark_shape_std: float = Field(
        0.7,
        ge=0,
        le=10,
        description="Spread of the identity in the landmark solve, in the model's standard deviations: a detector's "
        "points know little of it. 0 holds it there.",
    )
    shape_std: float = Field(
        1.9,
        gt=0,
        le=10,
        description="Spread of the broadest identity mode, in the model's standard deviations; finer modes get less. "
        "The first joint solve has 0.42 of it, and so have all of them where it was not measured how the head model's "
        "landmarks follow the identity.",
    )
    focal_factor: float = Field(
        1.5, gt=0.1, le=20, description="Mean of the focal length's prior, times the longer side of the full picture."
    )
    focal_log_std: float = Field(0.08, gt=0, le=3, description="Spread of the log focal length, 0.08 = 8 %.")
    centre_std: float = Field(
        0.005, ge=0, le=1, description="Spread of the principal point, as a fraction of the full picture's longer side."
    )
    samples: int = Field(
        4000, ge=100, le=50000, description="Surface samples of the calibration; tracking has its own."
    )
    rounds: int = Field(4, ge=1, le=20, description="Alternations of unwrapping the appearance and solving the poses.")
    joint_steps: int = Field(
        4, ge=0, le=100, description="Steps of each round's joint solve of identity, camera and poses with colours."
    )
    contour_weight: float = Field(
        0.03,
        ge=0,
        le=100,
        description="Weight of a point of the outline of face and ears, which follows the person's matte in the joint "
        "solve; 0 leaves the outline alone.",
    )
    refine_frames: int = Field(
        0,
        ge=0,
        le=100,
        description="Further frames that the joint solve is repeated with once the first ones are solved; 0 leaves it "
        "at those.",
    )
    texture_size: int = Field(512, ge=64, le=4096, description="Side of the unwrapped appearance, texels.")


class TrackingSettings(BaseModel):
    """Per-frame solve."""

    model_config = _SETTINGS

    samples: int = Field(2500, ge=100, le=50000, description="Surface samples of the photometric term.")
    levels: int = Field(3, ge=1, le=6, description="Pyramid levels of the photometric term, coarse to fine.")
    steps: int = Field(3, ge=1, le=50, description="Solver steps at each pyramid level.")
    batch: int = Field(
        0,
        ge=0,
        le=256,
        description="Chunks of the clip solved at once, in float32 on `device`; 0: 16 on a GPU, none on the CPU, where "
        "frames are solved one by one.",
    )
    rotation_std: float = Field(
        0.02, gt=0, le=10, description="Spread of the rotation around the constant-velocity prediction, radians."
    )
    translation_std_mm: float = Field(2.0, gt=0, le=1000, description="Same for the translation, millimetres.")
    expression_std: float = Field(
        0.25, gt=0, le=10, description="Frame-to-frame change of an expression, in its own standard deviations."
    )
    jaw_change_std: float = Field(0.08, gt=0, le=10, description="Frame-to-frame change of the jaw, radians.")
    gaze_change_std: float = Field(0.25, gt=0, le=10, description="Frame-to-frame change of an eye's angle, radians.")
    eyelid_change_std: float = Field(0.6, gt=0, le=10, description="Frame-to-frame change of the eyelid closure.")
    light_std: float = Field(
        0.03, gt=0, le=10, description="Frame-to-frame change of a light coefficient, as a fraction of ambient light."
    )
    poor_reprojection: float = Field(
        0.04,
        gt=0,
        le=1,
        description="Median reprojection error above which a frame is poor, in inter-ocular distances.",
    )
    sure_correlation: float = Field(
        0.9,
        ge=-1,
        le=1,
        description="Correlation of picture and appearance from which that error may be three times as large.",
    )
    poor_correlation: float = Field(
        0.5, ge=-1, le=1, description="Correlation of picture and appearance below which a frame is poor."
    )
    lost_correlation: float = Field(
        0.4, ge=-1, le=1, description="Correlation below which a frame without landmarks is lost."
    )


class SmootherSettings(BaseModel):
    """Smoothing of the track over time, backwards as well as forwards."""

    model_config = _SETTINGS

    enabled: bool = Field(True, description="Smooth the track; false: each frame stays as it was tracked.")
    noise: float = Field(
        4.0,
        gt=0,
        le=100,
        description="How many times larger a frame's errors are than its equations say; larger smooths more.",
    )
    poor_noise: float = Field(3.0, ge=1, le=1e4, description="The same for a poor frame, times the above.")
    rotation_std: float = Field(
        0.004, gt=0, le=10, description="Change of the head's turn from one frame step to the next, radians."
    )
    translation_std_mm: float = Field(0.6, gt=0, le=1000, description="Same for its shift, millimetres.")
    expression_std: float = Field(
        0.6, gt=0, le=100, description="Same for an expression, in its own standard deviations."
    )
    jaw_std: float = Field(0.06, gt=0, le=10, description="Same for the jaw, radians.")
    gaze_std: float = Field(0.3, gt=0, le=10, description="Same for an eye's angle, radians.")
    eyelid_std: float = Field(0.6, gt=0, le=10, description="Same for the eyelid closure.")
    lag: int = Field(
        12, ge=1, le=1000, description="Frames before and after that a frame's smoothing looks at, frames."
    )
    block: int = Field(12, ge=1, le=1000, description="Frames that are smoothed at once, frames.")

    def window_start(self, block: int) -> int:
        """First frame that the smoothing of a block looks at."""
        return max(block * self.block - self.lag, 0)
