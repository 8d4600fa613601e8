"""The runner: order, skipping, resuming, setting aside; on stages made for the test."""

import ast
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stages import beside, files, manifest, pipeline
from stages.context import StageContext
from stages.subject import Subject
from stages.warm_up import WarmUp
from tracker import warm_up
from tracker.config import Config
from tracker.errors import InputError, SubjectError


@dataclass
class FakeStage:
    """Writes one file a frame, each made from the input and the frame rate."""

    NAME: str
    source: str
    target: str
    RESUMES: bool = False
    fail_at: int | None = None
    runs: list[bool] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)

    def config_part(self, config: Config) -> dict[str, Any]:
        return {"fps": config.fps} if self.NAME == "frames" else {"crop": {"bbox_scale": config.bbox_scale}}

    def inputs(self, subject: Subject, config: Config) -> list[Path]:
        return [subject.input_dir / self.source]

    def outputs(self, subject: Subject, config: Config) -> list[Path]:
        return [subject.input_dir / self.target]

    def run(self, subject: Subject, config: Config, context: StageContext) -> None:
        self.runs.append(context.resume)
        for i in context.progress(range(3), 3):
            path = subject.input_dir / self.target / f"{i}.txt"
            if path.exists():
                continue
            if self.fail_at == i:
                path.with_name(f"{i}.txt.tmp").write_text("half")
                raise SubjectError("killed")
            files.write_text(path, f"{self.NAME} {i} {config.fps}")
            self.wrote.append(path.name)
        context.notes["frames"] = 3


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeStage]:
    made = {"frames": FakeStage("frames", "video.txt", "source"), "crop": FakeStage("crop", "source", "images")}
    for module in (pipeline, beside):
        monkeypatch.setattr(module, "load_stage", lambda name: made[name])
    return made


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = Subject(tmp_path / "in", tmp_path / "out")
    files.write_text(made.input_dir / "video.txt", "video")
    return made


def _run(subject: Subject, force: bool = False, **config: Any) -> None:
    pipeline.run_stages(subject, Config(actor="x", **config), ("frames", "crop"), "cpu", force)


def _plan(subject: Subject, force: bool = False, **config: Any) -> list[tuple[str, bool, str]]:
    return pipeline.plan(subject, Config(actor="x", **config), ("frames", "crop"), force)


def test_second_run_does_nothing(subject: Subject, stages: dict[str, FakeStage]) -> None:
    assert [(step[0], step[2]) for step in _plan(subject)] == [("frames", "never run"), ("crop", "never run")]
    assert not subject.output_dir.exists()
    _run(subject)
    _run(subject)
    assert [len(stage.runs) for stage in stages.values()] == [1, 1]
    assert _plan(subject) == [("frames", False, "up to date"), ("crop", False, "up to date")]
    written = manifest.read(subject.manifest_path("crop"))
    assert written is not None
    assert written.complete
    assert written.notes == {"frames": 3}


def test_what_a_kill_left_beside_outputs_and_manifests_goes(subject: Subject, stages: dict[str, FakeStage]) -> None:
    """Temporary names are used once, so that no later writer takes their place."""
    left = [path.with_name(f"{path.name}.7-7-abc.tmp") for path in (subject.images_dir, subject.manifest_path("crop"))]
    for path in left:
        files.write_text(path, "half")
    _run(subject)
    assert not [path for path in left if path.exists()]


def test_changed_config_runs_what_depends_on_it(subject: Subject, stages: dict[str, FakeStage]) -> None:
    _run(subject)
    assert _plan(subject, bbox_scale=3)[1] == ("crop", True, "config changed: crop.bbox_scale")
    steps = _plan(subject, fps=30)
    assert steps[0] == ("frames", True, "config changed: fps")
    assert steps[1][1]
    assert steps[1][2].startswith("depends on frames")
    _run(subject, fps=30)
    assert [len(stage.runs) for stage in stages.values()] == [2, 2]
    assert (subject.source_dir / "0.txt").read_text() == "frames 0 30.0"


def test_changed_input_and_output_and_force(subject: Subject, stages: dict[str, FakeStage]) -> None:
    _run(subject)
    (subject.images_dir / "1.txt").unlink()
    assert _plan(subject)[1] == ("crop", True, "output changed: images")
    _run(subject)
    assert len(list(subject.images_dir.iterdir())) == 3
    (subject.input_dir / "video.txt").write_text("other")
    assert _plan(subject)[0] == ("frames", True, "input changed: video.txt")
    assert [step[2] for step in _plan(subject, force=True)] == ["forced", "forced"]


def test_stale_outputs_of_a_longer_clip_are_removed(subject: Subject, stages: dict[str, FakeStage]) -> None:
    _run(subject)
    (subject.images_dir / "99.txt").write_text("from an earlier, longer clip")
    _run(subject)
    assert sorted(path.name for path in subject.images_dir.iterdir()) == ["0.txt", "1.txt", "2.txt"]


@pytest.mark.parametrize("resumes", [False, True])
def test_interrupted_stage_resumes_or_starts_afresh(
    subject: Subject, stages: dict[str, FakeStage], resumes: bool
) -> None:
    crop = stages["crop"]
    crop.RESUMES, crop.fail_at = resumes, 1
    with pytest.raises(SubjectError):
        _run(subject)
    assert _plan(subject)[1] == ("crop", True, "interrupted")
    crop.fail_at = None
    _run(subject)
    assert crop.runs == [False, resumes]
    assert crop.wrote == (["0.txt", "1.txt", "2.txt"] if resumes else ["0.txt", "0.txt", "1.txt", "2.txt"])
    assert sorted(path.name for path in subject.images_dir.iterdir()) == ["0.txt", "1.txt", "2.txt"]
    assert len(stages["frames"].runs) == 1


def test_interrupted_stage_with_another_config_starts_afresh(subject: Subject, stages: dict[str, FakeStage]) -> None:
    crop = stages["crop"]
    crop.RESUMES, crop.fail_at = True, 1
    with pytest.raises(SubjectError):
        _run(subject)
    crop.fail_at = None
    _run(subject, bbox_scale=3)
    assert crop.runs == [False, False]


def test_what_this_project_did_not_make_is_kept(subject: Subject, stages: dict[str, FakeStage]) -> None:
    for attempt, kept in ((1, "images.old"), (2, "images.old2")):
        files.write_text(subject.images_dir / "mine.txt", f"precious {attempt}")
        _run(subject)
        assert (subject.input_dir / kept / "mine.txt").read_text() == f"precious {attempt}"
        assert not (subject.images_dir / "mine.txt").exists()
        files.remove(subject.manifest_path("crop"))
        files.remove(subject.images_dir)


def test_missing_input_names_the_stages_before(subject: Subject, stages: dict[str, FakeStage]) -> None:
    with pytest.raises(InputError, match=r"crop: source is missing; run the stages before it first \(frames\)"):
        pipeline.run_stages(subject, Config(actor="x"), ("crop",), "cpu", False)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((None, None, None), pipeline.STAGES),
        (("crop, frames", None, None), ("frames", "crop")),
        ((None, "tracking", None), ("tracking", "review")),
        ((None, None, "crop"), ("frames", "crop")),
        ((None, "crop", "landmarks"), ("crop", "landmarks")),
    ],
)
def test_stage_selection(chosen: tuple[str | None, str | None, str | None], expected: tuple[str, ...]) -> None:
    assert pipeline.select_stages(*chosen) == expected


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (("crops", None, None), "unknown stage 'crops'; the stages are frames, crop"),
        (("crop", "crop", None), "--stages cannot be combined"),
        ((None, "review", "crop"), "--from review comes after --until crop"),
    ],
)
def test_bad_stage_selection(chosen: tuple[str | None, str | None, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.select_stages(*chosen)


# ---- a stage beside another


@dataclass
class Follower(FakeStage):
    """Copies each file of the leader as it appears, and notes how many there were at that moment."""

    seen: list[int] = field(default_factory=list)

    def run(self, subject: Subject, config: Config, context: StageContext) -> None:
        self.runs.append(context.resume)
        for i in range(3):
            source = subject.input_dir / self.source / f"{i}.txt"
            context.wait_for(source)
            self.seen.append(len(list(source.parent.glob("*.txt"))))
            target = subject.input_dir / self.target / source.name
            files.write_text(target, source.read_text())
            self.wrote.append(target.name)
        if self.fail_at is not None:
            raise SubjectError("the follower failed")


@dataclass
class Leader(FakeStage):
    """Goes on only when the follower has made its copy of the file before."""

    def run(self, subject: Subject, config: Config, context: StageContext) -> None:
        for i in range(3):
            if self.fail_at == i:
                raise SubjectError("the leader failed")
            files.write_text(subject.input_dir / self.target / f"{i}.txt", f"{i}")
            deadline = time.monotonic() + 20
            while not (subject.input_dir / "images" / f"{i}.txt").exists():
                assert time.monotonic() < deadline, "the follower does not follow"
                time.sleep(0.001)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Leader, Follower]:
    made = Leader("frames", "video.txt", "source"), Follower("crop", "source", "images")
    for module in (pipeline, beside):
        monkeypatch.setattr(module, "load_stage", {"frames": made[0], "crop": made[1]}.__getitem__)
    monkeypatch.setattr(beside, "FOLLOWS", {"crop": "frames"})
    return made


def test_follower_works_on_files_as_they_appear(pair: tuple[Leader, Follower], subject: Subject) -> None:
    config = Config(actor="x")
    pipeline.run_stages(subject, config, ("frames", "crop"), "cpu", False)
    assert pair[1].seen == [1, 2, 3]
    assert pair[1].runs == [False]
    for name in ("frames", "crop"):
        made = manifest.read(subject.manifest_path(name))
        assert made is not None
        assert made.complete
    pipeline.run_stages(subject, config, ("frames", "crop"), "cpu", False)
    assert pair[1].runs == [False]
    assert [step[1] for step in pipeline.plan(subject, config, ("frames", "crop"), False)] == [False, False]


def test_follower_runs_alone_when_its_leader_is_up_to_date(pair: tuple[Leader, Follower], subject: Subject) -> None:
    config = Config(actor="x")
    pipeline.run_stages(subject, config, ("frames", "crop"), "cpu", False)
    pipeline.run_stages(subject, config, ("crop",), "cpu", True)
    assert pair[1].seen == [1, 2, 3, 3, 3, 3]


def test_leader_that_fails_stops_its_follower(pair: tuple[Leader, Follower], subject: Subject) -> None:
    pair[0].fail_at = 2
    with pytest.raises(SubjectError, match="the leader failed"):
        pipeline.run_stages(subject, Config(actor="x"), ("frames", "crop"), "cpu", False)
    assert pair[1].wrote == ["0.txt", "1.txt"]
    made = manifest.read(subject.manifest_path("crop"))
    assert made is not None
    assert not made.complete
    pair[0].fail_at = None
    pipeline.run_stages(subject, Config(actor="x"), ("frames", "crop"), "cpu", False)
    # What the follower had made of an unfinished input is not trusted.
    assert pair[1].runs == [False, False]
    assert pair[1].wrote == ["0.txt", "1.txt", "0.txt", "1.txt", "2.txt"]


def test_follower_that_fails_leaves_its_leader_complete(pair: tuple[Leader, Follower], subject: Subject) -> None:
    pair[1].fail_at = 0
    with pytest.raises(SubjectError, match="the follower failed"):
        pipeline.run_stages(subject, Config(actor="x"), ("frames", "crop"), "cpu", False)
    made = [manifest.read(subject.manifest_path(name)) for name in ("frames", "crop")]
    assert [m is not None and m.complete for m in made] == [True, False]


# ---- beside the stages


class _Opened:
    """What a stage prepares: tells whether it was left."""

    def __init__(self) -> None:
        self.left = False

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_error: object) -> None:
        self.left = True


@pytest.mark.parametrize("fail_at", [None, 1])
def test_what_a_stage_prepares_is_handed_to_it_and_left_at_the_end(
    subject: Subject, stages: dict[str, FakeStage], monkeypatch: pytest.MonkeyPatch, fail_at: int | None
) -> None:
    opened, seen = _Opened(), []
    monkeypatch.setattr(beside, "PREPARES", {"crop": "frames"})
    stages["frames"].fail_at = fail_at
    crop = stages["crop"]
    crop.prepare = lambda subject, config: opened  # type: ignore[attr-defined]
    run = crop.run
    monkeypatch.setattr(crop, "run", lambda *given: seen.append((given[2].prepared, opened.left)) or run(*given))
    if fail_at is None:
        _run(subject)
        assert seen == [(opened, False)]
    else:
        with pytest.raises(SubjectError):
            _run(subject)
    assert opened.left


def test_nothing_is_prepared_for_a_stage_that_is_not_asked_for(
    subject: Subject, stages: dict[str, FakeStage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "PREPARES", {"crop": "frames"})
    pipeline.run_stages(subject, Config(actor="x"), ("frames",), "cpu", False)
    assert stages["frames"].runs == [False]


def test_libraries_are_loaded_once_and_only_where_something_runs(
    subject: Subject, stages: dict[str, FakeStage], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Fake(_Opened):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(beside, "WarmUp", Fake)
    stages["calibration"] = FakeStage("calibration", "images", "calibrated")
    names = ("frames", "crop", "calibration")
    _run(subject)
    assert not started
    pipeline.run_stages(subject, Config(actor="x"), names, "cpu", True)
    assert len(started) == 1
    assert started[0].left
    pipeline.run_stages(subject, Config(actor="x"), names, "cpu", False)
    assert len(started) == 1


def test_first_stages_do_without_torch() -> None:
    code = "import sys, run_tracking, stages.frames, stages.crop, stages.landmarks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=manifest.ROOT)
    assert done.stdout.strip() == "False"


def test_warm_up_has_loaded_the_solver_before_its_kernels_run() -> None:
    """While libraries load, nobody looks for garbage: what the kernels' turn imports comes too late for that."""
    code = (
        "import sys; from tracker import warm_up; list(warm_up.libraries()); before = set(sys.modules); "
        "next(warm_up.kernels()); print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=manifest.ROOT, check=True, capture_output=True, text=True)
    assert not {"torch", "scipy", "pydantic"} & set(ast.literal_eval(done.stdout))


def test_warm_up_runs_to_its_end_and_can_be_left() -> None:
    for _ in warm_up.steps():
        pass
    with WarmUp() as warming:
        pass
    assert not warming._thread.is_alive()


def test_a_head_is_made_ready_before_the_stages_that_need_it(
    stages: dict[str, FakeStage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(tmp_path / "input", tmp_path / "output")
    files.write_text(subject.input_dir / "video.txt", "v")
    config = Config(actor=str(subject.input_dir), head="ict", head_path=str(tmp_path / "absent"))
    pipeline.run_stages(subject, config, ("frames", "crop"), "cpu", False)
    with pytest.raises(InputError, match=r"absent: no FaceXModel folder"):
        pipeline.run_stages(subject, config, ("frames", "calibration"), "cpu", False)
    asked = []
    monkeypatch.setattr(pipeline, "prepare_head", lambda config, say: asked.append(config.head))
    stages["tracking"] = FakeStage("tracking", "images", "tracked")
    pipeline.run_stages(subject, config, ("frames", "crop", "tracking"), "cpu", False)
    assert asked == ["ict"]
    assert stages["tracking"].wrote
