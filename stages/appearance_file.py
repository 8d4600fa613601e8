"""appearance.npz: the clip's texture, as the stage calibration leaves it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.errors import InputError
from tracker.npz import DAMAGE, arrays_of, one_line
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
    try:
        arrays = {name: values.astype(np.float32) for name, values in arrays_of(path).items()}
        albedo, valid = arrays["albedo"], arrays["valid"]
        shut = ShutLids(arrays["shut_albedo"], arrays["shut_mask"]) if "shut_albedo" in arrays else None
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; run the stage calibration first") from error
    except DAMAGE as error:
        raise InputError(
            f"{path}: damaged ({one_line(error)}); run the stage calibration again with --force"
        ) from error
    if albedo.ndim != 3 or albedo.shape != (*valid.shape, 3):
        raise InputError(f"{path}: albedo {albedo.shape} and valid {valid.shape} do not fit; run calibration again")
    return Appearance(albedo, valid, shut)
