"""The head-model interface: blendshapes, linear blend skinning, regions and landmark embeddings.

Every loader (generic, FLAME, ICT-FaceKit) returns this one class, so the solver, the renderer and the exporters do
not know which model they work on. Source of the skinning: Li et al., Learning a Model of Facial Shape and Expression
from 4D Scans (FLAME), SIGGRAPH Asia 2017, section 3.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.head.plain import JAW, JOINT_COUNT, LEFT_EYE, NECK, PARENTS, RIGHT_EYE, ROOT, region_triangles
from tracker.kernels import mesh as kernels

__all__ = [
    "JAW",
    "JOINT_COUNT",
    "LEFT_EYE",
    "NECK",
    "RIGHT_EYE",
    "ROOT",
    "ContourEmbedding",
    "Embedding",
    "HeadModel",
    "HeadParams",
    "embed",
    "embed_torch",
    "region_triangles",
    "skin_torch",
    "vertex_normals",
    "vertex_normals_torch",
]


# Lids close a little further than shut and open a little wider than at rest, where no expression does that.
EYELID_BOUNDS = (-0.4, 1.15)


@dataclass(frozen=True)
class Embedding:
    """Points fixed on the surface of a head model by barycentric coordinates.

    Attributes:
        faces: (N,) int64 triangle of each point.
        bary: (N, 3) float32 weights of the triangle's corners.
        indices: (N,) int64 the landmark number (iBUG-68 or FaceMesh-478) of each point; a model may lack some.
    """

    faces: Tensor
    bary: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.faces)

    def to(self, device: torch.device | str) -> "Embedding":
        """The same embedding on another device."""
        return Embedding(self.faces.to(device), self.bary.to(device), self.indices.to(device))


@dataclass(frozen=True)
class ContourEmbedding:
    """The jaw contour (iBUG 0 to 16), which slides over the surface with yaw.

    Attributes:
        faces: (A, 17) int64, one row a degree of yaw.
        bary: (A, 17, 3) float32.
        The rows follow FLAME: row a for 0 <= a <= 39 degrees, row 39 - a for negative yaw, 78 beyond.
    """

    faces: Tensor
    bary: Tensor

    def to(self, device: torch.device | str) -> "ContourEmbedding":
        """The same embedding on another device."""
        return ContourEmbedding(self.faces.to(device), self.bary.to(device))


@dataclass(frozen=True, eq=False)
class LandmarkIdentity:
    """How a detector's points follow a head's identity otherwise than the model's, measured on renders.

    With coefficients s, the offset of the points is their mean + response s + together z + alone e with z and e
    standard normal.

    Attributes:
        response: (L, 3, S) metres a standard deviation, head space.
        together: (L, 3, F) what offsets of several points have in common between people beyond that, metres.
        alone: (L, 3) standard deviation of each by itself, metres.
    """

    response: Tensor
    together: Tensor
    alone: Tensor

    def to(self, device: torch.device | str) -> "LandmarkIdentity":
        """The same on another device."""
        return LandmarkIdentity(self.response.to(device), self.together.to(device), self.alone.to(device))

    def with_modes(self, count: int) -> "LandmarkIdentity":
        """For the first identity modes alone."""
        return replace(self, response=self.response[..., :count])


@dataclass(frozen=True)
class HeadParams:
    """Parameters of a head without its pose in space; leading batch dimensions (...) broadcast.

    Attributes:
        shape: (..., S) in standard deviations.
        expression: (..., E) in the model's units (standard deviations, or activations in [0, 1]).
        jaw: (..., 3, 3) rotation about the jaw joint.
        eyes: (..., 2, 3, 3) rotations of the left and right eyeball.
        eyelids: (..., 2) closure of the left and right eyelids, 0 neutral, 1 closed.
        neck: (..., 3, 3) rotation about the neck joint, or None for identity.
        root: (..., 3, 3) rotation of the whole head about the root joint, or None for identity. This tracker leaves
            it and the translation to the camera's extrinsics; files of other programs have them here.
        translation: (..., 3) metres, added to everything last; or None.
    """

    shape: Tensor
    expression: Tensor
    jaw: Tensor
    eyes: Tensor
    eyelids: Tensor
    neck: Tensor | None = None
    root: Tensor | None = None
    translation: Tensor | None = None


@dataclass(frozen=True, eq=False)
class HeadModel:
    """A parametric head in FLAME's head space (x to the subject's left, y up, z out of the face, metres).

    Attributes:
        name: 'generic', 'flame', 'ict'.
        template: (V, 3) float32 mean head.
        shape_basis: (V, 3, S) metres per standard deviation.
        expression_basis: (V, 3, E) metres per unit.
        expression_names: E names.
        expression_std: (E,) standard deviation of each coefficient's prior, in its own unit.
        expression_bounds: (E, 2) lower and upper bound of each coefficient (-inf, inf where free).
        eyelid_basis: (V, 3, 2) metres; added after skinning, as metrical-tracker does.
        eyelid_bounds: lowest and highest closure of both lids.
        pose_correctives: (V, 3, 36) metres per element of vec(R_j - I), joints 1 to 4, row-major; or None.
        joint_regressor: (5, V); joints of the shaped head.
        skin_weights: (V, 5), rows sum to 1.
        triangles: (F, 3) int64, counter-clockwise seen from outside.
        uv: (T, 2) float32 texture coordinates, v up, in [0, 1].
        uv_triangles: (F, 3) int64 into uv.
        landmark_offsets: (L, 3) metres, mean offset of the detector's points from `landmarks478`, measured on renders;
            or None where nothing is known.
        landmark_offset_std: (L,) metres, its spread between people; or None.
        landmark_lid_response: (L, 3, 2) metres a closure, how much further the detector's points move than
            `landmarks478` when the left or right lids close, measured on renders; or None.
        landmark_identity: how the detector's points follow a head's identity; or None.
        regions: name to vertex ids; FLAME_masks' names where the model has them.
        landmarks68: embedding of the iBUG points (static; the contour's frontal position for 0 to 16).
        landmarks478: embedding of the FaceMesh points that the model has.
        contour: sliding contour, or None.
        landmarks68_fixed: the 68 points at fixed places of the surface, the contour on the jaw bone's edge (DECA's and
            MICA's 3-D landmarks), or None.
        notes: sentences for people about the files that the model was read from.
    """

    name: str
    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    expression_names: tuple[str, ...]
    expression_std: Tensor
    expression_bounds: Tensor
    eyelid_basis: Tensor
    joint_regressor: Tensor
    skin_weights: Tensor
    triangles: Tensor
    uv: Tensor
    uv_triangles: Tensor
    landmarks68: Embedding
    landmarks478: Embedding
    pose_correctives: Tensor | None = None
    contour: ContourEmbedding | None = None
    landmark_offsets: Tensor | None = None
    landmark_offset_std: Tensor | None = None
    landmark_lid_response: Tensor | None = None
    landmark_identity: LandmarkIdentity | None = None
    regions: dict[str, Tensor] = field(default_factory=dict)
    landmarks68_fixed: Embedding | None = None
    notes: tuple[str, ...] = ()
    parents: tuple[int, ...] = PARENTS
    eyelid_bounds: tuple[float, float] = EYELID_BOUNDS

    @property
    def vertex_count(self) -> int:
        """Number of vertices V."""
        return self.template.shape[0]

    @property
    def shape_count(self) -> int:
        """Number of identity modes S."""
        return self.shape_basis.shape[2]

    @property
    def expression_count(self) -> int:
        """Number of expression modes E."""
        return self.expression_basis.shape[2]

    def neutral(self, dtype: torch.dtype = torch.float32) -> HeadParams:
        """Parameters of the mean head at rest (no batch dimension)."""
        device = self.template.device
        eye = torch.eye(3, dtype=dtype, device=device)
        return HeadParams(
            shape=torch.zeros(self.shape_count, dtype=dtype, device=device),
            expression=torch.zeros(self.expression_count, dtype=dtype, device=device),
            jaw=eye,
            eyes=eye.expand(2, 3, 3).clone(),
            eyelids=torch.zeros(2, dtype=dtype, device=device),
        )

    def with_modes(self, shape_count: int, expression_count: int) -> "HeadModel":
        """The model cut to its first modes; counts beyond what it has are clipped."""
        s, e = min(shape_count, self.shape_count), min(expression_count, self.expression_count)
        return replace(
            self,
            shape_basis=self.shape_basis[..., :s],
            expression_basis=self.expression_basis[..., :e],
            expression_names=self.expression_names[:e],
            expression_std=self.expression_std[:e],
            expression_bounds=self.expression_bounds[:e],
            landmark_identity=None if self.landmark_identity is None else self.landmark_identity.with_modes(s),
        )

    def without_landmark_bias(self) -> "HeadModel":
        """The model as if nothing were known of how a detector's points differ from its own."""
        return replace(
            self,
            landmark_offsets=None,
            landmark_offset_std=None,
            landmark_lid_response=None,
            landmark_identity=None,
        )

    def to(self, device: torch.device | str) -> "HeadModel":
        """The same model on another device."""
        parts = (Tensor, Embedding, ContourEmbedding, LandmarkIdentity)
        moved: dict[str, Any] = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, parts)}
        moved["regions"] = {name: ids.to(device) for name, ids in self.regions.items()}
        return replace(self, **moved)

    def rest_vertices(self, shape: Tensor, expression: Tensor | None = None) -> Tensor:
        """Blendshapes without pose: (..., S) and (..., E) to (..., V, 3) metres."""
        vertices = self.template.to(shape.dtype) + torch.einsum(
            "vks,...s->...vk", self.shape_basis.to(shape.dtype), shape
        )
        if expression is not None:
            vertices = vertices + torch.einsum("vke,...e->...vk", self.expression_basis.to(shape.dtype), expression)
        return vertices

    def joints(self, shape: Tensor) -> Tensor:
        """Joints of the shaped head without expression: (..., S) to (..., 5, 3) metres.

        FLAME regresses joints from the head with expression; its regressor rows lie where expression barely acts.
        Pass the vertices to `joints_of` where that matters (golden parity).
        """
        return self.joints_of(self.rest_vertices(shape))

    def joints_of(self, vertices: Tensor) -> Tensor:
        """Joints regressed from (..., V, 3) unposed vertices."""
        return torch.einsum("jv,...vk->...jk", self.joint_regressor.to(vertices.dtype), vertices)

    def vertices(self, params: HeadParams) -> Tensor:
        """Posed vertices in head space.

        Args:
            params: see `HeadParams`; batch dimensions broadcast.

        Returns:
            (..., V, 3) metres.
        """
        rest = self.rest_vertices(params.shape, params.expression)
        joints = self.joints_of(rest)
        rotations = self._joint_rotations(params, rest.shape[:-2])
        if self.pose_correctives is not None:
            identity = torch.eye(3, dtype=rest.dtype, device=rest.device)
            features = (rotations[..., 1:, :, :] - identity).reshape(*rotations.shape[:-3], 36)
            rest = rest + torch.einsum("vkp,...p->...vk", self.pose_correctives.to(rest.dtype), features)
        R, t = self._joint_transforms(rotations, joints)
        weights = self.skin_weights.to(rest.dtype)
        parts = (rest, weights, R, t, self.eyelid_basis.to(rest.dtype), params.eyelids)
        if rest.dim() == 2 and rest.device.type == "cpu" and not any(part.requires_grad for part in parts):
            posed = torch.from_numpy(kernels.skin(*(np.ascontiguousarray(part.numpy()) for part in parts)))
        else:
            posed = skin_torch(*parts)
        return posed if params.translation is None else posed + params.translation[..., None, :]

    def _joint_rotations(self, params: HeadParams, batch: torch.Size) -> Tensor:
        """Local rotations of the five joints, (..., 5, 3, 3)."""
        identity = torch.eye(3, dtype=params.jaw.dtype, device=params.jaw.device)
        root, neck = (identity if R is None else R for R in (params.root, params.neck))
        parts = [root, neck, params.jaw, params.eyes[..., 0, :, :], params.eyes[..., 1, :, :]]
        return torch.stack([part.expand(*batch, 3, 3) for part in parts], -3)

    def _joint_transforms(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """World rotation and translation of each joint, to be applied to unposed points."""
        world_R = [rotations[..., 0, :, :]]
        world_t = [joints[..., 0, :] - (world_R[0] @ joints[..., 0, :, None])[..., 0]]
        for joint in range(1, JOINT_COUNT):
            parent = self.parents[joint]
            pivot = joints[..., joint, :]
            R = world_R[parent] @ rotations[..., joint, :, :]
            posed_pivot = (world_R[parent] @ pivot[..., None])[..., 0] + world_t[parent]
            world_R.append(R)
            world_t.append(posed_pivot - (R @ pivot[..., None])[..., 0])
        return torch.stack(world_R, -3), torch.stack(world_t, -2)


def skin_torch(rest: Tensor, weights: Tensor, R: Tensor, t: Tensor, lid_basis: Tensor, lids: Tensor) -> Tensor:
    """Linear blend skinning, then the lids, on any device and in batches.

    Args:
        rest: (..., V, 3) metres.
        weights: (V, J).
        R: (..., J, 3, 3) of each joint, applied to unposed points.
        t: (..., J, 3) metres.
        lid_basis: (V, 3, 2) metres.
        lids: (..., 2).

    Returns:
        (..., V, 3) metres.
    """
    blended_R = torch.einsum("vj,...jab->...vab", weights, R)
    blended_t = torch.einsum("vj,...ja->...va", weights, t)
    posed = torch.einsum("...vab,...vb->...va", blended_R, rest) + blended_t
    return posed + torch.einsum("vkl,...l->...vk", lid_basis, lids)


def embed(embedding_faces: Tensor, embedding_bary: Tensor, triangles: Tensor, values: Tensor) -> Tensor:
    """Values at barycentric points.

    Args:
        embedding_faces: (N,) triangle of each point.
        embedding_bary: (N, 3) corner weights.
        triangles: (F, 3) vertex ids.
        values: (V, ...) per-vertex values (positions, basis rows, skinning weights).

    Returns:
        (N, ...) interpolated values.
    """
    if values.dim() == 2 and values.device.type == "cpu" and not values.requires_grad:
        bary = embedding_bary.to(values.dtype)
        arrays = (part.numpy() for part in (values, triangles, embedding_faces, bary))
        return torch.from_numpy(kernels.at_points(*arrays))
    return embed_torch(embedding_faces, embedding_bary, triangles, values)


def embed_torch(embedding_faces: Tensor, embedding_bary: Tensor, triangles: Tensor, values: Tensor) -> Tensor:
    """`embed` on any device, for values of any shape."""
    corners = values[triangles[embedding_faces]]
    weights = embedding_bary.to(values.dtype).reshape(*embedding_bary.shape, *([1] * (values.dim() - 1)))
    return (corners * weights).sum(1)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Area-weighted vertex normals: (V, 3) and (F, 3) to (V, 3), unit length."""
    if vertices.device.type == "cpu" and not vertices.requires_grad:
        return torch.from_numpy(kernels.vertex_normals(vertices.numpy(), triangles.numpy()))
    return vertex_normals_torch(vertices, triangles)


def vertex_normals_torch(vertices: Tensor, triangles: Tensor) -> Tensor:
    """`vertex_normals` on any device."""
    a, b, c = vertices[triangles].unbind(1)
    face_normals = torch.linalg.cross(b - a, c - a, dim=-1)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals.index_add_(0, triangles[:, corner], face_normals)
    return torch.nn.functional.normalize(normals, dim=-1)
