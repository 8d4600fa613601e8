"""Settings of the solver stages; nested in the config under `calibration:` and `tracking:`."""

from pydantic import BaseModel, ConfigDict, Field


class CalibrationSettings(BaseModel):
    """Joint solve of the per-clip unknowns on keyframes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int = Field(16, ge=1, le=200, description="Frames solved jointly: the keyframes plus others spread in yaw.")


class TrackingSettings(BaseModel):
    """Per-frame solve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(3000, ge=100, le=50000, description="Surface samples of the photometric term.")
