"""The batched solve against that of single frames: whole frames, and no question to the host."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from batched_case import NUMBERS, Case, converted, problems

from tracker.batched import surface
from tracker.batched.minimise import evidence_of, minimise
from tracker.batched.pictures import BatchLevel
from tracker.batched.solver import BatchSolver, Link
from tracker.batched.state import BatchState
from tracker.camera import Intrinsics
from tracker.frame_solver import FrameSolution, FrameSolver
from tracker.solver import SolverSettings
from tracker.track import fitted478, temporal_term

LENS = Intrinsics(700.0, 260.0, 250.0)


# ---- whole frames


def _solved_alike(single: FrameSolver, ours: FrameSolution, theirs: FrameSolution) -> None:
    apart = np.linalg.norm(fitted478(single, ours.state) - fitted478(single, theirs.state), axis=1)
    # 3e-5 px and 5e-5 mm measured; where a place on the border of two pixels falls to the other one, which a start
    # moved by 1e-7 m is enough for, a solve ends 4e-3 px, 8e-3 mm and 1.6e-3 of an expression away.
    assert np.nanmax(apart) < 0.02
    assert float((ours.state.t - theirs.state.t).norm()) < 4e-5
    assert torch.allclose(ours.state.expression, theirs.state.expression, atol=6e-3)
    assert torch.allclose(ours.state.light, theirs.state.light, atol=1e-3)
    assert ours.correlation == pytest.approx(theirs.correlation, abs=1e-4)
    assert ours.photometric_l1 == pytest.approx(theirs.photometric_l1, rel=1e-3)
    steps = [(len(a.dampings), len(b.dampings)) for a, b in zip(ours.outcomes, theirs.outcomes, strict=True)]
    assert all(abs(here - there) <= 1 for here, there in steps)
    assert {ours.status, theirs.status} <= {"converged", "max iterations"}
    assert [x.costs[-1] for x in ours.outcomes] == pytest.approx([x.costs[-1] for x in theirs.outcomes], rel=1e-3)
    assert ours.evidence is not None
    assert theirs.evidence is not None
    size = theirs.evidence.H.diagonal().sqrt()
    differences = ((ours.evidence.H - theirs.evidence.H) / (size[:, None] * size)).abs()
    # 4e-6 measured; where the two ends of a solve lie 2e-3 px apart, 3e-2 at an unknown that few samples tell of.
    assert float(differences.max()) < 0.1
    assert float(differences.median()) < 1e-4
    assert float(((ours.evidence.g - theirs.evidence.g) / size).abs().max()) < 0.1
    assert ours.state.R.dtype == ours.evidence.H.dtype == torch.float64


def test_frames_come_out_as_by_themselves(case: Case) -> None:
    """One frame on its own, one linked to a prediction, one linked without a face."""
    frames = [case.clip.frame(number) for number in NUMBERS]
    frames[2] = replace(frames[2], dense_px=None)
    starts = [*case.starts(frames[:1]), case.clip.state(30), case.clip.state(59)]
    predicted = [None, case.clip.state(30), case.clip.state(59)]
    links = [None if then is None else Link(then) for then in predicted]
    found = case.batch.solve(frames, starts, links)
    for frame, start, then, link, ours in zip(frames, starts, predicted, links, found, strict=True):
        temporal = None if then is None else temporal_term(case.single, then)
        _solved_alike(case.single, ours, case.single.solve(frame, start, temporal, start.light))
        (alone,) = case.batch.solve([frame], [start], [link])
        # 1.3e-6 and 1.1e-4 measured: products of one frame and of three are summed up in another order, in float32.
        assert float((alone.state.t - ours.state.t).norm()) < 1e-5
        assert torch.allclose(alone.state.expression, ours.state.expression, atol=1e-3)


def test_only_a_prediction_shortens_the_landmark_solve(case: Case) -> None:
    frame, state = case.clip.frame(30), case.clip.state(30)
    start = replace(state, t=state.t + torch.tensor([0.001, 0.0, 0.002], dtype=torch.float64))
    linked, alone, link_only = case.batch.solve([frame] * 3, [start] * 3, [Link(start), None, Link(start, pose=False)])
    steps = [len(solution.outcomes[0].dampings) for solution in (linked, alone, link_only)]
    # 2, 3 and 3 measured.
    assert steps[0] < min(steps[1:])
    temporal = temporal_term(case.single, start)
    for ours, pull in ((linked, temporal), (alone, None)):
        single = case.single.solve(frame, start, pull, start.light)
        assert abs(len(ours.outcomes[0].dampings) - len(single.outcomes[0].dampings)) <= 1


def test_a_frame_without_anything_keeps_its_state(case: Case) -> None:
    """No face, and the head out of the picture: nothing is solved, and its neighbour does not notice."""
    away = replace(case.clip.state(30), t=torch.tensor([0.8, 0.0, 0.5], dtype=torch.float64))
    frames = [replace(case.clip.frame(30), dense_px=None), case.clip.frame(31)]
    lost, seen = case.batch.solve(frames, [away, case.clip.state(30)], [Link(away), Link(case.clip.state(30))])
    assert lost.outcomes == ()
    assert lost.evidence is None
    assert np.isnan(lost.correlation)
    assert np.isnan(lost.photometric_l1)
    assert torch.allclose(lost.state.t, away.t, atol=1e-7)
    assert torch.allclose(lost.state.light, away.light, atol=1e-6)
    temporal = temporal_term(case.single, case.clip.state(30))
    _solved_alike(case.single, seen, case.single.solve(frames[1], case.clip.state(30), temporal, away.light))


def test_a_broken_frame_says_so_and_breaks_no_other(case: Case) -> None:
    state = case.clip.state(30)
    broken = replace(state, expression=torch.full_like(state.expression, torch.nan))
    frames = [case.clip.frame(31), case.clip.frame(31)]
    bad, good = case.batch.solve(frames, [broken, state], [Link(broken), Link(state)])
    assert bad.status == "non-finite"
    assert good.status in ("converged", "max iterations")
    assert good.state.is_finite()


def test_a_link_without_pose_leaves_the_pose_alone(case: Case) -> None:
    """A start that is off in pose: a full link holds it back, one of the head alone does not."""
    frame, state = case.clip.frame(30), case.clip.state(30)
    # The camera that was found stands elsewhere than the true one; what counts is where it puts the head.
    there = case.batch.solve([frame], [state], [None])[0].state
    off = replace(there, t=there.t + torch.tensor([0.008, 0, 0.024], dtype=torch.float64))
    links = [None, Link(off, pose=False), Link(off)]
    alone, free, pulled = (found.state.t for found in case.batch.solve([frame] * 3, [off] * 3, links))
    # 0.03 and 5.9 mm measured.
    assert float((free - alone).norm()) < 0.3 * float((pulled - alone).norm())


# ---- nothing is asked of the device inside a solve


@contextlib.contextmanager
def _no_waiting(device: str) -> Iterator[None]:
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_loop_never_waits_for_the_device(case: Case) -> None:
    """On a GPU torch itself forbids it; the CPU's turn is the next test."""
    _, problem, states = problems(case, 0)
    start = BatchState.of(states, case.batch.device)
    asked = torch.ones(len(states), dtype=torch.bool, device=case.batch.device)
    with _no_waiting(case.batch.device):
        solution = minimise(problem, start, asked, SolverSettings(max_steps=3))
        evidence_of(problem, solution)
    assert bool(torch.isfinite(solution.state.flat()).all())


def test_a_solve_runs_without_any_values(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's device without values (`meta`): a question to the host, or a tensor left on the CPU, is an error.

    Only the depth buffers, which count their triangles, are left out.
    """

    def empty(values: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(values, device="meta")

    def without_values(points: torch.Tensor, _triangles: object, _lens: object, size: tuple[int, int]) -> torch.Tensor:
        return points.new_empty(len(points), *size)

    _, problem, states = problems(case, 0)
    calibrated = case.batch.on_device.clip
    there = replace(converted(replace(case.batch.on_device, clip=None), empty), clip=calibrated)
    solver = BatchSolver(case.single, "meta")
    solver.__dict__["on_device"] = there
    monkeypatch.setattr(surface, "depth_buffers", without_values)
    problem = converted(replace(problem, contrast=None), empty)
    start = converted(BatchState.of(states, "cpu"), empty)
    levels = [BatchLevel(torch.empty(3, 256 >> k, 256 >> k, 3, device="meta"), 0.5**k) for k in range(2)]
    stages, seen, term = solver._descend(
        problem, levels, (start, torch.ones(3, dtype=torch.bool, device="meta")), [True] * 3
    )
    H, g = evidence_of(problem, stages[-1][0])
    lit, l1 = solver._lit(levels[0], stages[-1][0].state, seen)
    correlation = term.correlation(lit, LENS, seen.mask)
    assert [x.device.type for x in (H, g, lit.light, l1, correlation)] == ["meta"] * 5
    assert H.shape == (3, 65, 65)
    with pytest.raises(RuntimeError, match="meta"):
        bool(l1.isnan().any())
