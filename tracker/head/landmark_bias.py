"""How a detector's points differ from a head model's points of the same name, learned from rendered heads.

A detector places its points by its own training; on a rendered head with known geometry the difference can be
measured: render, detect, and solve for the constant 3-D offset of each landmark that explains the detections over many
views. The mean over identities is the prior mean of a clip's landmark offsets, the spread its standard deviation.

Points on and around the lids also move otherwise than the model's when an eye closes: a detector leaves a gap between
shut lids, and keeps the crease where it was while the model's skin slides down. That is a second offset, times the
closure.

With enough people two more things can be told: how offsets change with the identity (a detector places what has no
mark of its own, cheeks and forehead, between what has), and which of them differ together between people.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tracker.errors import InputError
from tracker.npz import read_npz

# A pull to zero offset worth one clear view at this distance, metres: keeps the depth of frontal views finite.
_RIDGE_M = 0.02
# The same of the response to the lids, as a share of what its views say: few of them show closed lids from the side.
_RESPONSE_RIDGE = 0.1

# A point whose mirror image lies further than this from any other has no twin on the other side, metres.
_TWIN_M = 0.005

_OF_MANY = ("identity_response_m", "together_m", "alone_m")
# People needed to tell how offsets follow the identity, and which differ together.
LEAST_PEOPLE = 200
# Ridge of the response, in people; between 10 and 30 the error on people left out is the same.
_RESPONSE_PEOPLE = 20.0
# How much of the covariances between points is taken for chance.
_SHRINKAGE = 0.2
# Factors that are kept; with 300 people they hold three quarters of the variance.
_FACTORS = 60
_LEAST_ALONE_M = 1e-5


@dataclass(frozen=True, eq=False)
class LandmarkBias:
    """Offsets of a detector's points from a head model's.

    Attributes:
        offset_m: (478, 3) mean offset in head space, metres.
        spread_m: (478,) standard deviation between identities, in each direction.
        noise_m: (478,) standard deviation of a single view around its identity's offset, in the picture plane.
        lid_response_m: (478, 3, 2) how much further a detected point moves than the model's when the left or right
            lids close, metres a closure, head space; zero for points that the lids do not move.
        template_digest: of the head model that it was measured on.
        identity_response_m: (478, 3, S) change of the offset by each identity coefficient; or None.
        together_m: (478, 3, F) what offsets have in common between people beyond that: F factors; or None.
        alone_m: (478, 3) standard deviation beyond both; or None.
        shape_digest: of the identity modes that those three belong to; empty without them.
    """

    offset_m: np.ndarray
    spread_m: np.ndarray
    noise_m: np.ndarray
    lid_response_m: np.ndarray
    template_digest: str
    identity_response_m: np.ndarray | None = None
    together_m: np.ndarray | None = None
    alone_m: np.ndarray | None = None
    shape_digest: str = ""

    def save(self, path: Path) -> None:
        """Writes an npz."""
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                offset_m=self.offset_m.astype(np.float32),
                spread_m=self.spread_m.astype(np.float32),
                noise_m=self.noise_m.astype(np.float32),
                lid_response_m=self.lid_response_m.astype(np.float32),
                template_digest=np.array(self.template_digest),
                shape_digest=np.array(self.shape_digest),
                **{name: value.astype(np.float16) for name in _OF_MANY if (value := getattr(self, name)) is not None},
            )

    @classmethod
    def load(cls, path: Path) -> "LandmarkBias":
        """Reads what `save` wrote.

        Raises:
            InputError: damaged.
        """
        remedy = "delete it, or make it again with `python -m stages.landmark_bias`"
        data = read_npz(path, remedy)
        names = ("offset_m", "spread_m", "noise_m", "lid_response_m")
        try:
            offset, spread, noise, response = (data[name].astype(np.float64) for name in names)
            of_many = {name: data[name].astype(np.float64) for name in _OF_MANY if name in data}
            digests = str(data["template_digest"]), str(data.get("shape_digest", ""))
            return cls(offset, spread, noise, response, digests[0], shape_digest=digests[1], **of_many)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: damaged ({error}); {remedy}") from error


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


def solve_with_lids(
    jacobians: np.ndarray, differences_px: np.ndarray, weights: np.ndarray, closure: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offset and response to the lids' closure of each landmark that explain its differences over several views.

    Args:
        jacobians: (F, N, 2, 3) derivative of each pixel by its head-space point, pixels per metre.
        differences_px: (F, N, 2) detected minus projected.
        weights: (F, N) confidence of each view.
        closure: (F,) of the lids, 0 open to 1 closed.

    Returns:
        Twice (N, 3) metres: the offset with open lids, and what is added to it when they are closed.
    """
    both = np.concatenate([jacobians, jacobians * closure[:, None, None, None]], 3)
    weighted = both * weights[..., None, None]
    H = np.einsum("fndi,fndj->nij", weighted, both)
    g = np.einsum("fndi,fnd->ni", weighted, differences_px)
    diagonal = np.einsum("nii->ni", H)
    ridges = (0.0005 / _RIDGE_M, _RESPONSE_RIDGE)
    pull = [share * diagonal[:, part].mean(1) for share, part in zip(ridges, (slice(0, 3), slice(3, 6)), strict=True)]
    H += (np.repeat(np.stack(pull, 1), 3, 1) + 1e-9)[..., None] * np.eye(6)
    found = np.linalg.solve(H, g[..., None])[..., 0]
    return found[:, :3], found[:, 3:]


def mirrored_response(response_m: np.ndarray, points_m: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A response that is the same left and right, for the points that lids move.

    Rendered heads share one photograph's texture, whose eyes are not alike; people's are, on average.

    Args:
        response_m: (N, 3) to lids that close together.
        points_m: (N, 3) the landmarks on the mean head, x to its left.
        moved: (N, 2) bool, whether the left and the right lids move a point.

    Returns:
        (N, 3, 2) response to the left and to the right lids.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    distance = np.linalg.norm(points_m[:, None] * flip - points_m[None], axis=2)
    twin = distance.argmin(1)
    response_m = np.where(distance.min(1)[:, None] < _TWIN_M, 0.5 * (response_m + flip * response_m[twin]), response_m)
    return response_m[:, :, None] * moved[:, None, :]


def summarise_bias(
    offsets_m: np.ndarray,
    residuals_m: np.ndarray,
    weights: np.ndarray,
    lid_response_m: np.ndarray,
    template_digest: str,
) -> LandmarkBias:
    """Mean and spread over identities.

    Args:
        offsets_m: (I, 478, 3) offset of each identity.
        residuals_m: (F, 478, 2) what single views of all of them leave, metres in the picture plane at the point's
            depth.
        weights: (F, 478).
        lid_response_m: (478, 3, 2).
        template_digest: of the head model.
    """
    spread = offsets_m.std(0, ddof=1)
    total = weights.sum(0).clip(1e-9)
    noise = np.sqrt((weights[..., None] * residuals_m**2).sum(0).mean(1) / total)
    return LandmarkBias(offsets_m.mean(0), np.sqrt((spread**2).mean(1)), noise, lid_response_m, template_digest)


def with_identity(bias: LandmarkBias, offsets_m: np.ndarray, shapes: np.ndarray, shape_digest: str) -> LandmarkBias:
    """The bias with what many people tell: how offsets follow the identity, and which differ together.

    The response is a ridge regression; what it leaves is split into common factors (the largest principal components
    of a shrunk covariance) and a part of each coordinate's own.

    Args:
        bias: mean and spread of these people; its spread becomes what the response leaves.
        offsets_m: (I, N, 3) offset of each identity.
        shapes: (I, S) their coefficients, drawn around zero.
        shape_digest: of the identity modes.
    """
    people, modes = shapes.shape
    flat = offsets_m.reshape(people, -1)
    mean = flat.mean(0)
    ridge = np.linalg.solve(shapes.T @ shapes + _RESPONSE_PEOPLE * np.eye(modes), shapes.T)
    response = ridge @ (flat - mean)
    left = flat - mean - shapes @ response
    covariance = left.T @ left / max(people - 1 - float(np.einsum("ps,sp->", shapes, ridge)), 1.0)
    variance = np.diag(covariance)
    sizes, directions = np.linalg.eigh((1 - _SHRINKAGE) * covariance)
    together = directions[:, -_FACTORS:] * np.sqrt(sizes[-_FACTORS:].clip(0))
    alone = np.sqrt((variance - (together**2).sum(1)).clip(_LEAST_ALONE_M**2))
    shape = offsets_m.shape[1:]
    return replace(
        bias,
        spread_m=np.sqrt(variance.reshape(shape).mean(1)),
        identity_response_m=response.T.reshape(*shape, modes),
        together_m=together.reshape(*shape, -1),
        alone_m=alone.reshape(shape),
        shape_digest=shape_digest,
    )
