"""What a calibration starts from, and the energy of its joint solves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.bundle import BundleProblem, BundleState, Observation, OffsetModel, SharedPrior
from tracker.camera import Intrinsics
from tracker.clip import FrameInput, frame_bounds, frame_prior, landmark_facing, landmark_term, step_scale
from tracker.contour import find_outline
from tracker.frame_solver import FrameSolver
from tracker.head.model import HeadModel, vertex_normals
from tracker.image import ImageLevel
from tracker.landmark_set import IRISES, LandmarkSet
from tracker.local_contrast import surface_tangents
from tracker.points import point_template
from tracker.residuals.contour import ContourTerm
from tracker.residuals.prior import GazeSymmetryTerm
from tracker.residuals.shared_colours import ColourView, SharedColours
from tracker.samples import OPENING_M, opening_distance_m
from tracker.settings import CalibrationSettings, EnergySettings, TrackingSettings
from tracker.state import FrameState
from tracker.threads import on_threads

# The head's size is not observable by one camera. Left half a percent of play, it ran 1.7 % off on clips with truth.
_SIZE_STD = 0.0005
# Share of the identity's spread in the first joint solve, whose poses are still a degree or two off, and in all of them
# where the landmarks' response to the identity is not measured. The identity's turn of the face keeps it throughout: a
# face that its identity turns looks like one that its pose turns.
NARROW_SHAPE = 0.42
# Neighbouring samples err together, and a head that is not the model's misleads all of them alike: what a clip says of
# the focal length is surer than it is right by this factor, and the model errs by so much even where it says a lot (27
# clips with truth, docs/results.md).
_CAUTION = 12.0
_MODEL_LOG_FOCAL_STD = 0.06
# Lenses vary more than the prior that holds the solve says, by this factor.
_LENSES = 5.0
# Landmarks alone pull the focal length up to 20 % down (they follow a turn of the head too little), and the pictures do
# not always bring it back; so it waits for the pictures near its prior.
_LANDMARK_FOCAL_STD = 0.03
# Standard deviation of the outline; the edge of the matte was 0.5 px off in the median at the true outline of rendered
# heads, the rest is what hair adds and what the fit is off at first.
_CONTOUR_SIGMA_PX = 2.0
# Landmarks of the joint solve, spread evenly over the face, beside those of the closure pairs and the irises.
_EVEN_LANDMARKS = 64
# Their offsets are wider than measured by this factor: people are not renderings (docs/solver.md).
_OFFSET_CAUTION = 2.0
# More samples average out more noise, but neighbours err together: they never say more than so many alone do.
_COLOUR_SAMPLES = 3200
# How much further than on the finest level samples keep from lids and lips on the next coarser one, metres: the local
# mean there is twice as wide. On the one after it is three times as much.
_COARSE_MARGIN_M = 0.005


@dataclass(frozen=True, eq=False)
class CameraPrior:
    """What is known of the crop's camera beforehand.

    Attributes:
        focal_px: mean focal length, pixels of the crop.
        focal_log_std: spread of its logarithm; 0 where it is known.
        centre_px: mean principal point, pixels of the crop.
        centre_std_px: its spread; 0 holds it.
    """

    focal_px: float
    focal_log_std: float
    centre_px: tuple[float, float]
    centre_std_px: float

    @property
    def intrinsics(self) -> Intrinsics:
        """The mean camera."""
        return Intrinsics(self.focal_px, *self.centre_px)


@dataclass(frozen=True, eq=False)
class CalibrationTask:
    """A clip to calibrate.

    Attributes:
        model: head model, cut to the modes in use.
        landmarks: which landmarks are used.
        frames: the calibration frames, a face in each.
        camera: prior of the camera.
        shape: (S,) given identity (the prior's mean), or None.
        optimize_shape: whether the identity may move.
        held: (P,) frame unknowns that are not solved for.
        energy: noise and priors.
        settings: of the calibration.
        tracking: samples, levels, steps.
    """

    model: HeadModel
    landmarks: LandmarkSet
    frames: tuple[FrameInput, ...]
    camera: CameraPrior
    shape: Tensor | None
    optimize_shape: bool
    held: Tensor
    energy: EnergySettings
    settings: CalibrationSettings
    tracking: TrackingSettings


def bundle_problem(
    task: CalibrationTask,
    state: BundleState,
    landmarks: LandmarkSet,
    shape_std: float,
    *,
    free_offsets: bool,
    with_colours: bool,
) -> BundleProblem:
    """The joint energy of landmarks and priors, to which colours and outline are added.

    Args:
        task: the clip.
        state: where landmarks' confidences and spreads are taken.
        landmarks: those of the joint solve.
        shape_std: spread of the broadest identity mode, in the model's standard deviations.
        free_offsets: whether landmark offsets are unknowns; else they stay at their mean.
        with_colours: whether the pictures will take part: the focal length is freer then.
    """
    model, settings = task.model, task.settings
    root = offset_root(landmarks, settings.offset_std_mm / 1000) if free_offsets else None
    offsets = OffsetModel(landmarks.offset_mean_m, root)
    # Fewer landmarks, each with the more weight.
    energy = task.energy
    weight = energy.landmark_weight * len(task.landmarks) / len(landmarks)
    energy = energy.model_copy(update={"landmark_weight": weight})
    shape_std = shape_std if task.optimize_shape else 0.0
    vertices = model.rest_vertices(state.shape.float())
    normals = vertex_normals(vertices, model.triangles)
    points = landmarks.template.with_shape(state.shape).moved(offsets.offsets_m(state.offsets))
    observations = []
    for frame, frame_state in zip(task.frames, state.frames, strict=True):
        facing = landmark_facing(landmarks, normals, model, frame_state)
        term = landmark_term(landmarks, points, frame, facing, energy)
        observations.append(
            Observation(
                term.targets_px, term.sigma_px, term.confidence, term.pairs, term.pair_sigma_px, term.pair_confidence
            )
        )
    zero_shape = torch.zeros(model.shape_count, dtype=torch.float64)
    directions, direction_std = _unseen(task, shape_std)
    focal_std = task.camera.focal_log_std
    if not with_colours:
        focal_std = min(focal_std, _LANDMARK_FOCAL_STD)
    return BundleProblem(
        template=landmarks.template,
        observations=tuple(observations),
        shared=SharedPrior(
            shape=zero_shape if task.shape is None else task.shape,
            shape_std=shape_std * detail_falloff(model),
            log_focal=math.log(task.camera.focal_px),
            log_focal_std=focal_std,
            centre_px=task.camera.centre_px,
            centre_std_px=task.camera.centre_std_px,
            offsets=offsets,
            directions=directions,
            direction_std=direction_std,
        ),
        gaussian=frame_prior(model, task.energy),
        gaze=GazeSymmetryTerm(),
        bounds=frame_bounds(model),
        held=task.held,
        scale=step_scale(model, task.energy),
    )


def _unseen(task: CalibrationTask, shape_std: float) -> tuple[Tensor, Tensor]:
    """Directions (K, S) of the identity that no picture shows, and the spreads (K,) that hold them.

    However wide the identity may spread, its turn of the face keeps the spread that it has at `NARROW_SHAPE`.
    """
    size, turns = size_direction(task.model)[None], turn_directions(task.model)
    size_std = torch.full((1,), _SIZE_STD, dtype=torch.float64)
    kept = NARROW_SHAPE * task.settings.shape_std
    if shape_std <= kept:
        return size, size_std
    turn_std = (turns * kept * detail_falloff(task.model)).norm(dim=1) / math.sqrt(1 - (kept / shape_std) ** 2)
    return torch.cat([size, turns]), torch.cat([size_std, turn_std.clamp_min(1e-9)])


def offset_std(landmarks: LandmarkSet, default_std_m: float) -> Tensor:
    """Spread (N,) of the landmark offsets, metres: as measured, at most the default, which also stands where none was.

    Args:
        landmarks: N landmarks.
        default_std_m: 0 holds the offsets.
    """
    known = landmarks.offset_std_m
    return torch.where(known.isnan(), torch.full_like(known, default_std_m), known.clamp(max=default_std_m))


def offset_root(landmarks: LandmarkSet, default_std_m: float) -> Tensor | None:
    """A square root (3 N, 3 N) of the offsets' covariance, metres, wider than measured; None where they are held.

    Args:
        landmarks: N landmarks.
        default_std_m: see `offset_std`.
    """
    if default_std_m == 0:
        return None
    std = offset_std(landmarks, default_std_m)[:, None]
    known = ~landmarks.offset_alone_m.isnan()
    # What is limited keeps its share in common.
    share = torch.where(known, std / landmarks.offset_std_m[:, None], 0.0)
    alone = torch.where(known, landmarks.offset_alone_m * share, std).reshape(-1)
    together = (landmarks.offset_together_m * share[..., None]).flatten(0, 1)
    return _OFFSET_CAUTION * torch.linalg.cholesky(together @ together.T + torch.diag(alone.square()))


def joint_landmarks(landmarks: LandmarkSet) -> LandmarkSet:
    """The landmarks of the joint solve: closure pairs, irises, and points spread evenly over the face."""
    rest = landmarks.template.points.rest
    chosen = set(landmarks.pairs.reshape(-1).tolist())
    chosen |= {place for place, number in enumerate(landmarks.dense.tolist()) if number in IRISES}
    distance = (rest - rest.mean(0)).norm(dim=1)
    for _ in range(min(_EVEN_LANDMARKS, len(rest))):
        farthest = int(distance.argmax())
        chosen.add(farthest)
        distance = torch.minimum(distance, (rest - rest[farthest]).norm(dim=1))
    return landmarks.subset(torch.tensor(sorted(chosen)))


def detail_falloff(model: HeadModel) -> Tensor:
    """How much of its spread each identity mode keeps, (S,) in (0, 1]: the square root of its size on the face.

    Fine modes move the face by less than a detector or a blurred texture can tell; left their full spread they take up
    what neither the broad modes nor the poses explain.
    """
    ids = model.regions.get("face", torch.arange(model.vertex_count))
    size = model.shape_basis[ids].double().square().sum(1).mean(0).sqrt()
    return (size / size.max().clamp_min(1e-12)).clamp_min(1e-4).sqrt()


def size_direction(model: HeadModel) -> Tensor:
    """Relative change of the face's size by each identity coefficient, (S,): the part of its motion that scales."""
    ids = model.regions.get("face", torch.arange(model.vertex_count))
    vertices = model.template[ids].double()
    arms = vertices - vertices.mean(0)
    return torch.einsum("nk,nks->s", arms, model.shape_basis[ids].double()) / arms.square().sum()


def turn_directions(model: HeadModel) -> Tensor:
    """Turn of the face about x, y, z by each identity coefficient, (3, S) radians: what of its motion turns it."""
    ids = model.regions.get("face", torch.arange(model.vertex_count))
    vertices = model.template[ids].double()
    arms = vertices - vertices.mean(0)
    moments = torch.linalg.cross(arms[:, None].expand(-1, model.shape_count, 3), model.shape_basis[ids].double().mT)
    inertia = arms.square().sum() * torch.eye(3, dtype=torch.float64) - arms.T @ arms
    return torch.linalg.solve(inertia, moments.sum(0).T)


def shared_colours(
    solver: FrameSolver, state: BundleState, pictures: Sequence[ImageLevel], level: int
) -> SharedColours | None:
    """What all frames see of the surface at a level, weighted as each sees it now; None where one sees too little.

    The local means of coarse levels are wider, so there samples count only at a greater distance from lids and lips.
    """
    clip = solver.clip
    margin_m = OPENING_M + _COARSE_MARGIN_M * (2**level - 1)
    clear = opening_distance_m(clip.model, clip.samples.surface.at(clip.model, clip.model.template)) >= margin_m

    def view(pair: tuple[ImageLevel, FrameState]) -> ColourView | None:
        picture, one = pair
        seen = solver.visible(one)
        if seen is None:
            return None
        term = solver.contrast_term(picture, level, one, seen)
        weight = term.robust_scale(term.residual(one, clip.intrinsics))[1] * term.inverse_variance
        weight = weight * min(1.0, _COLOUR_SAMPLES / len(clip.samples.surface))
        if level:
            weight = weight * clear[seen.ids]
        assert term.axes is not None
        if clip.response is None:
            return ColourView(seen.ids, picture, term.axes, weight)
        gain = clip.response.gain(level, seen.ids, one.light, one.R)
        return ColourView(seen.ids, picture, term.axes, weight * gain.square().mean(1), gain)

    found = on_threads(view, zip(pictures, state.frames, strict=True))
    views = tuple(one for one in found if one is not None)
    if len(views) < len(found):
        return None
    rest = clip.model.rest_vertices(clip.shape.float())
    normals = clip.samples.surface.at(clip.model, vertex_normals(rest, clip.model.triangles))
    tangents = surface_tangents(torch.nn.functional.normalize(normals, dim=1))
    return SharedColours(clip.samples.template, tangents, views)


def contours(task: CalibrationTask, state: BundleState) -> tuple[ContourTerm, ...]:
    """The outline of every frame as it is now; none where it does not count."""
    if task.settings.contour_weight == 0 or any(frame.matte is None for frame in task.frames):
        return ()

    def one(pair: tuple[FrameInput, FrameState]) -> ContourTerm:
        frame, own = pair
        assert frame.matte is not None
        outline = find_outline(task.model, state.shape, own, state.intrinsics, frame.matte)
        points = point_template(task.model, outline.faces, outline.bary)
        sigma = _CONTOUR_SIGMA_PX
        return ContourTerm(points, outline.targets_px, outline.normals_px, sigma, task.settings.contour_weight)

    return tuple(on_threads(one, zip(task.frames, state.frames, strict=True)))


def focal_spread(problem: BundleProblem, state: BundleState) -> float:
    """Posterior standard deviation of the log focal length, all else marginalised; NaN where singular, 0 where held.

    What the clip says (the solve's own information less that of the prior) is taken for `_CAUTION` times less sure, the
    prior for as wide as lenses vary: the solve takes the samples' errors for independent, which they are not, and knows
    nothing of what the model itself gets wrong (docs/solver.md).
    """
    covariance = problem.linearise(state).shared_covariance()
    at, prior_std = len(state.shape), problem.shared.log_focal_std
    if covariance is None or prior_std == 0:
        return float("nan") if covariance is None else 0.0
    said = max(1 / float(covariance[at, at]) - problem.shared.focal_weight(state), 0.0)
    return math.hypot((said / _CAUTION**2 + (_LENSES * prior_std) ** -2) ** -0.5, _MODEL_LOG_FOCAL_STD)
