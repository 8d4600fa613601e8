"""What is fixed for a calibrated clip, copied to a device once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.batched.minimise import Fixed
from tracker.batched.pictures import window_on
from tracker.batched.points import BatchPoints
from tracker.batched.state import BatchState
from tracker.batched.surface import BatchSurface, SurfacePoints
from tracker.clip import ClipModel
from tracker.frame_solver import FrameSolver, sample_stride
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.samples import SurfaceSamples


@dataclass(frozen=True, eq=False)
class BatchSamples:
    """The M' of the clip's M seen samples that a pyramid level takes.

    Attributes:
        points: where they are.
        contrast: (M', 3).
        ids: (M',) places among the M.
        response: theirs as `LightResponse.of` gives it; None under steady light.
    """

    points: BatchPoints
    contrast: Tensor
    ids: Tensor
    response: tuple[Tensor, Tensor, Tensor] | None


@dataclass(frozen=True, eq=False)
class BatchClip:
    """The clip on a device, float32.

    Attributes:
        clip: as it was calibrated, on the CPU.
        fixed: priors, bounds, camera.
        surface: the subject's head.
        landmarks: N landmark points.
        landmark_surface: where they lie.
        landmark_rest: (N, 3) the same points of the mean head, metres, by which facing is judged.
        pairs: (K, 2) closure pairs.
        samples: M surface samples, those that the calibration saw.
        sample_surface: where they lie.
        levels: samples of each pyramid level, see `FrameSolver.thinned_term`.
        albedo: (M, 3).
        window: places of the local mean.
    """

    clip: ClipModel
    fixed: Fixed
    surface: BatchSurface
    landmarks: BatchPoints
    landmark_surface: SurfacePoints
    landmark_rest: Tensor
    pairs: Tensor
    samples: BatchPoints
    sample_surface: SurfacePoints
    levels: tuple[BatchSamples, ...]
    albedo: Tensor
    window: Tensor

    @classmethod
    def of(cls, solver: FrameSolver, device: torch.device | str) -> "BatchClip":
        """Copies what a solver holds."""
        clip = solver.clip
        surface = BatchSurface.of(clip.model, clip.shape, device)
        seen = (clip.seen > 0).nonzero()[:, 0]
        where = clip.samples.surface
        template = clip.landmarks.template
        on_head = SurfaceSamples(template.faces, template.bary)

        def level(index: int) -> BatchSamples:
            ids = (seen % sample_stride(index) == 0).nonzero()[:, 0]
            taken = seen[ids]
            points = BatchPoints.of(clip.sample_points.subset(taken), device)
            response = None
            if clip.response is not None:
                albedo, own, around = clip.response.of(index, taken)
                response = albedo.to(device), own.to(device), around.to(device)
            return BatchSamples(points, clip.contrast[index, taken].to(device), ids.to(device), response)

        return cls(
            clip=clip,
            fixed=_fixed(solver, device),
            surface=surface,
            landmarks=BatchPoints.of(clip.landmark_points, device),
            landmark_surface=SurfacePoints.of(surface.model, on_head),
            landmark_rest=template.points.rest.float().to(device),
            pairs=clip.landmarks.pairs.to(device),
            samples=BatchPoints.of(clip.sample_points.subset(seen), device),
            sample_surface=SurfacePoints.of(surface.model, SurfaceSamples(where.faces[seen], where.bary[seen])),
            levels=tuple(level(index) for index in range(len(clip.contrast))),
            albedo=clip.albedo[seen].to(device),
            window=window_on(device),
        )

    def facing(self, state: BatchState) -> Tensor:
        """(B, N) how much each landmark's surface turns to the camera, see `tracker.clip.landmark_facing`."""
        faces = self.surface.face_normals(self.surface.vertices(state))
        normals = self.landmark_surface.normals(faces) @ state.R.mT
        position = self.landmark_rest @ state.R.mT + state.t[:, None]
        cosine = -(normals * torch.nn.functional.normalize(position, dim=-1)).sum(-1)
        return (cosine / 0.5).clamp(0.1, 1.0)


def _fixed(solver: FrameSolver, device: torch.device | str) -> Fixed:
    prior = solver.prior
    rows, gaze = GazeSymmetryTerm(), torch.zeros(4, 4)
    for angle, std in enumerate((rows.yaw_std, rows.pitch_std)):
        both = [angle, 2 + angle]
        gaze[both, both] = 1 / std**2
        gaze[both, both[::-1]] = -1 / std**2
    return Fixed(
        lens=solver.clip.intrinsics,
        prior=BatchState.of([prior.target], device),
        prior_inverse_std=prior.inverse_std.float().to(device),
        temporal_inverse_std=solver.change_inverse_std.float().to(device),
        gaze=gaze.to(device),
        limits=torch.from_numpy(solver.bounds.limits).float().to(device),
        scale=solver.scale.float().to(device),
        held=solver.held.to(device),
    )
