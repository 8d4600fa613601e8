"""Chunks of a clip tracked in step, against the track frame by frame; and through the stage, with a kill."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tracked_clip
from batched_case import BLACK, landmarks_apart_px
from rendered_clip import RenderedClip, rotation_degrees

from benchmarks import devices
from stages import chunked
from stages.pipeline import run_stages
from stages.subject import Subject
from tracker.batched import chunks
from tracker.batched.chunks import chunk_count, reading_order, resumed_first, windows
from tracker.batched.solver import BatchSolver
from tracker.batched.track import track_batch, track_chunks
from tracker.clip import FrameInput
from tracker.config import Config
from tracker.flow import flow_appearance
from tracker.frame_file import load_frame
from tracker.frame_solver import FrameSolver
from tracker.track import Past, TrackedFrame, predict, track_frame

COUNT = 22
# Three chunks: 0 to 7, 8 to 15, 16 to 21.
CHUNK, RUN_IN = 8, 3


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_FRAMES", CHUNK)
    monkeypatch.setattr(chunks, "RUN_IN_FRAMES", RUN_IN)


@pytest.fixture(scope="module")
def clip(calibrated) -> RenderedClip:
    return calibrated[0]


@pytest.fixture(scope="module")
def solver(calibrated) -> FrameSolver:
    _, task, _, calibration = calibrated
    return FrameSolver(calibration.clip, task.energy, task.tracking, task.held)


@pytest.fixture(scope="module")
def frames(clip: RenderedClip) -> list[FrameInput]:
    return [clip.frame(28 + number) for number in range(COUNT)]


def _one_by_one(solver: FrameSolver, frames: list[FrameInput]) -> list[TrackedFrame]:
    past, tracked = Past(None, None, ""), []
    for frame in frames:
        tracked.append(track_frame(solver, frame, past))
        past = past.behind(tracked[-1])
    return tracked


def test_landmarks_that_lead_away_are_left(solver: FrameSolver, clip: RenderedClip, device: str) -> None:
    """In a batch, too, and its neighbour does not notice."""
    past = Past(None, None, "")
    for number in (28, 29):
        past = past.behind(track_frame(solver, clip.frame(number), past))
    frames = [clip.misled(30, 25), clip.frame(30)]
    (misled, _), (led, _) = track_batch(BatchSolver(solver, device), frames, [past, past], [None, None])
    assert [misled.status, led.status] == ["poor", "ok"]
    # 0.01 degrees measured; followed, the landmarks lead 12 degrees away.
    assert rotation_degrees(misled.state.R, led.state.R) < 0.3
    assert rotation_degrees(led.state.R, track_frame(solver, frames[1], past).state.R) < 0.01


def _in_chunks(solver: FrameSolver, device: str, frames: list[FrameInput], batch: int) -> list[TrackedFrame]:
    pictures = (frames[index] for index in reading_order(0, len(frames), batch))
    found = list(track_chunks(BatchSolver(solver, device), pictures, frames.__getitem__, (0, len(frames)), batch))
    assert [index for index, _, _ in found] == list(range(len(frames)))
    assert all(milliseconds > 0 for _, _, milliseconds in found)
    return [tracked for _, tracked, _ in found]


def test_a_clip_comes_out_as_frame_by_frame(solver: FrameSolver, device: str, frames: list[FrameInput]) -> None:
    ours, theirs = _in_chunks(solver, device, frames, 16), _one_by_one(solver, frames)
    face = solver.clip.samples.surface
    for a, b in zip(ours, theirs, strict=True):
        assert (a.status, a.cut) == (b.status, b.cut)
        # 0.04 px and 0.12 mm measured, where the landmarks have 0.3 px of noise.
        assert landmarks_apart_px(a, b) < 0.1
        points = [
            face.at(solver.clip.model, _vertices(solver, frame)).double() @ frame.state.R.T + frame.state.t
            for frame in (a, b)
        ]
        assert float((points[0] - points[1]).norm(dim=1).median()) < 3e-4
        assert a.solution.correlation == pytest.approx(b.solution.correlation, abs=5e-3)
        assert (a.raw().evidence is None) == (b.raw().evidence is None)
    # From one chunk to the next nothing jumps: the path's own step there, to 0.012 px.
    for border in (CHUNK, 2 * CHUNK):
        step, expected = (landmarks_apart_px(track[border], track[border - 1]) for track in (ours, theirs))
        assert step == pytest.approx(expected, abs=0.05)


def _vertices(solver: FrameSolver, frame: TrackedFrame) -> torch.Tensor:
    params = frame.state.head_params(solver.clip.shape)
    return solver.clip.model.vertices(type(params)(**{k: v.float() for k, v in vars(params).items() if v is not None}))


def test_the_batch_does_not_matter(solver: FrameSolver, device: str, frames: list[FrameInput]) -> None:
    """Chunks depend on the clip alone; how many are solved at once changes rounding."""
    one, three = _in_chunks(solver, device, frames[:12], 1), _in_chunks(solver, device, frames[:12], 3)
    for a, b in zip(one, three, strict=True):
        # 0.003 px measured.
        assert landmarks_apart_px(a, b) < 0.02


def test_it_repeats_bit_by_bit(solver: FrameSolver, device: str, frames: list[FrameInput]) -> None:
    first, again = (_in_chunks(solver, device, frames[:10], 2) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        for name, value in a.state.tensors.items():
            assert torch.equal(value, getattr(b.state, name)), name


def test_lost_frames_inside_a_chunk(solver: FrameSolver, device: str, frames: list[FrameInput]) -> None:
    dark = [BLACK if number in (11, 12) else frame for number, frame in enumerate(frames[:16])]
    ours, theirs = _in_chunks(solver, device, dark, 4), _one_by_one(solver, dark)
    assert [frame.status for frame in ours] == ["ok"] * 11 + ["lost"] * 2 + ["ok"] * 3
    held = predict(Past(ours[10].state, ours[9].state, "ok"))
    assert held is not None
    for number in (11, 12):
        assert torch.allclose(ours[number].state.R, held.R)
        assert torch.allclose(ours[number].state.t, held.t)
        assert ours[number].raw().evidence is None
    for a, b in zip(ours, theirs, strict=True):
        assert a.cut == b.cut
        assert landmarks_apart_px(a, b) < 0.15


@pytest.mark.parametrize("dark", [range(5, 10), range(4, 16), range(0, 9)])
def test_lost_frames_across_a_border(solver: FrameSolver, device: str, frames: list[FrameInput], dark: range) -> None:
    """The second chunk begins within the dark: it is bridged from the chunk before, as frame by frame."""
    seen = [BLACK if number in dark else frame for number, frame in enumerate(frames)]
    ours, theirs = _in_chunks(solver, device, seen, 4), _one_by_one(solver, seen)
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert (a.status, a.cut) == (b.status, b.cut), number
        assert landmarks_apart_px(a, b) < 0.15, number


@pytest.mark.parametrize("with_flow", [False, True])
def test_colours_bridge_missed_detections_across_a_border(
    solver: FrameSolver, clip: RenderedClip, device: str, frames: list[FrameInput], with_flow: bool
) -> None:
    if with_flow:
        valid = np.ones(clip.texture.shape[:2], np.float32)
        solver = replace(solver, appearance=flow_appearance(clip.model, clip.texture, valid))
    missed = [replace(f, dense_px=None) if number in (3, 7, 8, 9) else f for number, f in enumerate(frames[:14])]
    ours, theirs = _in_chunks(solver, device, missed, 4), _one_by_one(solver, missed)
    assert [frame.status for frame in ours] == [frame.status for frame in theirs]
    assert [ours[number].status for number in (3, 7, 8, 9)] == ["poor"] * 4
    # Flow's solve comes before those of the levels.
    solves = [len(track[3].solution.outcomes) for track in (ours, theirs)]
    assert solves == [solver.tracking.levels + with_flow] * 2
    for a, b in zip(ours, theirs, strict=True):
        assert landmarks_apart_px(a, b) < 0.15


def test_a_cut_inside_a_chunk(solver: FrameSolver, device: str, clip: RenderedClip, frames: list[FrameInput]) -> None:
    shown = [*frames[:11], *(clip.frame(number) for number in range(72, 77))]
    ours, theirs = _in_chunks(solver, device, shown, 4), _one_by_one(solver, shown)
    assert ours[11].cut
    assert [frame.cut for frame in ours] == [frame.cut for frame in theirs]
    assert rotation_degrees(ours[11].state.R, clip.state(72).R) < 3
    for a, b in zip(ours, theirs, strict=True):
        assert landmarks_apart_px(a, b) < 0.15


# ---- the order of work


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31, 64, 65])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_windows_hold_every_frame_once(count: int, batch: int) -> None:
    cut = [chunk for window in windows(0, count, batch) for chunk in window]
    assert [i for chunk in cut for i in range(chunk.first, chunk.stop)] == list(range(count))
    assert all(chunk.early == max(chunk.first - RUN_IN, 0) for chunk in cut)
    assert max(len(window) for window in windows(0, count, batch)) <= batch
    order = list(reading_order(0, count, batch))
    assert sorted(set(order)) == list(range(count))
    assert len(order) == count + sum(chunk.first - chunk.early for chunk in cut)


def test_a_run_is_taken_up_where_a_face_is_known() -> None:
    face = replace(BLACK, dense_px=np.ones((478, 2)))

    def load(dark: range) -> Callable[[int], FrameInput]:
        return lambda index: BLACK if index in dark else face

    assert [resumed_first(load(range(0)), needed, 2) for needed in (0, 15, 16, 40)] == [0, 0, 16, 32]
    assert resumed_first(load(range(31, 32)), 40, 2) == 32
    assert resumed_first(load(range(29, 32)), 40, 2) == 16
    assert resumed_first(load(range(50)), 40, 2) == 0


def test_the_device_chooses_where_the_config_does_not() -> None:
    assert [chunk_count(0, "cpu"), chunk_count(3, "cpu"), chunk_count(0, "cuda"), chunk_count(3, "cuda")] == [
        0,
        3,
        16,
        3,
    ]


def test_only_one_window_is_read_ahead(solver: FrameSolver, device: str, frames: list[FrameInput]) -> None:
    """Memory does not grow with the clip: what lies behind a window is read once its first frame is asked for."""
    read: list[int] = []

    def pictures() -> Iterator[FrameInput]:
        for index in reading_order(0, len(frames), 1):
            read.append(index)
            yield frames[index]

    found = track_chunks(BatchSolver(solver, device), pictures(), frames.__getitem__, (0, len(frames)), 1)
    assert next(found)[0] == 0
    assert read == list(range(CHUNK))
    assert [next(found)[0] for _ in range(CHUNK)] == list(range(1, CHUNK + 1))
    assert read == [*range(CHUNK), *range(CHUNK - RUN_IN, 2 * CHUNK)]


def test_the_benchmark_times_each_way(solver: FrameSolver, frames: list[FrameInput]) -> None:
    rows = devices.measure(solver, frames[:5], [2], 1)
    names = ["kernels, cpu", *(f"batch of 2, {name}" for name in devices.devices())]
    assert list(rows) == names
    assert all(row["ms a frame, least"] > 0 for row in rows.values())
    for name in names[1:]:
        assert rows[name]["landmarks px, worst frame"] < 0.1
        assert 0 < rows[name]["vertices mm, worst frame"] < 1
        assert rows[name]["other status"] == 0


# ---- the stage


STAGES = ("frames", "crop", "landmarks", "identity", "calibration", "tracking")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Path]:
    """A short clip tracked frame by frame."""
    home = tmp_path_factory.mktemp("whole")
    tracked_clip.write_clip(home)
    subject, config = tracked_clip.load_subject(home)
    run_stages(subject, config, STAGES, "cpu", False)
    return subject, home


def _copy(home: Path, target: Path, *overrides: str) -> tuple[Subject, Config]:
    shutil.copytree(home, target)
    return tracked_clip.load_subject(target, "tracking.batch=2", *overrides)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class _Killed(Exception):
    pass


@pytest.mark.parametrize("smoothed", [True, False])
def test_the_stage_tracks_in_chunks_and_survives_a_kill(
    whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, smoothed: bool
) -> None:
    """Chunks of one frame, two at once: three windows of a clip of five frames."""
    monkeypatch.setattr(chunks, "CHUNK_FRAMES", 1)
    monkeypatch.setattr(chunks, "RUN_IN_FRAMES", 2)
    reference, home = whole
    overrides = ("smoother.block=2", "smoother.lag=1", f"smoother.enabled={str(smoothed).lower()}")
    subject, config = _copy(home, tmp_path / "chunks", *overrides)
    calibration = subject.calibration_path.read_bytes()
    run_stages(subject, config, STAGES, device, False)
    # The setting is the tracking's own: nothing before it runs again.
    assert subject.calibration_path.read_bytes() == calibration
    assert not subject.raw_dir.exists()
    for index in range(tracked_clip.TRACKED):
        ours, theirs = (load_frame(x.checkpoint_path(index))["track"] for x in (subject, reference))
        assert ours["status"] == theirs["status"]
        # 0.05 px measured with run-ins of two frames; smoothing changes more than that without its settings here.
        assert np.nanmedian(np.linalg.norm(ours["landmarks478"] - theirs["landmarks478"], axis=1)) < 0.5

    killed, config = _copy(home, tmp_path / "killed", *overrides)
    records = chunked.chunked_records
    calls: list[int] = []

    def until_killed(*arguments: object) -> Iterator[tuple[int, object]]:
        for index, record in records(*arguments):
            if len(calls) == 4:
                raise _Killed
            calls.append(index)
            yield index, record

    monkeypatch.setattr("stages.tracking.chunked_records", until_killed)
    with pytest.raises(_Killed):
        run_stages(killed, config, ("tracking",), device, False)
    assert len(list(killed.checkpoint_dir.glob("*"))) == (2 if smoothed else 4)
    before = {path.name: path.stat().st_mtime_ns for path in killed.checkpoint_dir.iterdir()}
    calls.clear()
    monkeypatch.setattr("stages.tracking.chunked_records", records)
    run_stages(killed, config, ("tracking",), device, False)
    assert _bytes(killed.checkpoint_dir) == _bytes(subject.checkpoint_dir)
    assert _bytes(killed.mesh_dir) == _bytes(subject.mesh_dir)
    assert {name: (killed.checkpoint_dir / name).stat().st_mtime_ns for name in before} == before


def test_flow_in_every_frame_keeps_to_the_cpu(whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batched path has flow only where no face was found, so it does not take what asks for more."""
    _, home = whole
    subject, config = _copy(home, tmp_path / "flow", "energy.flow_always=true")
    monkeypatch.setattr("stages.tracking.chunked_records", lambda *_: pytest.fail("tracked in chunks"))
    run_stages(subject, config, STAGES, "cpu", False)
    assert len(list(subject.checkpoint_dir.glob("*"))) == tracked_clip.TRACKED
