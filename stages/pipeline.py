"""The stages in order, which of them would run and why, and the runner."""

import importlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from loguru import logger

from stages import files, manifest, solver_process
from stages.background import stand_back
from stages.config_file import dump_config, load_config
from stages.context import Elsewhere, Leader, StageContext
from stages.manifest import HashCache, Manifest
from stages.solver_process import SolverProcess
from stages.source_pictures import POSTPONED, clip_length
from stages.subject import Subject
from stages.warm_up import WarmUp
from tracker.config import Config
from tracker.errors import InputError
from tracker.head_choice import prepare_head

__all__ = ["STAGES", "Stage", "StageContext", "StageRunner", "plan", "run_stages", "select_stages"]

STAGES = ("frames", "crop", "landmarks", "identity", "calibration", "tracking", "review")
# Stages that run beside an earlier one, on its files as they appear: its name. They ask `StageContext.wait_for`.
FOLLOWS = {"landmarks": "crop", "review": "tracking"}
# Stages that start something slow of their own while an earlier one runs: its name. See `Prepares`.
PREPARES = {"review": "calibration"}
# Stages whose files another process may write for them: the module that does, see `Helps`.
HELPERS = {"tracking": "stages.frame_files"}
# While one of these runs, the libraries of the later ones are loaded on a thread: detectors leave the interpreter free.
_WARM_DURING = ("frames", "crop", "landmarks")
_WARM_FOR = solver_process.STAGES
_WITH_HEAD = ("calibration", "tracking", "review")
# From so many pictures on, the solver's stages have a process of their own where others run before or beside them.
OWN_PROCESS_FROM = 60
_BESIDE_SOLVER = ("crop", "landmarks", "review")


class Stage(Protocol):
    """A module of this package that is a stage.

    Attributes:
        NAME: as in `STAGES`, and the module's name.
        RESUMES: whether `run` can continue what an interrupted run left; otherwise it always starts afresh.
    """

    NAME: str
    RESUMES: bool

    def config_part(self, config: Config) -> dict[str, Any]:
        """The part of the config that the outputs depend on; JSON values, may be nested."""

    def inputs(self, subject: Subject, config: Config) -> list[Path]:
        """Files and folders read; hashed. Optional ones only where they exist."""

    def outputs(self, subject: Subject, config: Config) -> list[Path]:
        """Files and folders that belong to the stage alone; removed in this order before a fresh start."""

    def run(self, subject: Subject, config: Config, context: StageContext) -> None:
        """Does the work; raises InputError or SubjectError."""


class Prepares(Protocol):
    """What a stage named in `PREPARES` has beside the others' functions."""

    def prepare(self, subject: Subject, config: Config) -> AbstractContextManager[Any] | None:
        """Starts what takes long to start; left when the run ends. None where the stage will not need it."""


class Helps(Protocol):
    """A module named in `HELPERS`."""

    def helper(self, subject: Subject, config: Config, load_model: Callable[[], Any] | None) -> Any:
        """Something whose `do` carries out a job; `load_model` gives the head model that the review has loaded."""


@dataclass(frozen=True)
class Decision:
    """Whether a stage would run.

    Attributes:
        run: False when its outputs are up to date.
        reason: why, in a few words.
        resume: its outputs are continued rather than made afresh.
        now: the manifest that the outputs would get.
    """

    run: bool
    reason: str
    resume: bool
    now: Manifest


def load_stage(name: str) -> Stage:
    """Imports a stage when it is reached, so that one stage's libraries do not slow down another."""
    return cast(Stage, importlib.import_module(f"stages.{name}"))


def select_stages(stages: str | None, first: str | None, last: str | None) -> tuple[str, ...]:
    """Stages named on the command line, in pipeline order.

    Args:
        stages: comma-separated names, or None.
        first: name to start from, or None.
        last: name to stop after, or None.

    Raises:
        InputError: an unknown name, or `stages` together with the others, or nothing left.
    """
    if stages and (first or last):
        raise InputError("--stages cannot be combined with --from or --until")
    named = [name.strip() for name in stages.split(",")] if stages else [n for n in (first, last) if n]
    for name in named:
        if name not in STAGES:
            raise InputError(f"unknown stage '{name}'; the stages are {', '.join(STAGES)}")
    if stages:
        return tuple(name for name in STAGES if name in named)
    start = STAGES.index(first) if first else 0
    stop = STAGES.index(last) + 1 if last else len(STAGES)
    if start >= stop:
        raise InputError(f"--from {first} comes after --until {last}")
    return STAGES[start:stop]


def decide(stage: Stage, subject: Subject, config: Config, hashes: HashCache, force: bool) -> Decision:
    """Compares a stage's manifest with what it would be made from now."""
    now = Manifest(
        stage=stage.NAME,
        complete=False,
        config=manifest.flatten(stage.config_part(config)),
        inputs={_label(path, subject): hashes.digest(path) for path in stage.inputs(subject, config)},
        code=manifest.code_version(f"stages.{stage.NAME}"),
        outputs={_label(path, subject): "" for path in stage.outputs(subject, config)},
    )
    old = manifest.read(subject.manifest_path(stage.NAME))
    if old is None:
        return Decision(True, "never run", False, now)
    if force:
        return Decision(True, "forced", False, now)
    difference = old.difference(now)
    if difference:
        return Decision(True, difference, False, now)
    if not old.complete:
        return Decision(True, "interrupted", stage.RESUMES, now)
    found = {_label(path, subject): manifest.listing(path) for path in stage.outputs(subject, config)}
    changed = sorted(name for name in old.outputs.keys() | found.keys() if old.outputs.get(name) != found.get(name))
    if changed:
        return Decision(True, f"output changed: {', '.join(changed[:3])}", False, now)
    return Decision(False, "up to date", False, now)


def plan(subject: Subject, config: Config, names: Sequence[str], force: bool) -> list[tuple[str, bool, str]]:
    """What would run: (stage, runs, reason); writes nothing."""
    hashes = HashCache(subject.hash_cache_path)
    steps: list[tuple[str, bool, str]] = []
    for name in names:
        decision = decide(load_stage(name), subject, config, hashes, force)
        earlier = [step[0] for step in steps if step[1]]
        if decision.run or not earlier:
            steps.append((name, decision.run, decision.reason))
        elif FOLLOWS.get(name) in earlier:
            steps.append((name, True, f"runs beside {FOLLOWS[name]}"))
        else:
            steps.append((name, True, f"depends on {earlier[0]}; skipped if that changes nothing it reads"))
    return steps


def run_stages(subject: Subject, config: Config, names: Sequence[str], device: str, force: bool) -> dict[str, float]:
    """Runs the named stages of one subject, skipping those whose outputs are up to date.

    Returns:
        Seconds of each stage, from the end of the one before to its own, so that they add up to the whole. A stage that
        ran beside another counts with what it took longer than that one.

    Raises:
        InputError: something the user gave is missing or wrong.
        SubjectError: the subject cannot be tracked.
    """
    files.write_text(subject.config_path, dump_config(config))
    if any(name in _WITH_HEAD for name in names):
        # Before any manifest looks at the model's files: the first use of one may have to make them.
        prepare_head(config, logger.info)
    run = _Run(subject, config, device, HashCache(subject.hash_cache_path), force)
    seconds: dict[str, float] = {}
    with _Beside(run, names) as beside:
        for place, name in enumerate(names):
            start, later = time.perf_counter(), names[place + 1 :]
            if beside.follows(name):
                beside.finish()
            elif name in solver_process.STAGES and beside.apart:
                beside.run_apart(name, later)
            elif (decision := run.begin(load_stage(name))) is not None:
                beside.prepare(name, later)
                beside.follow(name, later)
                context = StageContext(
                    name,
                    subject,
                    device,
                    decision.resume,
                    prepared=beside.prepared.get(name),
                    may_postpone=beside.may_postpone(later),
                )
                load_stage(name).run(subject, config, context)
                if context.postponed is None:
                    run.finish(load_stage(name), decision.now, context)
                else:
                    beside.postpone(load_stage(name), decision.now, context)
            if place == len(names) - 1:
                beside.end()
            seconds[name] = time.perf_counter() - start
    return seconds


@dataclass(frozen=True)
class _Run:
    """What the stages of one run share."""

    subject: Subject
    config: Config
    device: str
    hashes: HashCache
    force: bool

    def begin(self, stage: Stage) -> Decision | None:
        """Makes everything ready for a stage; None where it is up to date."""
        decision = decide(stage, self.subject, self.config, self.hashes, self.force)
        if not decision.run:
            logger.info(f"{stage.NAME}: up to date")
            return None
        logger.info(f"{stage.NAME}: {'continues, ' if decision.resume else ''}{decision.reason}")
        _require_inputs(stage, decision)
        _prepare(stage, self.subject, self.config, decision)
        return decision

    def postpone(self, stage: Stage, now: Manifest, context: StageContext) -> None:
        """Writes the manifest of a stage that has left work for later: not complete, but with what it knows."""
        manifest.write(self.subject.manifest_path(stage.NAME), replace(now, notes={**context.notes, POSTPONED: True}))

    def finish(self, stage: Stage, now: Manifest, context: StageContext) -> None:
        """Writes the manifest of a stage that ran to its end."""
        outputs = {
            _label(path, self.subject): manifest.listing(path) for path in stage.outputs(self.subject, self.config)
        }
        manifest.write(self.subject.manifest_path(stage.NAME), now.finished(outputs, context.notes))
        self.hashes.save()


class StageRunner:
    """Runs single stages: what the solver's process does."""

    def __init__(self, subject: Subject, config: Config, device: str) -> None:
        """Nothing has begun yet."""
        self._subject, self._config, self._device = subject, config, device
        self._begun: tuple[_Run, Stage, Decision] | None = None

    @classmethod
    def of(cls, config_path: Path, device: str) -> "StageRunner":
        """For the subject of a resolved config file."""
        config, _ = load_config(config_path)
        return cls(Subject.of(config), config, device)

    def begin(self, name: str, force: bool) -> bool:
        """Makes everything ready for a stage; False where it is up to date.

        Raises:
            InputError: an input is missing.
        """
        # The stages before it ran elsewhere, and left the hashes that they know.
        run = _Run(self._subject, self._config, self._device, HashCache(self._subject.hash_cache_path), force)
        stage = load_stage(name)
        decision = run.begin(stage)
        self._begun = None if decision is None else (run, stage, decision)
        return decision is not None

    def go(self, elsewhere: Elsewhere) -> None:
        """Runs the stage that was begun; raises what it raises.

        Args:
            elsewhere: the process that takes work off the stage's hands.
        """
        assert self._begun is not None
        run, stage, decision = self._begun
        helped = elsewhere if stage.NAME in HELPERS else None
        context = StageContext(stage.NAME, run.subject, run.device, decision.resume, elsewhere=helped)
        stage.run(run.subject, run.config, context)
        run.finish(stage, decision.now, context)


class _Beside:
    """What runs beside the stages: the solver, or the loading of its libraries; what is prepared; one follower."""

    def __init__(self, run: _Run, names: Sequence[str]) -> None:
        self.prepared: dict[str, Any] = {}
        self.apart = _solver_apart(run, names)
        self._run = run
        self._stack = ExitStack()
        self._warming = False
        self._solver: SolverProcess | None = None
        self._follower: _Follower | None = None
        self._postponed: list[_Postponed] = []

    def __enter__(self) -> "_Beside":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._follower is not None:
            self._follower.abandon()
        for work in self._postponed:
            work.abandon()
        self._stack.close()

    def may_postpone(self, later: Sequence[str]) -> bool:
        """Whether a stage may leave work for the time when the solver calibrates, in another process."""
        return self.apart and "calibration" in later

    def postpone(self, stage: Stage, now: Manifest, context: StageContext) -> None:
        """Notes a stage that has left work; it is begun with the solver's first stage."""
        self._run.postpone(stage, now, context)
        self._postponed.append(_Postponed(stage, now, context))

    def end(self) -> None:
        """Waits for the work that was postponed; raises what it raised."""
        for work in self._postponed:
            work.begin()
            work.wait()
            self._run.finish(work.stage, work.now, work.context)
        self._postponed = []

    def prepare(self, name: str, later: Sequence[str]) -> None:
        """Starts what gets ready while a stage runs; `later` are the stages of this run that come after it."""
        if name in _WARM_DURING and any(stage in _WARM_FOR for stage in later):
            if self.apart:
                self._solver_process()
            elif not self._warming:
                self._stack.enter_context(WarmUp())
                self._warming = True
        for stage in later:
            if PREPARES.get(stage) == name:
                found = cast(Prepares, load_stage(stage)).prepare(self._run.subject, self._run.config)
                self.prepared[stage] = None if found is None else self._stack.enter_context(found)

    def follow(self, name: str, later: Sequence[str]) -> None:
        """Starts the stage that runs beside one that is about to."""
        following = next((stage for stage in later if FOLLOWS.get(stage) == name), None)
        if following is not None:
            self._follower = _Follower(load_stage(following), self._run, self.prepared.get(following))

    def run_apart(self, name: str, later: Sequence[str]) -> None:
        """Runs one of the solver's stages in its process, where it is not up to date; raises what it raises."""
        process = self._solver_process()
        if process.begin(name, self._run.force):
            self.follow(name, later)
            process.start()
            for work in self._postponed:
                work.begin()
            self.prepare(name, later)
            process.wait(name, self._helper(name))
            self._run.hashes.reload()

    def _helper(self, name: str) -> Callable[[Any], None] | None:
        """What carries out the jobs that a stage hands over."""
        if name not in HELPERS:
            return None
        rehearsal = self.prepared.get("review")
        module = cast(Helps, importlib.import_module(HELPERS[name]))
        return module.helper(self._run.subject, self._run.config, None if rehearsal is None else rehearsal.model).do

    def _solver_process(self) -> SolverProcess:
        if self._solver is None:
            subject = self._run.subject
            self._solver = self._stack.enter_context(SolverProcess(subject.config_path, self._run.device))
        return self._solver

    def follows(self, name: str) -> bool:
        """Whether a stage runs beside the one that has just ended."""
        return self._follower is not None and name == self._follower.stage.NAME

    def finish(self) -> None:
        """Waits for the follower; raises what it raised."""
        assert self._follower is not None
        self._follower.finish()
        self._follower = None


class _Postponed:
    """Work that a stage has left, on a thread that stands back."""

    def __init__(self, stage: Stage, now: Manifest, context: StageContext) -> None:
        self.stage, self.now, self.context = stage, now, context
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=stage.NAME, initializer=stand_back)
        self._work: Future[None] | None = None

    def begin(self) -> None:
        """Starts it, unless it has been."""
        assert self.context.postponed is not None
        if self._work is None:
            self._work = self._thread.submit(self.context.postponed)

    def wait(self) -> None:
        """Waits for its end; raises what it raised."""
        assert self._work is not None
        self._work.result()

    def abandon(self) -> None:
        """Stops it as soon as it looks; the next run makes it afresh."""
        self.context.stop.set()
        self._thread.shutdown(wait=True)


class _Follower:
    """A stage on a thread of its own, beside the stage whose files it reads as they appear.

    Its manifest is written anew, with the inputs' final hashes, once that stage has ended. Until then it holds the
    hashes of what was there when both began, so that after a kill it is resumed only if nothing has been added.
    """

    def __init__(self, stage: Stage, run: _Run, prepared: Any) -> None:
        self.stage = stage
        self._run = run
        logger.info(f"{stage.NAME}: beside {FOLLOWS[stage.NAME]}")
        decision = decide(stage, run.subject, run.config, run.hashes, False)
        _prepare(stage, run.subject, run.config, decision)
        self._leader = Leader()
        self._context = StageContext(
            stage.NAME, run.subject, run.device, decision.resume, leader=self._leader, prepared=prepared
        )
        solver_waits = FOLLOWS[stage.NAME] in solver_process.STAGES
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix=stage.NAME, initializer=stand_back if solver_waits else None
        )
        self._work = self._thread.submit(stage.run, run.subject, run.config, self._context)

    def finish(self) -> None:
        """Waits for the end, after the other stage's; raises what the stage raised."""
        run = self._run
        now = decide(self.stage, run.subject, run.config, run.hashes, True).now
        manifest.write(run.subject.manifest_path(self.stage.NAME), now)
        self._leader.end(failed=False)
        self._work.result()
        run.finish(self.stage, now, self._context)

    def abandon(self) -> None:
        """Stops the stage as soon as it looks; what it has made so far is made again."""
        self._leader.end(failed=True)
        self._thread.shutdown(wait=True)


def _solver_apart(run: _Run, names: Sequence[str]) -> bool:
    """Whether the solver's stages get a process of their own: it takes two seconds to start."""
    wanted = any(name in solver_process.STAGES for name in names) and any(name in _BESIDE_SOLVER for name in names)
    return wanted and clip_length(run.subject, run.config.fps) >= OWN_PROCESS_FROM


def _require_inputs(stage: Stage, decision: Decision) -> None:
    missing = [name for name, digest in decision.now.inputs.items() if digest == manifest.MISSING]
    if missing:
        before = STAGES[: STAGES.index(stage.NAME)]
        raise InputError(f"{stage.NAME}: {missing[0]} is missing; run the stages before it first ({', '.join(before)})")


def _prepare(stage: Stage, subject: Subject, config: Config, decision: Decision) -> None:
    """Removes the stage's stale outputs and what a kill left beside them, then marks it as started."""
    path = subject.manifest_path(stage.NAME)
    known = manifest.read(path) is not None
    files.remove_leftovers(path)
    for output in stage.outputs(subject, config):
        files.remove_leftovers(output)
        if decision.resume:
            files.remove_temporaries(output if output.is_dir() else output.parent)
        elif known or not output.exists() or (output.is_dir() and not any(output.iterdir())):
            files.remove(output)
        else:
            # No manifest: not made by this project, or by a run whose manifests were deleted. Nothing is lost.
            logger.warning(f"{output} was not made by this project; kept as {files.set_aside(output).name}")
    manifest.write(path, decision.now)


def _label(path: Path, subject: Subject) -> str:
    """A path's name in a manifest, the same wherever the project lies."""
    for base, prefix in ((subject.input_dir, ""), (subject.output_dir, "output/"), (manifest.ROOT, "")):
        if path.absolute().is_relative_to(base.absolute()):
            return prefix + path.absolute().relative_to(base.absolute()).as_posix()
    return str(path)
