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

from tracker.camera import Intrinsics
from tracker.image import ImageLevel
from tracker.normal_equations import NormalEquations
from tracker.points import PointSet, PointTemplate
from tracker.problem import Bounds
from tracker.residuals.photometric import PhotometricTerm
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.residuals.projection import linearise_projection, pixels_by_camera, project_state
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

    def blocks(self, state: BundleState) -> "SharedBlocks":
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

    def linearise(self, state: BundleState) -> "BundleEquations":
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
            rows = _FrameRows(own, coupling, shared)
            self._add_landmarks(rows, points, (frame, state.intrinsics), seen)
            if surface is not None:
                self._add_colours(rows, surface, (frame, state.intrinsics), self.colours[k])
            own.frozen = self.held | self.bounds.active(frame, own.g)
            frames.append((own, coupling))
        return BundleEquations(shared, tuple(frames))

    def _add_landmarks(
        self, rows: "_FrameRows", points: PointSet, view: tuple[FrameState, Intrinsics], seen: Observation
    ) -> None:
        frame, intrinsics = view
        projected = linearise_projection(points, frame, intrinsics)
        count, shape_count = len(points), self.template.shape_basis.shape[2]
        identity = torch.eye(3, dtype=torch.float64).expand(count, 3, 3)
        basis = torch.cat([self.template.shape_basis, identity], 2)
        pivots = torch.cat([self.template.pivot_basis, torch.zeros(3, 3, 3, dtype=torch.float64)], 2)
        by_rest = projected.by_point @ points.shape_jacobian(frame, basis, pivots)
        by_common = torch.cat([by_rest[..., :shape_count], pixels_by_camera(projected.pixels, intrinsics)], 2)
        by_offset = by_rest[..., shape_count:]
        error = projected.pixels - seen.targets_px
        everyone = torch.arange(count)
        rho, weight = self.kernel((error / seen.sigma_px).square().sum(1))
        weight = weight * seen.confidence / seen.sigma_px**2
        rows.add(error, projected.jacobian, by_common, [(everyone, by_offset)], weight)
        rows.own.cost += 0.5 * float((rho * seen.confidence).sum())
        a, b = seen.pairs[:, 0], seen.pairs[:, 1]
        closure = error[a] - error[b]
        rho, weight = self.kernel((closure / seen.pair_sigma_px).square().sum(1))
        weight = weight * seen.pair_confidence / seen.pair_sigma_px**2
        jacobian, common = projected.jacobian[a] - projected.jacobian[b], by_common[a] - by_common[b]
        rows.add(closure, jacobian, common, [(a, by_offset[a]), (b, -by_offset[b])], weight)
        rows.own.cost += 0.5 * float((rho * seen.pair_confidence).sum())

    def _add_colours(
        self, rows: "_FrameRows", surface: PointSet, view: tuple[FrameState, Intrinsics], seen: ColourObservation
    ) -> None:
        frame, intrinsics = view
        samples = self.samples
        assert samples is not None
        term = seen.term(surface)
        linear = term.linearise(frame, intrinsics)
        basis = samples.shape_basis[seen.keep]
        by_shape = linear.projected.by_point @ term.points.shape_jacobian(frame, basis, samples.pivot_basis)
        # The principal point counts full pixels; the level's are smaller in number.
        by_camera = pixels_by_camera(linear.projected.pixels, intrinsics.scaled(seen.level.scale))
        by_camera[..., 1:] *= seen.level.scale
        by_common = linear.gradient @ torch.cat([by_shape, by_camera], 2)
        rho, weight = term.robust_scale(linear.residual)
        rows.add(linear.residual, linear.jacobian, by_common, [], weight * term.inverse_variance)
        rows.own.cost += 0.5 * float(rho.sum())

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


@dataclass(eq=False)
class SharedBlocks:
    """Normal equations of the shared unknowns, `[shape, log focal, cx, cy, offsets]`.

    Attributes:
        H: (C, C).
        g: (C,).
        cost: half the sum of squares of the prior.
        free: (C,) unknowns that are solved for.
        common: number of unknowns before the offsets.
    """

    H: Tensor
    g: Tensor
    cost: float
    free: Tensor
    common: int


@dataclass(eq=False)
class _FrameRows:
    """Accumulates one frame's residual rows into its own, the shared, and the coupling blocks."""

    own: NormalEquations
    coupling: Tensor
    shared: SharedBlocks

    def add(
        self,
        residual: Tensor,
        by_frame: Tensor,
        by_common: Tensor,
        by_offsets: list[tuple[Tensor, Tensor]],
        weight: Tensor,
    ) -> None:
        """Adds M rows of D.

        Args:
            residual: (M, D) unwhitened.
            by_frame: (M, D, P).
            by_common: (M, D, S + 3).
            by_offsets: landmark ids (M,) and (M, D, 3) derivatives; two entries for a pair, none for colours.
            weight: (M,) inverse variance times robust weight.
        """
        own, shared, common = self.own, self.shared, self.shared.common
        # Colours come in float32; a thousand rows of them summed so would leave the matrix indefinite.
        residual, by_frame, by_common, weight = (x.double() for x in (residual, by_frame, by_common, weight))
        weighted_frame = by_frame * weight[:, None, None]
        flat_frame = weighted_frame.flatten(0, 1).T
        flat_common = (by_common * weight[:, None, None]).flatten(0, 1).T
        own.H += flat_frame @ by_frame.flatten(0, 1)
        own.g += flat_frame @ residual.reshape(-1)
        self.coupling[:, :common] += flat_frame @ by_common.flatten(0, 1)
        shared.H[:common, :common] += flat_common @ by_common.flatten(0, 1)
        shared.g[:common] += flat_common @ residual.reshape(-1)
        for ids, rows in by_offsets:
            columns = (common + 3 * ids[:, None] + torch.arange(3)).reshape(-1)
            weighted = rows * weight[:, None, None]
            shared.g.index_add_(0, columns, torch.einsum("mdk,md->mk", weighted, residual).reshape(-1))
            to_frame = torch.einsum("mdp,mdk->pmk", weighted_frame, rows).reshape(len(own.g), -1)
            self.coupling.index_add_(1, columns, to_frame)
            to_common = torch.einsum("mdk,mdq->mkq", weighted, by_common).reshape(-1, common)
            shared.H[:, :common].index_add_(0, columns, to_common)
            shared.H[:common].index_add_(1, columns, to_common.T)
            for other_ids, other_rows in by_offsets:
                block = torch.einsum("mdj,mdk->mjk", weighted, other_rows)
                first = (common + 3 * ids[:, None, None] + torch.arange(3)[None, :, None]).expand_as(block)
                second = (common + 3 * other_ids[:, None, None] + torch.arange(3)[None, None, :]).expand_as(block)
                shared.H.index_put_((first.reshape(-1), second.reshape(-1)), block.reshape(-1), accumulate=True)


@dataclass(eq=False)
class BundleEquations:
    """Arrow-shaped normal equations: dense shared block, one block a frame, couplings.

    Attributes:
        shared: shared blocks.
        frames: own equations and (P, C) coupling of each frame.
    """

    shared: SharedBlocks
    frames: tuple[tuple[NormalEquations, Tensor], ...]

    @property
    def cost(self) -> float:
        """Robust cost at the point of linearisation."""
        return self.shared.cost + sum(own.cost for own, _ in self.frames)

    def step(self, damping: float) -> Tensor | None:
        """Minimiser of the damped model, `[shared, frame 0, ...]`; None where a block is not positive definite."""
        reduced = self.reduced(damping)
        if reduced is None:
            return None
        S, right, eliminated = reduced
        free = self.shared.free
        shared_step = torch.zeros_like(self.shared.g)
        if bool(free.any()):
            factor, info = torch.linalg.cholesky_ex(S[free][:, free])
            if int(info) != 0:
                return None
            shared_step[free] = -torch.cholesky_solve(right[free][:, None], factor)[:, 0]
        parts = [shared_step]
        for (own, coupling), factor in zip(self.frames, eliminated, strict=True):
            frame_step = torch.zeros_like(own.g)
            open_ = ~own.frozen
            rhs = own.g[open_] + coupling[open_] @ shared_step
            frame_step[open_] = -torch.cholesky_solve(rhs[:, None], factor)[:, 0]
            parts.append(frame_step)
        return torch.cat(parts)

    def reduced(self, damping: float) -> tuple[Tensor, Tensor, list[Tensor]] | None:
        """Schur complement (C, C) of the shared unknowns, its right side, and each frame's Cholesky factor."""
        S = self.shared.H + torch.diag(damping * self.shared.H.diagonal())
        right = self.shared.g.clone()
        factors, halves = [], []
        for own, coupling in self.frames:
            open_ = ~own.frozen
            H = own.H[open_][:, open_]
            H = H + torch.diag(damping * (H.diagonal() + 1 / own.scale[open_] ** 2))
            factor, info = torch.linalg.cholesky_ex(H)
            if int(info) != 0:
                return None
            both = torch.cat([coupling[open_], own.g[open_][:, None]], 1)
            halves.append(torch.linalg.solve_triangular(factor, both, upper=False))
            factors.append(factor)
        stacked = torch.cat(halves)
        S -= stacked[:, :-1].T @ stacked[:, :-1]
        right -= stacked[:, :-1].T @ stacked[:, -1]
        return S, right, factors

    def shared_covariance(self) -> Tensor | None:
        """Covariance (C, C) of the shared unknowns (held ones zero), frames marginalised; None where singular."""
        reduced = self.reduced(0.0)
        if reduced is None:
            return None
        free = self.shared.free
        factor, info = torch.linalg.cholesky_ex(reduced[0][free][:, free])
        if int(info) != 0:
            return None
        covariance = torch.zeros_like(self.shared.H)
        ids = free.nonzero()[:, 0]
        covariance[ids[:, None], ids[None]] = torch.cholesky_inverse(factor)
        return covariance

    def predicted_decrease(self, step: Tensor) -> float:
        """Decrease of the undamped model."""
        C, P = len(self.shared.g), len(self.frames[0][0].g)
        shared = step[:C]
        decrease = -float(self.shared.g @ shared + 0.5 * shared @ (self.shared.H @ shared))
        for i, (own, coupling) in enumerate(self.frames):
            part = step[C + i * P : C + (i + 1) * P]
            decrease += own.predicted_decrease(part) - float(part @ (coupling @ shared))
        return decrease

    def relative_length(self, step: Tensor) -> float:
        """RMS of the frames' steps in standard deviations, with the shared ones by their own prior."""
        C, P = len(self.shared.g), len(self.frames[0][0].g)
        frames = torch.cat([step[C + i * P : C + (i + 1) * P] / own.scale for i, (own, _) in enumerate(self.frames)])
        shared = step[: self.shared.common]
        # One standard deviation of shape, 1 of log focal, 1 px of principal point: all of order one.
        return float(torch.cat([frames, shared]).square().mean().sqrt())
