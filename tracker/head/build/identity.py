"""Identity modes: a Gaussian process of deformations around the template, cut to its leading eigenfunctions.

Sources: Luethi, Gerig, Jud and Vetter, Gaussian Process Morphable Models, PAMI 2018 (kernels, Nystroem); Sutherland,
Egger and Tenenbaum, Building 3D Generative Models from Minimal Data, IJCV 2023 (mirror-symmetric and correlated
kernels around one template).
"""

from dataclasses import dataclass

import numpy as np

from tracker.head.build import eyes
from tracker.head.build.assemble import HeadMesh
from tracker.head.build.canonical import smoothstep
from tracker.head.build.mesh import cotangent_laplacian
from tracker.head.build.mouth import BAG_RING_COUNT, upper_side

SYMMETRIC_MODES = 62
ASYMMETRIC_MODES = 6
_ANCHOR_COUNT = 700
# Modes beyond those kept, so that taking out rigid motion and tidying eyes and mouth does not thin the last ones.
_SPARE_MODES = 30


@dataclass(frozen=True)
class Kernel:
    """One squared-exponential term.

    Attributes:
        scale_mm: correlation length.
        sigma_mm: standard deviation of each axis (x, y, z) in the face.
        cranium_share: the same on cranium and neck, relative.
    """

    scale_mm: float
    sigma_mm: tuple[float, float, float]
    cranium_share: float


_KERNELS = (
    Kernel(75.0, (1.5, 1.7, 1.7), 1.3),
    Kernel(38.0, (1.1, 1.25, 1.35), 0.7),
    Kernel(20.0, (0.75, 0.85, 1.0), 0.25),
)
_ASYMMETRIC = Kernel(60.0, (0.45, 0.45, 0.45), 1.0)
# Standard deviations of the head's size and of its breadth, height and depth beyond that.
_SIZE_STD = 0.028
_AXIS_STD = (0.022, 0.020, 0.022)
_EYE_RIGID_MM, _EYE_FREE_MM = 16.5, 30.0


def identity_basis(mesh: HeadMesh) -> np.ndarray:
    """(V, 3, S) mm per standard deviation, in order of falling variance, asymmetric modes last."""
    anchors = _anchors(mesh.vertices)
    weights = _variance_weights(mesh)
    parts = []
    for covariance, count in ((_symmetric_covariance, SYMMETRIC_MODES), (_asymmetric_covariance, ASYMMETRIC_MODES)):
        raw = _modes(mesh, anchors, covariance, count + _SPARE_MODES)
        raw = _without_rigid_motion(mesh.vertices, raw, weights)
        tidy = np.stack([mouth_stays_closed(mesh, eyes_stay_round(mesh, raw[..., k])) for k in range(raw.shape[2])], 2)
        parts.append(_principal(tidy, weights)[..., :count])
    return np.concatenate(parts, 2)


def _variance_weights(mesh: HeadMesh) -> np.ndarray:
    """(V,) by how much a vertex counts when modes are ordered and rigid motion is taken out: area, the face most."""
    _, areas = cotangent_laplacian(mesh.vertices, mesh.triangles)
    weights = np.zeros(len(areas))
    weights[mesh.groups["skull"]] = 0.3 * areas[mesh.groups["skull"]]
    weights[mesh.groups["face"]] = areas[mesh.groups["face"]]
    weights *= smoothstep((mesh.vertices[:, 1] + 125) / 40)
    return weights / weights.sum()


def _without_rigid_motion(vertices: np.ndarray, modes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Takes translation and rotation out of modes (V, 3, S): they belong to the head's pose."""
    centred = vertices - weights @ vertices
    turns = [np.cross(axis, centred) for axis in np.eye(3)]
    rigid = np.stack([np.tile(axis, (len(vertices), 1)) for axis in np.eye(3)] + turns, 2)
    gram = np.einsum("v,vki,vkj->ij", weights, rigid, rigid)
    share = np.linalg.solve(gram, np.einsum("v,vki,vks->is", weights, rigid, modes))
    return modes - rigid @ share


def _principal(modes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same distribution in uncorrelated modes of falling weighted variance."""
    flat = modes.reshape(-1, modes.shape[2])
    gram = flat.T @ (np.repeat(weights, 3)[:, None] * flat)
    values, turn = np.linalg.eigh(gram)
    rotated = flat @ turn[:, np.argsort(-values, kind="stable")]
    largest = rotated[np.abs(rotated).argmax(0), np.arange(rotated.shape[1])]
    return (rotated * np.sign(largest)).reshape(modes.shape)


def _anchors(vertices: np.ndarray) -> np.ndarray:
    """Evenly spread vertices of the left half (farthest-point sampling, the face counted double)."""
    candidates = np.flatnonzero(vertices[:, 0] >= 0)
    points = vertices[candidates]
    density = 1.0 + 0.8 * smoothstep((points[:, 2] + 20) / 40) * smoothstep((points[:, 1] + 110) / 20)
    distance = np.full(len(points), np.inf)
    chosen = [int(points[:, 2].argmax())]
    while len(chosen) < _ANCHOR_COUNT // 2:
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int((distance * density).argmax()))
    return candidates[chosen]


def _amplitude(points: np.ndarray, cranium_share: float) -> np.ndarray:
    face = smoothstep((points[:, 2] + 45) / 50) * smoothstep((points[:, 1] + 120) / 30)
    return cranium_share + (1 - cranium_share) * face


def _squared_exponential(kernel: Kernel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distance2 = ((a[:, None] - b[None]) ** 2).sum(2)
    shape = np.exp(-distance2 / (2 * kernel.scale_mm**2))
    return shape * _amplitude(a, kernel.cranium_share)[:, None] * _amplitude(b, kernel.cranium_share)[None]


def _mirrored_covariance(kernel: Kernel, a: np.ndarray, b: np.ndarray, sign: float) -> np.ndarray:
    """Covariance (A, 3, B, 3) of the symmetric (sign +1) or antisymmetric (-1) part of a stationary process."""
    direct = _squared_exponential(kernel, a, b)
    across = _squared_exponential(kernel, a, b * [-1, 1, 1])
    out = np.zeros((len(a), 3, len(b), 3))
    for axis in range(3):
        flip = -sign if axis == 0 else sign
        out[:, axis, :, axis] = kernel.sigma_mm[axis] ** 2 * (direct + flip * across)
    return out


def _symmetric_covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.sum([_mirrored_covariance(kernel, a, b, 1.0) for kernel in _KERNELS], axis=0)
    for field, std in [(np.eye(3), _SIZE_STD), *[(np.diag(np.eye(3)[k]), _AXIS_STD[k]) for k in range(3)]]:
        out = out + std**2 * np.einsum("ai,bj->aibj", a @ field, b @ field)
    return out


def _asymmetric_covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _mirrored_covariance(_ASYMMETRIC, a, b, -1.0)


def _modes(mesh: HeadMesh, anchors: np.ndarray, covariance, count: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Leading eigenfunctions times the root of their eigenvalues, by Nystroem extension to all vertices."""
    points = mesh.vertices[anchors]
    n = len(points)
    gram = covariance(points, points).reshape(3 * n, 3 * n)
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    largest = vectors[np.abs(vectors).argmax(0), np.arange(count)]
    vectors = vectors * np.sign(largest)
    cross = covariance(mesh.vertices, points).reshape(-1, 3 * n)
    return (cross @ vectors / np.sqrt(values)).reshape(-1, 3, count)


def eyes_stay_round(mesh: HeadMesh, mode: np.ndarray) -> np.ndarray:
    """Replaces a mode (V, 3) near each eye by a translation and a scaling of eyeball and lids together."""
    out = mode.copy()
    for side, name in ((1, "left"), (-1, "right")):
        centre = eyes.EYE_CENTRE_MM * [side, 1, 1]
        ball = mesh.groups[f"{name}_eyeball"]
        lids = np.concatenate([ball, mesh.groups[f"{name}_lid_loop"]])
        shift = mode[lids].mean(0)
        arm = mesh.vertices[ball] - centre
        growth = float(((mode[ball] - mode[ball].mean(0)) * arm).sum() / (arm**2).sum())
        rigid = shift + 0.5 * growth * (mesh.vertices - centre)
        distance = np.linalg.norm(mesh.vertices - centre, axis=1)
        share = 1 - smoothstep((distance - _EYE_RIGID_MM) / (_EYE_FREE_MM - _EYE_RIGID_MM))
        share[ball] = 1.0
        share[mesh.groups[f"{name}_socket"]] = 1.0
        share[mesh.groups[f"{name}_lid_loop"]] = 1.0
        out += share[:, None] * (rigid - mode)
    return out


def mouth_stays_closed(mesh: HeadMesh, mode: np.ndarray) -> np.ndarray:
    """Lets both lip edges move together, and bag and teeth with the lips, in a mode (V, 3)."""
    out = mode.copy()
    loop = mesh.groups["lip_loop"]
    x = mesh.vertices[loop, 0]
    upper = upper_side(loop, mesh.vertices[loop])
    order_up, order_low = (ids[np.argsort(mesh.vertices[ids, 0])] for ids in (loop[upper], loop[~upper]))

    def along(at: np.ndarray) -> np.ndarray:
        lines = [
            np.column_stack([np.interp(at, mesh.vertices[ids, 0], mode[ids, k]) for k in range(3)])
            for ids in (order_up, np.concatenate([order_up[:1], order_low, order_up[-1:]]))
        ]
        return (lines[0] + lines[1]) / 2

    out[loop] = along(x)
    bag = mesh.groups["mouth_bag"]
    out[bag[:-1]] = np.tile(along(x), (BAG_RING_COUNT, 1))
    out[bag[-1]] = out[loop].mean(0)
    for name in ("upper_teeth", "lower_teeth"):
        out[mesh.groups[name]] = along(mesh.vertices[mesh.groups[name], 0])
    return out
