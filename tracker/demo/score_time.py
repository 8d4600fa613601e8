"""What a track does over time, against the truth: jitter, blinks, and how far lids and lips follow.

Only frames count that the track calls ok and that show the face.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tracker.demo.score import Estimate, apertures_mm, face_vertices
from tracker.demo.truth import Truth
from tracker.head.model import HeadModel

_MM = 1000.0
# A lid closed further than this is a blink; its depth is taken against the lid's height this many frames around.
_BLINK_CLOSURE, _BLINK_REACH = 0.6, 2
_AROUND = 10
# Below this motion a slope says nothing, millimetres.
_LEAST_SPREAD_MM = 0.1


@dataclass(frozen=True)
class TimeScore:
    """Figures of a clip; NaN where the clip has nothing to measure.

    Attributes:
        jitter_mm: RMS over vertices and frames of the difference between found and true second differences of the
            face's vertices in camera space.
        jitter_xy_mm: the same of the two axes across the line of sight.
        jitter_true_mm: RMS second difference of the truth alone: the motion's own acceleration.
        jitter_found_mm: the same of the track.
        blinks: true blinks in frames that count.
        blink_depth: median over blinks of how far the lids came down, found over true; 1 is right, 0 slept through.
        lid_gain: slope of found against true lid aperture; 1 follows, less is smoothed away.
        lip_gain: the same of the lips.
        lid_bias_mm: median of found minus true lid aperture: what is open throughout, and no motion.
        lip_bias_mm: the same of the lips.
    """

    jitter_mm: float
    jitter_xy_mm: float
    jitter_true_mm: float
    jitter_found_mm: float
    blinks: float
    blink_depth: float
    lid_gain: float
    lip_gain: float
    lid_bias_mm: float
    lip_bias_mm: float


def score_time(model: HeadModel, truth: Truth, estimates: list[Estimate], counted: np.ndarray) -> TimeScore:
    """Figures of a clip.

    Args:
        model: the head that truth and track are of.
        truth: of the clip.
        estimates: the track, in order of time.
        counted: (N,) bool, the estimates that count.
    """
    found_open = np.array([apertures_mm(model, estimate.params) for estimate in estimates])
    true_open = np.array([apertures_mm(model, truth.head_params(estimate.frame)) for estimate in estimates])
    closure = truth.eyelids[[estimate.frame for estimate in estimates]].mean(1)
    found_open, true_open = (np.where(counted[:, None], x, np.nan) for x in (found_open, true_open))
    lids_found, lids_true = found_open[:, :2].mean(1), true_open[:, :2].mean(1)
    lips = found_open[:, 2] - true_open[:, 2]
    bias = [float(np.nanmedian(x)) if np.isfinite(x).any() else float("nan") for x in (lids_found - lids_true, lips)]
    depths = blink_depths(closure, lids_true, lids_found)
    return TimeScore(
        **jitter(model, truth, estimates, counted),
        blinks=float(len(depths)),
        blink_depth=float(np.median(depths)) if len(depths) else float("nan"),
        lid_gain=slope(lids_true, lids_found),
        lip_gain=slope(true_open[:, 2], found_open[:, 2]),
        lid_bias_mm=bias[0],
        lip_bias_mm=bias[1],
    )


def jitter(model: HeadModel, truth: Truth, estimates: list[Estimate], counted: np.ndarray) -> dict[str, float]:
    """Second differences over time, as `TimeScore` names them, over runs of three consecutive frames that all count."""
    face = face_vertices(model)
    sums, triples = np.zeros(4), 0
    kept: list[tuple[int, np.ndarray, np.ndarray]] = []
    for estimate, counts in zip(estimates, counted, strict=True):
        number = estimate.frame
        if not counts:
            continue
        true = model.vertices(truth.head_params(number)).double().numpy()[face] @ truth.R[number].T + truth.t[number]
        found = model.vertices(estimate.params).double().numpy()[face] @ estimate.R.T + estimate.t
        kept = [*kept[-2:], (number, true, found)]
        if len(kept) < 3 or any(after[0] - before[0] != 1 for before, after in pairwise(kept)):
            continue
        (_, a, x), (_, b, y), (_, c, z) = kept
        true2, found2 = _MM * (a - 2 * b + c), _MM * (x - 2 * y + z)
        error = found2 - true2
        sums += [(x**2).sum(1).mean() for x in (error, error[:, :2], true2, found2)]
        triples += 1
    values = np.sqrt(sums / triples) if triples else np.full(4, np.nan)
    names = ("jitter_mm", "jitter_xy_mm", "jitter_true_mm", "jitter_found_mm")
    return dict(zip(names, map(float, values), strict=True))


def blink_depths(closure: np.ndarray, true_mm: np.ndarray, found_mm: np.ndarray) -> np.ndarray:
    """How far the lids came down in each blink, found over true.

    Args:
        closure: (N,) true closure of the lids, 0 open, 1 closed: tells the blinks.
        true_mm: (N,) true aperture, NaN where the frame does not count.
        found_mm: (N,) the track's.

    Returns:
        One ratio a blink whose frames all count. The lids may come down up to two frames early or late.
    """
    shut = np.concatenate([[False], closure > _BLINK_CLOSURE, [False]])
    starts, ends = np.flatnonzero(shut[1:-1] & ~shut[:-2]), np.flatnonzero(shut[1:-1] & ~shut[2:])
    depths = []
    for start, end in zip(starts, ends, strict=True):
        near = slice(max(start - _BLINK_REACH, 0), end + _BLINK_REACH + 1)
        around = slice(max(start - _AROUND, 0), end + _AROUND + 1)
        calm = closure[around] < 0.5 * _BLINK_CLOSURE
        if not calm.any() or not np.isfinite(true_mm[near]).all():
            continue
        drops = [np.nanmedian(x[around][calm]) - x[near].min() for x in (found_mm, true_mm)]
        depths.append(drops[0] / drops[1])
    return np.array(depths)


def slope(true: np.ndarray, found: np.ndarray) -> float:
    """Slope of the line of found over true values, finite ones; NaN where the truth hardly moves."""
    known = np.isfinite(true) & np.isfinite(found)
    if known.sum() < 3 or true[known].std() < _LEAST_SPREAD_MM:
        return float("nan")
    return float(np.cov(true[known], found[known], bias=True)[0, 1] / true[known].var())
