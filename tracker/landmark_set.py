"""What the solver needs to know of FaceMesh's 478 points: closure pairs, irises, and their scale in a picture.

The numbers are those of the public FaceMesh topology (google/mediapipe, Apache-2.0).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tracker.head.model import HeadModel
from tracker.points import PointTemplate, point_template

COUNT = 478
# Outer eye corners; their distance is the field's inter-ocular distance.
RIGHT_OUTER_EYE, LEFT_OUTER_EYE = 33, 263
# Upper and lower lid, from the inner to the outer third of the eye.
RIGHT_LID_PAIRS = ((157, 154), (158, 153), (159, 145), (160, 144), (161, 163))
LEFT_LID_PAIRS = ((384, 381), (385, 380), (386, 374), (387, 373), (388, 390))
# Inner border of the upper and lower lip.
LIP_PAIRS = ((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))
CLOSURE_PAIRS = RIGHT_LID_PAIRS + LEFT_LID_PAIRS + LIP_PAIRS
IRISES = tuple(range(468, 478))
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def inter_ocular_px(points_px: np.ndarray) -> float:
    """Distance of the outer eye corners of (478, 2) points."""
    return float(np.linalg.norm(points_px[RIGHT_OUTER_EYE] - points_px[LEFT_OUTER_EYE]))


def apertures(points_px: np.ndarray) -> tuple[float, float]:
    """Opening of the eyes and of the lips of (478, 2) points, in inter-ocular distances."""
    size = max(inter_ocular_px(points_px), 1e-6)

    def opening(pairs: tuple[tuple[int, int], ...]) -> float:
        upper, lower = points_px[[a for a, _ in pairs]], points_px[[b for _, b in pairs]]
        return float(np.linalg.norm(upper - lower, axis=1).mean()) / size

    return opening(RIGHT_LID_PAIRS + LEFT_LID_PAIRS), opening(LIP_PAIRS)


def is_detected(points_px: np.ndarray) -> bool:
    """Whether a keypoint array holds a face (all zeros mean none)."""
    return bool(np.any(points_px))


# iBUG points after the jaw contour: the contour slides over the surface with yaw and is not used as a target.
_INNER68 = tuple(range(17, 68))


@dataclass(frozen=True, eq=False)
class LandmarkSet:
    """The landmarks of a head model that a clip's detectors provide.

    Attributes:
        template: N points: FaceMesh points first, then (where a 68-point detector ran) the inner iBUG points.
        dense: (D,) FaceMesh numbers of the first D points.
        sparse: (N - D,) iBUG numbers of the others.
        pairs: (K, 2) closure pairs, ids into the points.
        offset_mean_m: (N, 3) mean landmark offsets known for the model, head space.
        offset_std_m: (N,) their spread between people; NaN where nothing is known.
        offset_together_m: (N, 3, F) what offsets have in common between people, F factors; zero where nothing is known.
        offset_alone_m: (N, 3) their spread beyond that; NaN where nothing is known.
    """

    template: PointTemplate
    dense: Tensor
    sparse: Tensor
    pairs: Tensor
    offset_mean_m: Tensor
    offset_std_m: Tensor
    offset_together_m: Tensor
    offset_alone_m: Tensor

    def __len__(self) -> int:
        return len(self.dense) + len(self.sparse)

    @property
    def follow_identity(self) -> bool:
        """Whether it was measured how the offsets follow the identity, and what they have in common beyond that."""
        return self.offset_together_m.shape[2] > 0

    def subset(self, ids: Tensor) -> "LandmarkSet":
        """Some of the landmarks.

        Args:
            ids: (M,) ascending ids into the points; a closure pair is kept where both of its points are.
        """
        place = {int(old): new for new, old in enumerate(ids)}
        pairs = [[place[a], place[b]] for a, b in self.pairs.tolist() if a in place and b in place]
        dense = ids[ids < len(self.dense)]
        return LandmarkSet(
            template=self.template.subset(ids),
            dense=self.dense[dense],
            sparse=self.sparse[ids[len(dense) :] - len(self.dense)],
            pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
            offset_mean_m=self.offset_mean_m[ids],
            offset_std_m=self.offset_std_m[ids],
            offset_together_m=self.offset_together_m[ids],
            offset_alone_m=self.offset_alone_m[ids],
        )

    def targets(self, dense_px: np.ndarray, sparse_px: np.ndarray | None) -> Tensor:
        """Detected points (N, 2) in this set's order, from (478, 2) and (68, 2) arrays."""
        parts = [dense_px[self.dense.numpy()]]
        if len(self.sparse):
            if sparse_px is None:
                raise ValueError("this set has iBUG points, so 68 detected points are needed")
            parts.append(sparse_px[self.sparse.numpy()])
        return torch.from_numpy(np.concatenate(parts).astype(np.float64))


def _template(model: HeadModel, faces: Tensor, bary: Tensor) -> PointTemplate:
    """The points, FaceMesh's first, moving with lids and identity as the detector's do where that was measured."""
    template = point_template(model, faces, bary)
    lids, identity = model.landmark_lid_response, model.landmark_identity
    if lids is not None:
        basis = template.points.eyelid_basis.clone()
        basis[: len(lids)] += lids.to(basis)
        template = replace(template, points=replace(template.points, eyelid_basis=basis))
    if identity is not None:
        basis = template.shape_basis.clone()
        basis[: len(identity.response)] += identity.response.to(basis)
        template = replace(template, shape_basis=basis)
    return template


def landmark_set(model: HeadModel, with_sparse: bool) -> LandmarkSet:
    """The landmark points of a head model.

    Args:
        model: the head model.
        with_sparse: add the inner iBUG points (a 68-point detector of its own ran; points derived from the 478 would
            say the same thing twice).

    Returns:
        The set, float64.
    """
    dense, sparse = model.landmarks478, model.landmarks68
    inner = torch.tensor([i for i in _INNER68 if i in set(sparse.indices.tolist())], dtype=torch.long)
    rows = torch.tensor([sparse.indices.tolist().index(int(i)) for i in inner], dtype=torch.long)
    if not with_sparse:
        inner, rows = inner[:0], rows[:0]
    faces = torch.cat([dense.faces, sparse.faces[rows]])
    bary = torch.cat([dense.bary, sparse.bary[rows]])
    place = {int(number): i for i, number in enumerate(dense.indices)}
    pairs = [[place[a], place[b]] for a, b in CLOSURE_PAIRS if a in place and b in place]
    offset_mean = torch.zeros(len(faces), 3, dtype=torch.float64)
    offset_std = torch.full((len(faces),), float("nan"), dtype=torch.float64)
    if model.landmark_offsets is not None and model.landmark_offset_std is not None:
        offset_mean[: len(dense)] = model.landmark_offsets.double()
        offset_std[: len(dense)] = model.landmark_offset_std.double()
    identity = model.landmark_identity
    factors = 0 if identity is None else identity.together.shape[2]
    together = torch.zeros(len(faces), 3, factors, dtype=torch.float64)
    alone = torch.full((len(faces), 3), float("nan"), dtype=torch.float64)
    if identity is not None:
        together[: len(dense)], alone[: len(dense)] = identity.together.double(), identity.alone.double()
    return LandmarkSet(
        template=_template(model, faces, bary),
        dense=dense.indices,
        sparse=inner,
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        offset_mean_m=offset_mean,
        offset_std_m=offset_std,
        offset_together_m=together,
        offset_alone_m=alone,
    )
