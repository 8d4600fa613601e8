"""appearance.npz: the clip's texture, as the stage calibration leaves it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.errors import InputError
from tracker.npz import Out, read_as
from tracker.shut_look import ShutLids


@dataclass(frozen=True, eq=False)
class Appearance:
    """The texture.

    Attributes:
        albedo: (T, T, 3) float32.
        valid: (T, T) float32, 0 where no frame showed the surface.
        shut: the look of shut lids, or None where no frame showed them.
    """

    albedo: np.ndarray
    valid: np.ndarray
    shut: ShutLids | None


def load_appearance(path: Path) -> Appearance:
    """Reads the file.

    Raises:
        InputError: missing or damaged.
    """
    appearance = read_calibrated(path, _appearance)
    albedo, valid = appearance.albedo.shape, appearance.valid.shape
    if len(albedo) != 3 or albedo != (*valid, 3):
        raise InputError(f"{path}: albedo {albedo} and valid {valid} do not fit; run calibration again")
    return appearance


def read_calibrated(path: Path, make: Callable[[dict[str, np.ndarray]], Out]) -> Out:
    """What a function makes of the arrays of an npz that the stage calibration wrote.

    Raises:
        InputError: missing or damaged.
    """
    missing = "missing; run the stage calibration first"
    return read_as(path, make, missing, "damaged", "run the stage calibration again with --force")


def _appearance(data: dict[str, np.ndarray]) -> Appearance:
    arrays = {name: values.astype(np.float32) for name, values in data.items()}
    shut = ShutLids(arrays["shut_albedo"], arrays["shut_mask"]) if "shut_albedo" in arrays else None
    return Appearance(arrays["albedo"], arrays["valid"], shut)
