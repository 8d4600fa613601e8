"""Zero-lag smoothing of a track: every frame's evidence, and how quickly a head changes, weighed over time.

Tracking goes forward and knows nothing of the frames to come; what one camera hardly sees in a single frame, distance
above all, trembles. Each frame leaves a quadratic of what it saw (`tracker.evidence`); the smoothed states d minimise

    sum_f (0.5 d_f^T H_f d_f + g_f^T d_f) / noise^2  +  0.5 sum_f |second difference over time / std|^2

(a fixed-interval smoother of an integrated random walk; Rauch, Tung and Striebel, AIAA Journal 1965, in information
form as in Bell, SIAM Journal on Optimization 1994). What a frame sees well, lids and lips in motion, stays; what it
hardly sees follows its neighbours. The matrix is banded, and the cost linear in frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, solveh_banded
from scipy.linalg.blas import dsbmv
from torch import Tensor

from tracker.evidence import Evidence
from tracker.kernels import band as kernels
from tracker.problem import Bounds
from tracker.settings import SmootherSettings
from tracker.state import FrameState, Layout, spreads

# A longer stretch of lost frames is not bridged: what the head did meanwhile is anybody's guess.
LONGEST_BRIDGE = 8
# Spread of the plain change from frame to frame of what moves within the head, in spreads of the second difference: so
# weak that quick lids and lips do not feel it; it keeps a bridge from swinging out.
_WALK = 2.0
# Unknowns that the minimiser carries over a bound are set on it and the others solved for again, at most so often.
_BOUND_PASSES = 3
_SECOND = (1.0, -2.0, 1.0)
_FIRST = (-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One frame as it was tracked.

    Attributes:
        state: its unknowns.
        evidence: what its picture says around that state; None for a lost frame, whose state is a guess.
        cut: the head is elsewhere than the frame before said: nothing links the two.
        poor: its errors are large: the evidence is not worth what it claims.
    """

    state: FrameState
    evidence: Evidence | None
    cut: bool = False
    poor: bool = False


@dataclass(frozen=True, eq=False)
class Smoother:
    """Smooths runs of frames.

    Attributes:
        second_std: (P,) spread of the second difference over time of each unknown, frame by frame.
        noise: how many times larger a frame's errors are than its equations say.
        poor_noise: how many times larger still those of a poor frame are.
        bounds: box limits of the unknowns.
        held: (P,) unknowns that no frame solves for; they stay.
    """

    second_std: Tensor
    noise: float
    poor_noise: float
    bounds: Bounds
    held: Tensor

    def smoothed(self, frames: Sequence[RawFrame]) -> list[FrameState]:
        """Smoothed states of consecutive frames.

        Args:
            frames: in order of time.

        Returns:
            One state a frame. The light stays, as does a lost frame that is not bridged: one at either end, before a
            cut, or in a stretch of more than `LONGEST_BRIDGE`. Should the system be singular, all states stay.
        """
        if not frames:
            return []
        system = _System(len(frames), len(self.second_std))
        for place, frame in enumerate(frames):
            if frame.evidence is not None:
                system.add_evidence(place, frame.evidence, self.noise * (self.poor_noise if frame.poor else 1))
        linked = links(frames)
        self._add_process(system, frames, linked)
        fixed = np.repeat(self.held.numpy()[None], len(frames), 0)
        for place, frame in enumerate(frames):
            fixed[place] |= frame.evidence is None and not (linked[place] and linked[place + 1])
        room = [self.bounds.room_arrays(frame.state) for frame in frames]
        lowest, highest = (np.stack([limits[side] for limits in room]) for side in (0, 1))
        steps = system.minimiser(fixed, lowest, highest)
        if steps is None:
            return [frame.state for frame in frames]
        return [self.bounds.retract(frame.state, step) for frame, step in zip(frames, steps, strict=True)]

    def _add_process(self, system: "_System", frames: Sequence[RawFrame], linked: np.ndarray) -> None:
        """Second differences of all unknowns, and weak first ones of those within the head, where frames are linked."""
        if len(frames) < 2:
            return
        weight = 1 / self.second_std.numpy() ** 2
        walk = weight / _WALK**2
        walk[:6] = 0
        change, turned = changes([frame.state for frame in frames])
        firsts = np.flatnonzero(linked[1:-1])
        seconds = firsts[linked[firsts + 2]]
        scalar = np.ones(len(weight), bool)
        for block, later in zip(_ROTATIONS, turned, strict=True):
            scalar[block] = False
            kernels.add_turns(system.band, system.b, block.start, later, change, (firsts, seconds), (walk, weight))
        unknowns = np.flatnonzero(scalar)
        system.add_scalars(firsts, unknowns, _FIRST, change[firsts], walk)
        system.add_scalars(seconds, unknowns, _SECOND, change[seconds + 1] - change[seconds], weight)


def smoother_of(settings: SmootherSettings, prior: Tensor, bounds: Bounds, held: Tensor) -> Smoother:
    """The smoother that the settings describe.

    Args:
        settings: spreads.
        prior: (P,) prior standard deviations of a frame's unknowns, in whose units the expression's spread is given.
        bounds: box limits of the unknowns.
        held: (P,) unknowns that no frame solves for.
    """
    stds = spreads(
        prior,
        rotation=settings.rotation_std,
        translation_mm=settings.translation_std_mm,
        jaw=settings.jaw_std,
        gaze=settings.gaze_std,
        eyelids=settings.eyelid_std,
        expression=settings.expression_std,
    )
    return Smoother(stds, settings.noise, settings.poor_noise, bounds, held)


def links(frames: Sequence[RawFrame]) -> np.ndarray:
    """Which neighbours belong together: (N + 1,) bool, entry f says it of frames f - 1 and f; the ends are False.

    A cut breaks the chain. Lost frames are linked where they lie between seen ones, without a cut, and are few.
    """
    count = len(frames)
    linked = np.zeros(count + 1, bool)
    seen = -1
    for place, frame in enumerate(frames):
        if frame.cut:
            seen = -1
        if frame.evidence is None:
            continue
        if seen >= 0 and place - seen - 1 <= LONGEST_BRIDGE:
            linked[seen + 1 : place + 1] = True
        seen = place
    return linked


# Unknowns whose change is that of a rotation; that of all others is a plain difference.
_ROTATIONS = (Layout.rotation, Layout.jaw)


def changes(states: Sequence[FrameState]) -> tuple[np.ndarray, np.ndarray]:
    """Change of the unknowns from each state to the next.

    Args:
        states: N in order of time.

    Returns:
        (N - 1, P) change in `Layout` order, rotations by the logarithm of their difference; and (2, N - 1, 3, 3), for
        the head's rotation and the jaw's, by how much an increment of the later state adds to the change. One of the
        earlier state takes the transpose from it (the right Jacobian is the left one's transpose).
    """
    change, later = kernels.changes(tuple(np.stack(part) for part in zip(*(x.arrays for x in states), strict=True)))
    return change, later


class _System:
    """`0.5 x^T M x + b^T x` over all frames' unknowns; M symmetric and banded, in LAPACK's lower band storage."""

    def __init__(self, frames: int, size: int) -> None:
        self._shape = (frames, size)
        # A frame's own block is full; frames one and two apart are coupled within blocks of three.
        self.band = np.zeros((min(2 * size + 3, frames * size), frames * size), order="F")
        self.b = np.zeros((frames, size))

    def add_evidence(self, place: int, evidence: Evidence, noise: float) -> None:
        """Adds a frame's quadratic."""
        size = self._shape[1]
        H, first = evidence.H.numpy() / noise**2, place * size
        for column in range(size):
            self.band[: size - column, first + column] += H[column:, column]
        self.b[place] += evidence.g.numpy() / noise**2

    def add_scalars(
        self,
        firsts: np.ndarray,
        unknowns: np.ndarray,
        factors: Sequence[float],
        residual: np.ndarray,
        weight: np.ndarray,
    ) -> None:
        """Adds residuals (F, P) of unknowns (U,): sums with factors over consecutive frames from `firsts` (F,)."""
        size = self._shape[1]
        if len(firsts) == 0:
            return
        for later, row_factor in enumerate(factors):
            self.b[np.ix_(firsts + later, unknowns)] += row_factor * (weight * residual)[:, unknowns]
            for earlier in range(later + 1):
                columns = ((firsts + earlier) * size)[:, None] + unknowns
                self.band[(later - earlier) * size, columns] += row_factor * factors[earlier] * weight[unknowns]

    def minimiser(self, fixed: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray | None:
        """Steps (N, P) that minimise the quadratic within a box, by a few passes of an active set.

        Args:
            fixed: (N, P) bool, unknowns that stay at zero.
            lowest: (N, P) lower bounds, at most zero.
            highest: (N, P) upper bounds, at least zero.

        Returns:
            The steps, or None where the matrix is not positive definite.
        """
        steps, moving = np.zeros(self._shape), ~fixed
        for _ in range(_BOUND_PASSES):
            held = np.where(moving, 0.0, steps)
            solved = self._solve(moving, self.b + self._product(held))
            if solved is None:
                return None
            steps = held - solved
            over = moving & ((steps < lowest) | (steps > highest))
            steps = np.clip(steps, lowest, highest)
            slope = self.b + self._product(steps)
            inward = ~fixed & ~moving & (((steps <= lowest) & (slope < 0)) | ((steps >= highest) & (slope > 0)))
            if not over.any() and not inward.any():
                break
            moving = (moving & ~over) | inward
        return steps

    def _solve(self, moving: np.ndarray, right: np.ndarray) -> np.ndarray | None:
        """Solution (N, P) over the moving unknowns, zero elsewhere."""
        band, still = self.band.copy(order="F"), ~moving.reshape(-1)
        band[:, still] = 0
        for offset in range(1, len(band)):
            band[offset, : len(still) - offset][still[offset:]] = 0
        band[0, still] = 1
        try:
            solved = solveh_banded(band, np.where(moving, right, 0.0).reshape(-1), True, True, True, check_finite=False)
        except LinAlgError:
            return None
        return solved.reshape(self._shape) if np.isfinite(solved).all() else None

    def _product(self, steps: np.ndarray) -> np.ndarray:
        """M times (N, P)."""
        return dsbmv(len(self.band) - 1, 1.0, self.band, steps.reshape(-1), lower=1).reshape(self._shape)


class FixedLag:
    """Smooths a stream of frames in blocks.

    A block is smoothed together with `lag` frames on either side of it, so that it is final once that many frames more
    have come. What a block becomes depends on the frames of that window alone, and blocks are counted from frame 0: a
    stream that is taken up again in the middle gives the same states.
    """

    def __init__(self, smoother: Smoother, settings: SmootherSettings, block: int = 0) -> None:
        """Waits for the first frame of the window of a block.

        Args:
            smoother: for the windows.
            settings: `block` and `lag`.
            block: number of the first block that is wanted; frames come from `window_start` of it on.
        """
        self._smoother = smoother
        self._settings = settings
        self._block = block
        self._first = self.window_start
        self._frames: list[RawFrame] = []

    @property
    def window_start(self) -> int:
        """First frame that the next block needs."""
        return self._settings.window_start(self._block)

    def add(self, frame: RawFrame) -> list[tuple[int, FrameState]]:
        """Takes the next frame; gives the numbers and states of those that have become final."""
        self._frames.append(frame)
        end = (self._block + 1) * self._settings.block
        return self._next(end) if self._first + len(self._frames) >= end + self._settings.lag else []

    def finish(self) -> list[tuple[int, FrameState]]:
        """There are no more frames: the rest."""
        final: list[tuple[int, FrameState]] = []
        end = self._first + len(self._frames)
        while self._block * self._settings.block < end:
            final += self._next(min((self._block + 1) * self._settings.block, end))
        return final

    def _next(self, end: int) -> list[tuple[int, FrameState]]:
        begin = self._block * self._settings.block
        window = self._frames[: end + self._settings.lag - self._first]
        states = self._smoother.smoothed(window)[begin - self._first : end - self._first]
        self._block += 1
        self._frames = self._frames[self.window_start - self._first :]
        self._first = self.window_start
        return list(zip(range(begin, end), states, strict=True))
