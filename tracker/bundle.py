"""Joint solve of a clip's shared unknowns over several frames, per-frame unknowns eliminated by Schur complement.

Shared: identity, log focal length, principal point, and one constant 3-D offset a landmark in head space. The offsets
are there because a detector's point and the model's point of the same name differ by millimetres, and a fit that
ignores this pays with identity and focal length (docs/solver.md). Source of the elimination: Triggs et al., Bundle
Adjustment: A Modern Synthesis, 1999, section 6.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.bundle_equations import BundleEquations, FrameRows, SharedBlocks
from tracker.camera import Intrinsics
from tracker.image import ImageLevel
from tracker.normal_equations import NormalEquations
from tracker.points import PointSet, PointTemplate
from tracker.problem import Bounds
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import ShapeMotion, linearise_projection, project_state
from tracker.robust import Kernel, huber
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class BundleState:
    """All unknowns of the joint solve, float64.

    Attributes:
        shape: (S,) identity in standard deviations.
        intrinsics: camera of the crop, pixels.
        offsets_m: (N, 3) landmark offsets at rest, metres.
        frames: the frames' own unknowns.
    """

    shape: Tensor
    intrinsics: Intrinsics
    offsets_m: Tensor
    frames: tuple[FrameState, ...]


@dataclass(frozen=True, eq=False)
class Observation:
    """Detected landmarks of one frame.

    Attributes:
        targets_px: (N, 2).
        sigma_px: standard deviation of a point.
        confidence: (N,).
        pairs: (K, 2) closure pairs, ids into the points.
        pair_sigma_px: standard deviation of a pair's vector.
        pair_confidence: (K,).
    """

    targets_px: Tensor
    sigma_px: float
    confidence: Tensor
    pairs: Tensor
    pair_sigma_px: float
    pair_confidence: Tensor


@dataclass(frozen=True, eq=False)
class ColourObservation:
    """Colours of one frame at surface samples; see `PhotometricTerm` for the fields.

    Attributes:
        keep: (M,) ids of the visible samples.
        normals: (M, 3) head space, held during a solve.
        albedo: (M, 3).
        level: the picture.
        sigma: standard deviation of a colour residual.
        confidence: (M,).
    """

    keep: Tensor
    normals: Tensor
    albedo: Tensor
    level: ImageLevel
    sigma: float
    confidence: Tensor

    def term(self, samples: PointSet) -> PhotometricTerm:
        """The residual for samples (of all ids) of the current identity."""
        points = samples.subset(self.keep)
        return PhotometricTerm(points, self.normals, self.albedo, self.level, self.sigma, self.confidence)


@dataclass(frozen=True, eq=False)
class SharedPrior:
    """Normal distribution of the shared unknowns.

    Attributes:
        shape: (S,) mean identity (zero, or MICA's code).
        shape_std: (S,) standard deviations; 0 holds a coefficient.
        log_focal: mean of the log focal length, log pixels of the crop.
        log_focal_std: its standard deviation; 0 holds it.
        centre_px: (cx, cy) mean principal point, pixels of the crop.
        centre_std_px: its standard deviation; 0 holds it.
        offsets_m: (N, 3) mean landmark offsets.
        offset_precision: (N, N) inverse covariance of the offsets, 1 / m^2, the same in every direction; or None, which
            holds them.
        size_direction: (S,) relative change of the head's size by each coefficient.
        size_std: spread of the size around that of the mean identity. One camera cannot tell a small head nearby from
            a large one far away, yet offsets and expressions in metres make a smaller head cheaper; so it is tight.
    """

    shape: Tensor
    shape_std: Tensor
    log_focal: float
    log_focal_std: float
    centre_px: tuple[float, float]
    centre_std_px: float
    offsets_m: Tensor
    offset_precision: Tensor | None
    size_direction: Tensor
    size_std: float

    def cost(self, state: BundleState) -> float:
        """Half the sum of squares."""
        deviation, inverse_std = self._common(state)
        size = float(self.size_direction @ (state.shape - self.shape)) / self.size_std
        cost = float((deviation * inverse_std).square().sum()) + size**2
        if self.offset_precision is not None:
            offsets = state.offsets_m - self.offsets_m
            cost += float((offsets * (self.offset_precision @ offsets)).sum())
        return 0.5 * cost

    def blocks(self, state: BundleState) -> SharedBlocks:
        """Normal equations of the prior; an inverse standard deviation of 0 means held."""
        deviation, inverse_std = self._common(state)
        common, total, count = len(deviation), len(deviation) + state.offsets_m.numel(), len(state.shape)
        H, g = torch.zeros(total, total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
        free = torch.zeros(total, dtype=torch.bool)
        H.diagonal()[:common] = inverse_std**2
        g[:common], free[:common] = deviation * inverse_std**2, inverse_std > 0
        row = self.size_direction / self.size_std
        H[:count, :count] += torch.outer(row, row)
        g[:count] += row * (row @ (state.shape - self.shape))
        if self.offset_precision is not None:
            H[common:, common:] = torch.kron(self.offset_precision, torch.eye(3, dtype=torch.float64))
            g[common:] = (self.offset_precision @ (state.offsets_m - self.offsets_m)).reshape(-1)
            free[common:] = True
        return SharedBlocks(H, g, self.cost(state), free, common)

    def _common(self, state: BundleState) -> tuple[Tensor, Tensor]:
        """Deviation of `[shape, log focal, cx, cy]` and its inverse standard deviation, 0 where the unknown is held."""
        camera = state.intrinsics
        moved = [math.log(camera.focal_px) - self.log_focal]
        moved += [camera.cx_px - self.centre_px[0], camera.cy_px - self.centre_px[1]]
        deviation = torch.cat([state.shape - self.shape, torch.tensor(moved, dtype=torch.float64)])
        camera_std = torch.tensor([self.log_focal_std, self.centre_std_px, self.centre_std_px], dtype=torch.float64)
        std = torch.cat([self.shape_std, camera_std])
        return deviation, torch.where(std > 0, 1 / std.clamp_min(1e-12), torch.zeros_like(std))


@dataclass(frozen=True, eq=False)
class BundleProblem:
    """The joint energy, for `tracker.solver.minimise`.

    Attributes:
        template: landmark points before identity.
        observations: one a frame.
        shared: prior of the shared unknowns.
        gaussian: prior of a frame's unknowns.
        gaze: symmetry of gaze.
        bounds: box limits of a frame's unknowns.
        held: (P,) frame unknowns that are not solved for.
        scale: (P,) standard deviations of a frame's unknowns.
        samples: photometric samples before identity, or None.
        colours: one a frame, or empty.
        kernel: robust kernel of the reprojection.
    """

    template: PointTemplate
    observations: tuple[Observation, ...]
    shared: SharedPrior
    gaussian: GaussianTerm
    gaze: GazeSymmetryTerm
    bounds: Bounds
    held: Tensor
    scale: Tensor
    samples: PointTemplate | None = None
    colours: tuple[ColourObservation, ...] = ()
    kernel: Kernel = huber

    def points(self, state: BundleState) -> PointSet:
        """Landmark points of the subject."""
        return self.template.with_shape(state.shape).moved(state.offsets_m)

    def cost(self, state: BundleState) -> float:
        """Robust cost."""
        points = self.points(state)
        cost = self.shared.cost(state)
        for frame, seen in zip(state.frames, self.observations, strict=True):
            error = project_state(points, frame, state.intrinsics) - seen.targets_px
            closure = error[seen.pairs[:, 0]] - error[seen.pairs[:, 1]]
            for residual, sigma, confidence in (
                (error, seen.sigma_px, seen.confidence),
                (closure, seen.pair_sigma_px, seen.pair_confidence),
            ):
                rho = self.kernel((residual / sigma).square().sum(1))[0]
                cost += 0.5 * float((rho * confidence).sum())
            cost += self.gaussian.cost(frame) + self.gaze.cost(frame)
        if self.samples is not None:
            surface = self.samples.with_shape(state.shape)
            for frame, colours in zip(state.frames, self.colours, strict=True):
                cost += colours.term(surface).cost(frame, state.intrinsics)
        return cost

    def linearise(self, state: BundleState) -> BundleEquations:
        """Block normal equations."""
        points = self.points(state)
        shared = self.shared.blocks(state)
        frames = []
        surface = None if self.samples is None else self.samples.with_shape(state.shape)
        for k, (frame, seen) in enumerate(zip(state.frames, self.observations, strict=True)):
            own = NormalEquations.zero(self.scale)
            self.gaussian.add_to(own, frame)
            self.gaze.add_to(own, frame)
            coupling = torch.zeros(len(own.g), len(shared.g), dtype=torch.float64)
            rows = FrameRows(own, coupling, shared)
            self._add_landmarks(rows, points, (frame, state.intrinsics), seen)
            if surface is not None:
                self._add_colours(rows, surface, (frame, state.intrinsics), self.colours[k])
            own.frozen = self.held | self.bounds.active(frame, own.g)
            frames.append((own, coupling))
        return BundleEquations(shared, tuple(frames))

    def _add_landmarks(
        self, rows: FrameRows, points: PointSet, view: tuple[FrameState, Intrinsics], seen: Observation
    ) -> None:
        frame, intrinsics = view
        motion = ShapeMotion(self.template.shape_basis, self.template.pivot_basis)
        projected = linearise_projection(points, frame, intrinsics, motion)
        size, count = len(self.scale), len(points)
        by_frame, by_common, by_offset = (
            projected.jacobian[..., :size],
            projected.jacobian[..., size:],
            projected.by_rest,
        )
        error = projected.pixels - seen.targets_px
        everyone = torch.arange(count)
        rho, weight = self.kernel((error / seen.sigma_px).square().sum(1))
        weight = weight * seen.confidence / seen.sigma_px**2
        rows.add(error, by_frame, by_common, [(everyone, by_offset)], weight)
        rows.own.cost += 0.5 * float((rho * seen.confidence).sum())
        a, b = seen.pairs[:, 0], seen.pairs[:, 1]
        closure = error[a] - error[b]
        rho, weight = self.kernel((closure / seen.pair_sigma_px).square().sum(1))
        weight = weight * seen.pair_confidence / seen.pair_sigma_px**2
        jacobian, common = by_frame[a] - by_frame[b], by_common[a] - by_common[b]
        rows.add(closure, jacobian, common, [(a, by_offset[a]), (b, -by_offset[b])], weight)
        rows.own.cost += 0.5 * float((rho * seen.pair_confidence).sum())

    def _add_colours(
        self, rows: FrameRows, surface: PointSet, view: tuple[FrameState, Intrinsics], seen: ColourObservation
    ) -> None:
        frame, intrinsics = view
        samples = self.samples
        assert samples is not None
        motion = ShapeMotion(samples.shape_basis[seen.keep], samples.pivot_basis)
        rows.add_rows(*seen.term(surface).rows(frame, intrinsics, motion))

    def retract(self, state: BundleState, step: Tensor) -> BundleState:
        """The state after a step `[shared, frame 0, frame 1, ...]`."""
        shape_count, size = len(state.shape), len(self.scale)
        camera = step[shape_count : shape_count + 3]
        shared_size = shape_count + 3 + state.offsets_m.numel()
        focal = state.intrinsics.focal_px * float(camera[0].clamp(-0.3, 0.3).exp())
        intrinsics = Intrinsics(
            focal, state.intrinsics.cx_px + float(camera[1]), state.intrinsics.cy_px + float(camera[2])
        )
        frames = tuple(
            self.bounds.clamp(frame.retract(step[shared_size + i * size : shared_size + (i + 1) * size]))
            for i, frame in enumerate(state.frames)
        )
        offsets = state.offsets_m + step[shape_count + 3 : shared_size].reshape(-1, 3)
        return replace(
            state, shape=state.shape + step[:shape_count], intrinsics=intrinsics, offsets_m=offsets, frames=frames
        )
