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

from tracker.bundle_equations import BundleEquations, CoupledEquations, FrameRows, SharedBlocks
from tracker.camera import Intrinsics
from tracker.normal_equations import NormalEquations
from tracker.points import PointSet, PointTemplate
from tracker.problem import Bounds
from tracker.residuals.contour import ContourTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import ShapeMotion, along_dolly, linearise_projection, project_state
from tracker.residuals.shared_colours import SharedColours
from tracker.robust import Kernel, cauchy, huber
from tracker.state import FrameState


@dataclass(frozen=True, eq=False)
class OffsetModel:
    """Normal distribution of the landmark offsets in head space.

    Attributes:
        mean_m: (N, 3) metres.
        root_m: (3 N, 3 N) metres, a square root of their covariance: root root^T; None holds them at their mean.
    """

    mean_m: Tensor
    root_m: Tensor | None

    def offsets_m(self, coefficients: Tensor) -> Tensor:
        """(N, 3) standard normal coefficients to (N, 3) metres."""
        if self.root_m is None:
            return self.mean_m
        return self.mean_m + (self.root_m @ coefficients.reshape(-1)).reshape(-1, 3)

    def by_coefficients(self, by_rest: Tensor) -> Tensor:
        """Derivatives (N, D, 3 N) by the coefficients of what has derivatives (N, D, 3) by the points at rest."""
        count = len(by_rest)
        if self.root_m is None:
            return by_rest.new_zeros(count, by_rest.shape[1], 3 * count)
        return by_rest @ self.root_m.reshape(count, 3, -1)


@dataclass(frozen=True, eq=False)
class BundleState:
    """All unknowns of the joint solve, float64.

    Attributes:
        shape: (S,) identity in standard deviations.
        intrinsics: camera of the crop, pixels.
        offsets: (N, 3) standard normal coefficients of the landmark offsets, see `OffsetModel`.
        frames: the frames' own unknowns.
    """

    shape: Tensor
    intrinsics: Intrinsics
    offsets: Tensor
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
class SharedPrior:
    """Normal distribution of the shared unknowns.

    Attributes:
        shape: (S,) mean identity (zero, or MICA's code).
        shape_std: (S,) standard deviations; 0 holds a coefficient.
        log_focal: middle of the log focal length, log pixels of the crop.
        log_focal_std: its standard deviation near the middle; 0 holds it. Lenses far from the usual exist, so the tails
            are those of `tracker.robust.cauchy`.
        centre_px: (cx, cy) mean principal point, pixels of the crop.
        centre_std_px: its standard deviation; 0 holds it.
        offsets: of the landmark offsets.
        directions: (K, S) changes by each coefficient that no picture shows: of the head's size, of its turn. One
            camera cannot tell a small head nearby from a large one far away, yet offsets and expressions in metres
            make a smaller head cheaper.
        direction_std: (K,) their spreads around the mean identity.
    """

    shape: Tensor
    shape_std: Tensor
    log_focal: float
    log_focal_std: float
    centre_px: tuple[float, float]
    centre_std_px: float
    offsets: OffsetModel
    directions: Tensor
    direction_std: Tensor

    def cost(self, state: BundleState) -> float:
        """Half the sum of squares, the focal length's robust."""
        deviation, inverse_std = self._common(state)
        squared, at = (deviation * inverse_std).square(), len(state.shape)
        squared[at] = cauchy(squared[at])[0]
        unseen = self.directions @ (state.shape - self.shape) / self.direction_std
        return 0.5 * float(squared.sum() + unseen.square().sum() + state.offsets.square().sum())

    def blocks(self, state: BundleState) -> SharedBlocks:
        """Normal equations of the prior; an inverse standard deviation of 0 means held."""
        deviation, inverse_std = self._common(state)
        common, total, count = len(deviation), len(deviation) + state.offsets.numel(), len(state.shape)
        H, g = torch.zeros(total, total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
        free = torch.zeros(total, dtype=torch.bool)
        free[common:] = self.offsets.root_m is not None
        weight = inverse_std**2
        weight[count] = self.focal_weight(state)
        H.diagonal()[:common] = weight
        g[:common], free[:common] = deviation * weight, inverse_std > 0
        rows = self.directions / self.direction_std[:, None]
        H[:count, :count] += rows.T @ rows
        g[:count] += rows.T @ (rows @ (state.shape - self.shape))
        H.diagonal()[common:] = 1
        g[common:] = state.offsets.reshape(-1)
        return SharedBlocks(H, g, self.cost(state), free, common)

    def focal_weight(self, state: BundleState) -> float:
        """Weight of the log focal length's prior, an inverse variance that falls in the tails; 0 where it is held."""
        deviation, inverse_std = self._common(state)
        at = len(state.shape)
        return float(inverse_std[at] ** 2 * cauchy((deviation[at] * inverse_std[at]).square())[1])

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
        colours: the pictures at the photometric samples, or None.
        contours: outline of each frame, or none at all.
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
    colours: SharedColours | None = None
    contours: tuple[ContourTerm, ...] = ()
    kernel: Kernel = huber

    def points(self, state: BundleState) -> PointSet:
        """Landmark points of the subject."""
        return self.template.with_shape(state.shape).moved(self.shared.offsets.offsets_m(state.offsets))

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
        for contour, frame in zip(self.contours, state.frames, strict=bool(self.contours)):
            cost += contour.cost(state.shape, frame, state.intrinsics)
        if self.colours is not None:
            cost += self.colours.cost(state.shape, state.frames, state.intrinsics)
        return cost

    def linearise(self, state: BundleState) -> BundleEquations:
        """Block normal equations; with colours, those that are left once the appearance is eliminated."""
        points = self.points(state)
        shared = self.shared.blocks(state)
        frames = []
        for place, (frame, seen) in enumerate(zip(state.frames, self.observations, strict=True)):
            own = NormalEquations.zero(self.scale)
            self.gaussian.add_to(own, frame)
            self.gaze.add_to(own, frame)
            coupling = torch.zeros(len(own.g), len(shared.g), dtype=torch.float64)
            rows = FrameRows(own, coupling, shared)
            self._add_landmarks(rows, points, (frame, state.intrinsics), seen)
            if self.contours:
                self.contours[place].add_to(rows, state.shape, frame, state.intrinsics)
            own.lowest, own.highest = self.bounds.room(frame)
            frames.append((own, coupling))
        between = None
        if self.colours is not None:
            blocks = [FrameRows(own, coupling, shared) for own, coupling in frames]
            between = self.colours.add_to(blocks, state.shape, state.frames, state.intrinsics)
        for frame, (own, _) in zip(state.frames, frames, strict=True):
            own.frozen = self.held | self.bounds.active(frame, own.g)
        if between is None:
            return BundleEquations(shared, tuple(frames))
        return CoupledEquations(shared, tuple(frames), between)

    def _add_landmarks(
        self, rows: FrameRows, points: PointSet, view: tuple[FrameState, Intrinsics], seen: Observation
    ) -> None:
        frame, intrinsics = view
        motion = ShapeMotion(self.template.shape_basis, self.template.pivot_basis)
        projected = linearise_projection(points, frame, intrinsics, motion)
        by_offset = self.shared.offsets.by_coefficients(projected.by_rest)
        jacobian = torch.cat([along_dolly(projected.jacobian, frame), by_offset], 2)
        error = projected.pixels - seen.targets_px
        a, b = seen.pairs[:, 0], seen.pairs[:, 1]
        for residual, by_all, sigma, confidence in (
            (error, jacobian, seen.sigma_px, seen.confidence),
            (error[a] - error[b], jacobian[a] - jacobian[b], seen.pair_sigma_px, seen.pair_confidence),
        ):
            rho, weight = self.kernel((residual / sigma).square().sum(1))
            root = (weight * confidence).sqrt()[:, None] / sigma
            whitened = (by_all * root[..., None]).flatten(0, 1)
            gradient = whitened.T @ (residual * root).reshape(-1)
            rows.add(whitened, gradient, 0.5 * float((rho * confidence).sum()))

    def retract(self, state: BundleState, step: Tensor) -> BundleState:
        """The state after a step `[shared, frame 0, frame 1, ...]`; the head moves away as the focal length grows."""
        shape_count, size = len(state.shape), len(self.scale)
        camera = step[shape_count : shape_count + 3]
        shared_size = shape_count + 3 + state.offsets.numel()
        focal = state.intrinsics.focal_px * float(camera[0].clamp(-0.3, 0.3).exp())
        intrinsics = Intrinsics(
            focal, state.intrinsics.cx_px + float(camera[1]), state.intrinsics.cy_px + float(camera[2])
        )
        dolly = torch.tensor([1.0, 1.0, focal / state.intrinsics.focal_px], dtype=torch.float64)
        frames = tuple(
            self.bounds.clamp(
                replace(frame, t=frame.t * dolly).retract(step[shared_size + i * size : shared_size + (i + 1) * size])
            )
            for i, frame in enumerate(state.frames)
        )
        offsets = state.offsets + step[shape_count + 3 : shared_size].reshape(-1, 3)
        return replace(
            state, shape=state.shape + step[:shape_count], intrinsics=intrinsics, offsets=offsets, frames=frames
        )
