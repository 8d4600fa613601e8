"""How a detector's points differ from a head model's points of the same name, learned from rendered heads.

A detector places its points by its own training; on a rendered head with known geometry the difference can be
measured: render, detect, and solve for the constant 3-D offset of each landmark that explains the detections over many
views. The mean over identities is the prior mean of a clip's landmark offsets, the spread its standard deviation.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tracker.errors import InputError

# A pull to zero offset worth one clear view at this distance, metres: keeps the depth of frontal views finite.
_RIDGE_M = 0.02


@dataclass(frozen=True, eq=False)
class LandmarkBias:
    """Offsets of a detector's points from a head model's.

    Attributes:
        offset_m: (478, 3) mean offset in head space, metres.
        spread_m: (478,) standard deviation between identities, in each direction.
        noise_m: (478,) standard deviation of a single view around its identity's offset, in the picture plane.
        template_digest: of the head model that it was measured on.
    """

    offset_m: np.ndarray
    spread_m: np.ndarray
    noise_m: np.ndarray
    template_digest: str

    def save(self, path: Path) -> None:
        """Writes an npz."""
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                offset_m=self.offset_m.astype(np.float32),
                spread_m=self.spread_m.astype(np.float32),
                noise_m=self.noise_m.astype(np.float32),
                template_digest=np.array(self.template_digest),
            )

    @classmethod
    def load(cls, path: Path) -> "LandmarkBias":
        """Reads what `save` wrote.

        Raises:
            InputError: damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                offset, spread, noise = (data[key].astype(np.float64) for key in ("offset_m", "spread_m", "noise_m"))
                return cls(offset, spread, noise, str(data["template_digest"]))
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise InputError(
                f"{path}: damaged ({error}); make it again with `python -m stages.landmark_bias`"
            ) from error


def solve_offsets(jacobians: np.ndarray, differences_px: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The constant offset of each landmark that explains its differences over several views.

    Args:
        jacobians: (F, N, 2, 3) derivative of each pixel by its head-space point, pixels per metre.
        differences_px: (F, N, 2) detected minus projected.
        weights: (F, N) confidence of each view.

    Returns:
        (N, 3) metres: weighted least squares with a weak pull to zero.
    """
    weighted = jacobians * weights[..., None, None]
    H = np.einsum("fndi,fndj->nij", weighted, jacobians)
    g = np.einsum("fndi,fnd->ni", weighted, differences_px)
    scale = np.einsum("nii->n", H) / 3
    ridge = (0.0005 / _RIDGE_M) * scale
    H += (ridge + 1e-9)[:, None, None] * np.eye(3)
    return np.linalg.solve(H, g[..., None])[..., 0]


def summarise_bias(
    offsets_m: np.ndarray, residuals_m: np.ndarray, weights: np.ndarray, template_digest: str
) -> LandmarkBias:
    """Mean and spread over identities.

    Args:
        offsets_m: (I, 478, 3) offset of each identity.
        residuals_m: (I, F, 478, 2) what single views leave, metres in the picture plane at the point's depth.
        weights: (I, F, 478).
        template_digest: of the head model.
    """
    spread = offsets_m.std(0, ddof=1)
    total = weights.sum((0, 1)).clip(1e-9)
    noise = np.sqrt((weights[..., None] * residuals_m**2).sum((0, 1)).mean(1) / total)
    return LandmarkBias(offsets_m.mean(0), np.sqrt((spread**2).mean(1)), noise, template_digest)
