"""The whole head of B frames: vertices, normals at chosen points, and which of them the camera sees.

Batched twin of `tracker.surface`, with the same numbers.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.batched.depth import depth_buffers
from tracker.batched.state import BatchState
from tracker.camera import Intrinsics
from tracker.head.model import HeadModel, HeadParams
from tracker.rasterizer import VISIBILITY_TOLERANCE_M
from tracker.samples import SurfaceSamples
from tracker.state import eye_rotations
from tracker.surface import MIN_COSINE, VISIBILITY_SIZE


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """N barycentric points whose normals are asked for.

    Attributes:
        corners: (N, 3) vertices of their triangles, counted among those of `fans`.
        vertices: (N, 3) the same, counted in the mesh.
        bary: (N, 3).
        fans: (U, K) triangles around each vertex that is a corner; the mesh's count stands for none.
    """

    corners: Tensor
    vertices: Tensor
    bary: Tensor
    fans: Tensor

    @classmethod
    def of(cls, model: HeadModel, points: SurfaceSamples) -> "SurfacePoints":
        """Looks up corners and fans on the model's device."""
        device = model.triangles.device
        vertices = model.triangles[points.faces.to(device)]
        used, corners = vertices.unique(return_inverse=True)
        owners = model.triangles.flatten()
        order = owners.argsort(stable=True)
        counts = owners.bincount(minlength=model.vertex_count)
        starts = counts.cumsum(0) - counts
        rank = torch.arange(int(counts[used].max()), device=device)
        places = (starts[used, None] + rank).clamp_max(len(order) - 1)
        fans = torch.where(rank < counts[used, None], order[places] // 3, len(model.triangles))
        return cls(corners, vertices, points.bary.float().to(device), fans)

    def at(self, values: Tensor) -> Tensor:
        """Values (B, V, C) of the vertices at the points, (B, N, C)."""
        return (values[:, self.vertices] * self.bary[..., None]).sum(2)

    def normals(self, face_normals: Tensor) -> Tensor:
        """Unit normals (B, N, 3) from those of the faces (B, F + 1, 3), the last of which is zero.

        Sums over fans instead of scattered ones: their order, and so their rounding, is the same in every run.
        """
        of_vertices = torch.nn.functional.normalize(face_normals[:, self.fans].sum(2), dim=-1)
        return torch.nn.functional.normalize((of_vertices[:, self.corners] * self.bary[..., None]).sum(2), dim=-1)


@dataclass(frozen=True, eq=False)
class BatchSurface:
    """The head of one subject.

    Attributes:
        model: on the device, the identity in its template, no identity modes left.
    """

    model: HeadModel

    @classmethod
    def of(cls, model: HeadModel, shape: Tensor, device: torch.device | str) -> "BatchSurface":
        """Puts (S,) shape coefficients into the template."""
        shaped = replace(model, template=model.rest_vertices(shape.float()))
        return cls(shaped.with_modes(0, model.expression_count).to(device))

    def vertices(self, state: BatchState) -> Tensor:
        """(B, V, 3) metres, head space."""
        none = state.expression[:, :0]
        params = HeadParams(none, state.expression, state.jaw, eye_rotations(state.eyes), state.eyelids)
        return self.model.vertices(params)

    def face_normals(self, vertices: Tensor) -> Tensor:
        """(B, F + 1, 3) normals of the triangles, as long as twice their area; then one of zero."""
        a, b, c = vertices[:, self.model.triangles].unbind(2)
        normals = torch.linalg.cross(b - a, c - a, dim=-1)
        return torch.nn.functional.pad(normals, (0, 0, 0, 1))


@dataclass(frozen=True, eq=False)
class Seen:
    """What the camera sees of M surface points in B frames.

    Attributes:
        mask: (B, M) bool.
        cosine: (B, M) of the angle to the line of sight.
        normals: (B, M, 3) head space.
        points_cam_m: (B, M, 3) camera frame.
    """

    mask: Tensor
    cosine: Tensor
    normals: Tensor
    points_cam_m: Tensor

    def subset(self, ids: Tensor) -> "Seen":
        """The points with the given ids."""
        return Seen(*(part[:, ids] for part in (self.mask, self.cosine, self.normals, self.points_cam_m)))

    def where(self, frames: Tensor, other: "Seen") -> "Seen":
        """This one for the frames of a (B,) mask, the other one for the rest."""

        def chosen(name: str) -> Tensor:
            mine, theirs = getattr(self, name), getattr(other, name)
            return torch.where(frames.reshape(-1, *([1] * (mine.dim() - 1))), mine, theirs)

        return Seen(*(chosen(name) for name in ("mask", "cosine", "normals", "points_cam_m")))


def visible(
    surface: BatchSurface, points: SurfacePoints, state: BatchState, intrinsics: Intrinsics, size: tuple[int, int]
) -> Seen:
    """Which surface points the camera sees, by a low depth buffer; see `tracker.surface.sample_visibility`."""
    vertices = surface.vertices(state)
    vertices_cam = vertices @ state.R.mT + state.t[:, None]
    factor = VISIBILITY_SIZE / max(size)
    lens, (height, width) = intrinsics.scaled(factor), (max(1, round(side * factor)) for side in size)
    buffers = depth_buffers(vertices_cam, surface.model.triangles, lens, (height, width))
    normals, cam = points.normals(surface.face_normals(vertices)), points.at(vertices_cam)
    cosine = -((normals @ state.R.mT) * torch.nn.functional.normalize(cam, dim=-1)).sum(-1)
    x, y, z = cam.unbind(-1)
    u, v = (lens.focal_px * x / z + lens.cx_px).floor(), (lens.focal_px * y / z + lens.cy_px).floor()
    inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    place = torch.where(inside, v * width + u, 0).long()
    depth = buffers.flatten(1).gather(1, place)
    mask = inside & (cosine >= MIN_COSINE) & (depth < torch.inf) & (z <= depth + VISIBILITY_TOLERANCE_M)
    return Seen(mask, cosine, normals, cam)
