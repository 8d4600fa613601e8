"""The smoother against a dense solve of the same problem, and what it must keep, mend and leave alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from heads import random_head, random_state
from numeric import numeric_jacobian
from scipy.optimize import lsq_linear

from tracker.clip import frame_bounds, frame_prior, prior_stds, step_scale
from tracker.evidence import Evidence, frame_evidence
from tracker.problem import Bounds, FrameProblem
from tracker.residuals.prior import GaussianTerm, GazeSymmetryTerm
from tracker.rotations import exp_so3, log_so3
from tracker.settings import EnergySettings, SmootherSettings
from tracker.smoother import LONGEST_BRIDGE, FixedLag, RawFrame, Smoother, links, smoother_of
from tracker.solver import SolverSettings, minimise
from tracker.state import FrameState, neutral_state

MODEL = random_head()
P = 15 + MODEL.expression_count
BOUNDS = frame_bounds(MODEL)
FREE = torch.zeros(P, dtype=torch.bool)
SETTINGS = SmootherSettings()
PRIOR = prior_stds(MODEL, EnergySettings())
SMOOTHER = smoother_of(SETTINGS, PRIOR, BOUNDS, FREE)
X, Z, LID, LIP = 3, 5, 13, 15


def _information(seed: int) -> Evidence:
    """A random quadratic with a gradient, between blind and sharp in its directions."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((P, P)))[0]
    H = axes @ np.diag(10 ** rng.uniform(1, 6, P)) @ axes.T
    return Evidence(torch.from_numpy(H), torch.from_numpy(H @ (0.01 * rng.standard_normal(P))))


def _seen(state: FrameState, std: np.ndarray, cut: bool = False) -> RawFrame:
    """A frame whose unknowns are known to (P,) standard deviations, in the smoother's own units."""
    H = torch.diag(torch.from_numpy(1 / std**2)) * SETTINGS.noise**2
    return RawFrame(state, Evidence(H, torch.zeros(P, dtype=torch.float64)), cut)


def _lost(state: FrameState) -> RawFrame:
    return RawFrame(state, None)


def _moved(**values: torch.Tensor) -> FrameState:
    return replace(neutral_state(MODEL), **values)


def _series(states: list[FrameState], name: str) -> np.ndarray:
    return np.stack([getattr(state, name).numpy() for state in states])


def _random_walk(count: int, turn: float = 0.1) -> list[FrameState]:
    """States that turn and move by a lot from frame to frame."""
    generator = torch.Generator().manual_seed(3)
    states = [random_state(MODEL, 5, 0.1)]
    for _ in range(count - 1):
        step = turn * torch.randn(P, generator=generator, dtype=torch.float64)
        step[3:6] *= 0.05
        states.append(BOUNDS.clamp(states[-1].retract(step)))
    return states


def _dense(frames: list[RawFrame], smoother: Smoother) -> tuple[np.ndarray, np.ndarray]:
    """M and b of the whole problem, process residuals differentiated numerically; cuts and lost frames heeded."""
    count = len(frames)

    def change(a: FrameState, b: FrameState) -> torch.Tensor:
        parts = (log_so3(b.R @ a.R.T), b.t - a.t, log_so3(b.jaw @ a.jaw.T), (b.eyes - a.eyes).reshape(-1))
        return torch.cat([*parts, b.eyelids - a.eyelids, b.expression - a.expression])

    def process(d: torch.Tensor) -> torch.Tensor:
        states = [frame.state.retract(step) for frame, step in zip(frames, d.reshape(count, P), strict=True)]
        first = [change(a, b) for a, b in pairwise(states)]
        linked = links(frames)[1:-1]
        walk = 1 / (2 * smoother.second_std)
        walk[:6] = 0
        residuals = [walk * first[i] for i in range(count - 1) if linked[i]]
        residuals += [
            (first[i + 1] - first[i]) / smoother.second_std for i in range(count - 2) if linked[i] and linked[i + 1]
        ]
        return torch.cat(residuals)

    J = numeric_jacobian(process, count * P).numpy()
    M, b = J.T @ J, J.T @ process(torch.zeros(count * P, dtype=torch.float64)).numpy()
    for i, frame in enumerate(frames):
        if frame.evidence is not None:
            block = slice(i * P, (i + 1) * P)
            M[block, block] += frame.evidence.H.numpy() / smoother.noise**2
            b[block] += frame.evidence.g.numpy() / smoother.noise**2
    return M, b


def _steps(frames: list[RawFrame], states: list[FrameState]) -> np.ndarray:
    ones = torch.ones(P, dtype=torch.float64)
    pairs = zip(frames, states, strict=True)
    return np.stack([GaussianTerm(frame.state, ones).residual(state).numpy() for frame, state in pairs])


def _unbounded() -> Smoother:
    wide = torch.tensor([-1e6, 1e6], dtype=torch.float64)
    return replace(SMOOTHER, bounds=Bounds(wide.repeat(P - 15, 1), wide, wide.repeat(2, 1)))


@pytest.mark.parametrize("kind", ["plain", "lost", "cut"])
def test_equals_a_dense_solve(kind: str) -> None:
    frames = [RawFrame(state, _information(i)) for i, state in enumerate(_random_walk(6))]
    if kind == "lost":
        frames[2] = _lost(frames[2].state)
        frames[3] = _lost(frames[3].state)
    if kind == "cut":
        frames[3] = replace(frames[3], cut=True)
    smoother = _unbounded()
    M, b = _dense(frames, smoother)
    expected = np.linalg.solve(M, -b).reshape(6, P)
    found = _steps(frames, smoother.smoothed(frames))
    assert np.abs(expected).max() > 0.01
    # 5e-11 measured: the finite differences of the process.
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def test_bounds_are_those_of_a_dense_bounded_solve() -> None:
    tight = Bounds(torch.tensor([[0.0, 1.0]]).double().repeat(P - 15, 1), BOUNDS.eyelids, BOUNDS.eyes)
    states = [replace(s, expression=s.expression.abs().clamp(0, 1)) for s in _random_walk(6)]
    frames = [RawFrame(state, _information(i)) for i, state in enumerate(states)]
    smoother = replace(SMOOTHER, bounds=tight)
    M, b = _dense(frames, smoother)
    root = np.linalg.cholesky(M).T
    room = [tight.room(state) for state in states]
    box = tuple(np.concatenate([limits[side].numpy() for limits in room]) for side in (0, 1))
    exact = lsq_linear(root, -np.linalg.solve(root.T, b), (box[0] - 1e-12, box[1] + 1e-12), method="bvls").x
    found = _steps(frames, smoother.smoothed(frames)).reshape(-1)
    cut_off = np.clip(np.linalg.solve(M, -b), *box)

    def cost(d: np.ndarray) -> float:
        return float(0.5 * d @ M @ d + b @ d)

    assert ((found >= box[0] - 1e-12) & (found <= box[1] + 1e-12)).all()
    assert np.isclose(found, box[0]).any() or np.isclose(found, box[1]).any()
    # A few passes of an active set come within 0.1 % of the best cost; cutting off at the box does not.
    assert cost(found) - cost(exact) < 1e-3 * abs(cost(exact))
    assert cost(cut_off) - cost(exact) > 10 * max(cost(found) - cost(exact), 0)


def test_what_is_hardly_seen_is_smoothed_and_what_is_seen_stays() -> None:
    """A head that moves evenly; its distance is seen 2 mm wide, its place across to a hundredth of that."""
    rng = np.random.default_rng(0)
    count = 40
    std = np.full(P, 1e-4)
    std[Z] = 2e-3
    true = np.array([0, 0, 0.5]) + np.arange(count)[:, None] * [1e-3, -0.5e-3, 2e-3]
    noise = rng.standard_normal((count, 3)) * [0, 0, 2e-3]
    # A jerk across the line of sight, which the picture shows well.
    noise[20, 0] = 3e-3
    frames = [_seen(_moved(t=torch.from_numpy(t)), std) for t in true + noise]
    found = _series(SMOOTHER.smoothed(frames), "t")
    # 18 times measured.
    assert np.diff(found[:, 2], 2, axis=0).std() < 0.1 * np.diff(true[:, 2] + noise[:, 2], 2, axis=0).std()
    # 0.62 measured.
    assert np.abs(found[:, 2] - true[:, 2]).mean() < 0.75 * np.abs(noise[:, 2]).mean()
    # 0.38 of the 3 mm measured; the jerk is 15 spreads of the process.
    np.testing.assert_allclose(found[:, 0], true[:, 0] + noise[:, 0], atol=0.5e-3)


@pytest.mark.parametrize(("name", "place", "height"), [("eyelids", LID, 1.0), ("expression", LIP, 2.0)])
def test_a_sharp_event_that_is_seen_survives(name: str, place: int, height: float) -> None:
    """A blink and a closing of the lips of one frame, seen to 2 % of their height; hardly seen, they would be noise."""
    values = torch.zeros(21, getattr(neutral_state(MODEL), name).numel(), dtype=torch.float64)
    values[10, 0] = height
    for share, least, most in ((0.02, 0.95, 1.05), (10.0, -0.1, 0.2)):
        std = np.full(P, 1e-3)
        std[place] = share * height
        frames = [_seen(_moved(**{name: value}), std) for value in values]
        found = _series(SMOOTHER.smoothed(frames), name)[:, 0] / height
        assert least < found[10] < most
        assert np.abs(np.delete(found, 10)).max() < (0.05 if share < 1 else 0.2)


def test_a_jump_is_no_motion() -> None:
    """Two stills with a cut between them: each as if it were alone."""
    std = np.full(P, 1e-2)
    rng = np.random.default_rng(1)
    places = [torch.tensor([x, 0, 0.5]).double() + 1e-3 * torch.from_numpy(rng.standard_normal(3)) for x in [0.0] * 8]
    places += [place + torch.tensor([0.1, 0, 0.1]).double() for place in places]
    frames = [_seen(_moved(t=place), std, cut=i == 8) for i, place in enumerate(places)]
    alone = [*SMOOTHER.smoothed(frames[:8]), *SMOOTHER.smoothed(frames[8:])]
    np.testing.assert_allclose(_series(SMOOTHER.smoothed(frames), "t"), _series(alone, "t"), atol=1e-12)
    blurred = SMOOTHER.smoothed([replace(frame, cut=False) for frame in frames])
    assert np.abs(_series(blurred, "t") - _series(alone, "t")).max() > 5e-3


def _gap(lost: int) -> tuple[list[RawFrame], np.ndarray, np.ndarray]:
    """A head that moves and turns evenly, lost for a while and held where it was: frames, true places, true angles."""
    count = 10 + lost + 10
    places = np.array([0, 0, 0.5]) + np.arange(count)[:, None] * [2e-3, 0, 1e-3]
    angles = 0.02 * np.arange(count)
    std = np.full(P, 1e-4)
    frames = []
    for i in range(count):
        turn = exp_so3(torch.tensor([0, angles[i], 0]).double())
        state = _moved(t=torch.from_numpy(places[i]), R=turn @ neutral_state(MODEL).R)
        hidden = 10 <= i < 10 + lost
        frames.append(_lost(frames[9].state) if hidden else _seen(state, std))
    return frames, places, angles


def test_lost_frames_are_bridged() -> None:
    frames, places, angles = _gap(LONGEST_BRIDGE)
    states = SMOOTHER.smoothed(frames)
    np.testing.assert_allclose(_series(states, "t"), places, atol=1e-5)
    turns = [float(log_so3(state.R @ neutral_state(MODEL).R.T)[1]) for state in states]
    np.testing.assert_allclose(turns, angles, atol=1e-4)
    # They stood still before: 16 mm off.
    assert np.abs(_series([frame.state for frame in frames], "t") - places).max() > 0.01


def test_long_gaps_ends_and_cuts_are_not_bridged() -> None:
    frames, _, _ = _gap(LONGEST_BRIDGE + 1)
    states = SMOOTHER.smoothed(frames)
    for i in range(10, 10 + LONGEST_BRIDGE + 1):
        assert torch.equal(states[i].t, frames[9].state.t)
    np.testing.assert_allclose(_series(states, "t")[:10], _series(SMOOTHER.smoothed(frames[:10]), "t"), atol=1e-12)
    short, _, _ = _gap(3)
    for ends in (short[:13], [_lost(short[0].state), *short[:5]]):
        for frame, state in zip(ends, SMOOTHER.smoothed(ends), strict=True):
            assert frame.evidence is not None or torch.equal(state.t, frame.state.t)
    short[13] = replace(short[13], cut=True)
    assert torch.equal(SMOOTHER.smoothed(short)[11].t, short[11].state.t)


def test_links() -> None:
    frames, _, _ = _gap(2)
    assert links(frames)[1:-1].all()
    assert not links(frames)[[0, -1]].any()
    frames[12] = replace(frames[12], cut=True)
    assert links(frames)[[9, 10, 11, 12, 13]].tolist() == [True, False, False, False, True]


def test_a_bridged_expression_stays_in_its_box() -> None:
    """Lids on their way down when the face is lost, and up when it comes back, do not swing out."""
    lids = [0.0, 0.0, 0.4, 0.8, *[0.8] * 5, 0.8, 0.4, 0.0, 0.0]
    std = np.full(P, 1e-3)
    frames = [_seen(_moved(eyelids=torch.tensor([lid, lid]).double()), std) for lid in lids]
    frames[4:9] = [_lost(frame.state) for frame in frames[4:9]]
    found = _series(SMOOTHER.smoothed(frames), "eyelids")
    assert found.max() <= float(BOUNDS.eyelids[1])
    assert found.min() >= float(BOUNDS.eyelids[0])


def _noisy(count: int) -> list[RawFrame]:
    rng = np.random.default_rng(2)
    std = PRIOR.numpy() * 0.1
    std[:3], std[3:5], std[5] = 3e-3, 0.2e-3, 1e-3
    frames = []
    for i in range(count):
        state = _moved(t=torch.tensor([0.03 * np.sin(i / 7), 0, 0.5]).double())
        frames.append(_seen(BOUNDS.clamp(state.retract(torch.from_numpy(std * rng.standard_normal(P)))), std))
    frames[17] = _lost(frames[17].state)
    frames[31] = replace(frames[31], cut=True)
    return frames


def _streamed(frames: list[RawFrame], settings: SmootherSettings, block: int = 0) -> dict[int, FrameState]:
    lag = FixedLag(SMOOTHER, settings, block)
    final = []
    for frame in frames[lag.window_start :]:
        final += lag.add(frame)
    return dict([*final, *lag.finish()])


def test_blocks_equal_the_whole_clip() -> None:
    frames = _noisy(50)
    whole = SMOOTHER.smoothed(frames)
    found = _streamed(frames, SETTINGS)
    assert list(found) == list(range(50))
    steps = _steps([RawFrame(state, None) for state in whole], list(found.values())) / SMOOTHER.second_std.numpy()
    change = _steps(frames, whole) / SMOOTHER.second_std.numpy()
    assert np.abs(change).max() > 1
    # In spreads of the process: 0.0015 measured, of changes up to 3.6.
    assert np.abs(steps).max() < 0.005
    short = _streamed(frames, SETTINGS.model_copy(update={"lag": 2}))
    assert np.abs(_series(list(short.values()), "t") - _series(whole, "t")).max() > 1e-4


@pytest.mark.parametrize("count", [1, 2, 3, 12, 24, 25, 37])
def test_every_frame_comes_once_and_in_order(count: int) -> None:
    assert list(_streamed(_noisy(50)[:count], SETTINGS)) == list(range(count))


def test_a_frame_is_final_a_lag_after_its_block() -> None:
    lag = FixedLag(SMOOTHER, SETTINGS.model_copy(update={"block": 4, "lag": 3}))
    given = [[index for index, _ in lag.add(frame)] for frame in _noisy(50)[:12]]
    assert [len(numbers) for numbers in given] == [0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0]
    assert [index for index, _ in lag.finish()] == [8, 9, 10, 11]


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_stream_taken_up_again_gives_the_same(block: int) -> None:
    frames = _noisy(50)
    first, again = _streamed(frames, SETTINGS), _streamed(frames, SETTINGS, block)
    assert list(again) == list(range(block * SETTINGS.block, 50))
    for index, state in again.items():
        for name, value in state.tensors.items():
            assert torch.equal(value, getattr(first[index], name)), (index, name)


def test_light_and_held_unknowns_stay() -> None:
    held = FREE.clone()
    held[6:9] = True
    frames = [RawFrame(state, _information(i)) for i, state in enumerate(_random_walk(5))]
    for frame, state in zip(frames, replace(SMOOTHER, held=held).smoothed(frames), strict=True):
        assert torch.equal(state.light, frame.state.light)
        assert torch.equal(state.jaw, frame.state.jaw)
        assert not torch.equal(state.t, frame.state.t)


def test_nothing_and_too_little() -> None:
    assert SMOOTHER.smoothed([]) == []
    blind = Evidence(torch.zeros(P, P, dtype=torch.float64), torch.ones(P, dtype=torch.float64))
    frames = [RawFrame(random_state(MODEL, i), blind) for i in range(3)]
    for frame, state in zip(frames, SMOOTHER.smoothed(frames), strict=True):
        assert torch.equal(state.t, frame.state.t)
    lost = [_lost(random_state(MODEL, i)) for i in range(3)]
    assert [state.t.tolist() for state in SMOOTHER.smoothed(lost)] == [frame.state.t.tolist() for frame in lost]


def test_a_poor_frame_is_hardly_believed() -> None:
    """Landmarks that slid off under a hand: a frame far from its neighbours that says so itself."""
    std = np.full(P, 1e-3)
    off = torch.tensor([0.05, 0, 0]).double()
    frames = [_seen(neutral_state(MODEL), std) for _ in range(9)]
    frames[4] = _seen(_moved(t=neutral_state(MODEL).t + off), std)
    believed, doubted = (
        float(SMOOTHER.smoothed([*frames[:4], replace(frames[4], poor=poor), *frames[5:]])[4].t[0])
        for poor in (False, True)
    )
    # 15 and 2.3 mm measured.
    assert believed > 0.01
    assert doubted < 0.004


def test_more_noise_smooths_more() -> None:
    frames = _noisy(50)
    rough = [
        np.diff(_series(replace(SMOOTHER, noise=x).smoothed(frames), "t")[:17], 2, axis=0).std() for x in (1, 4, 16)
    ]
    assert rough[0] > rough[1] > rough[2]


@pytest.mark.parametrize("steps", [1, 4])
def test_evidence_is_free_of_the_pull_of_time(steps: int) -> None:
    """What the frame itself says (here: its prior alone) comes out, wherever the prediction drew the solution."""
    model, energy = MODEL, EnergySettings()
    prior = frame_prior(model, energy)
    prior.inverse_std[:6] = 1 / PRIOR[:6] / 0.05
    target = prior.target.retract(0.02 * torch.ones(P, dtype=torch.float64))
    temporal = GaussianTerm(target, 1 / (0.5 * PRIOR))
    problem = FrameProblem(
        intrinsics=None,  # type: ignore[arg-type]  # no landmarks, no colours
        landmarks=(),
        photometric=None,
        gaussians=(prior, temporal),
        gaze=GazeSymmetryTerm(),
        bounds=frame_bounds(model),
        scale=step_scale(model, energy),
        held=FREE,
    )
    start = prior.target.retract(0.01 * torch.ones(P, dtype=torch.float64))
    solution = minimise(problem, start, SolverSettings(max_steps=steps, damping=1e-12))
    evidence = frame_evidence(solution, temporal)
    own = solution.state.retract(-torch.linalg.solve(evidence.H, evidence.g))
    ones = torch.ones(P, dtype=torch.float64)
    assert float(GaussianTerm(prior.target, ones).residual(solution.state).abs().max()) > 0.002
    # 1e-6 measured: the curvature of rotations.
    assert float(GaussianTerm(prior.target, ones).residual(own).abs().max()) < 1e-5
    pulled = frame_evidence(solution, None)
    assert float(torch.linalg.solve(pulled.H, pulled.g).abs().max()) < 1e-5
