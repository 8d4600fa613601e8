"""What runs beside the stages of a run: the solver's process, followers, and work that was put off."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from stages import manifest, solver_process, solver_start
from stages.background import stand_back
from stages.context import Leader, StageContext
from stages.manifest import Manifest
from stages.solver_process import SolverProcess
from stages.source_pictures import clip_length
from stages.stage_run import Prepares, Run, Stage, decide, load_stage, make_ready
from stages.warm_up import WarmUp

if TYPE_CHECKING:
    from stages.frame_files import FrameFiles

# Stages that run beside an earlier one, on its files as they appear: its name. They ask `StageContext.wait_for`.
FOLLOWS = {"landmarks": "crop", "review": "tracking"}
# Stages that start something slow of their own while an earlier one runs: its name. See `stages.stage_run.Prepares`.
PREPARES = {"review": "calibration"}
# While one of these runs, the libraries of the later ones are loaded on a thread: detectors leave the interpreter free.
_WARM_DURING = ("frames", "crop", "landmarks")
_WARM_FOR = solver_process.STAGES
# From so many pictures on, the solver's stages have a process of their own where others run before or beside them.
OWN_PROCESS_FROM = 60
_BESIDE_SOLVER = ("crop", "landmarks", "review")


class Beside:
    """What runs beside the stages: the solver, or the loading of its libraries; what is prepared; one follower."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self.prepared: dict[str, Any] = {}
        self._apart = solver_apart(run, names)
        if not self._apart:
            solver_start.end_unused()
        self._run = run
        self._stack = ExitStack()
        self._warming = False
        self._solver: SolverProcess | None = None
        self._follower: _Follower | None = None
        self._postponed: list[_Postponed] = []
        self._files: FrameFiles | None = None

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._follower is not None:
            self._follower.abandon()
        for work in self._postponed:
            work.abandon()
        self._stack.close()

    def may_postpone(self, later: Sequence[str]) -> bool:
        """Whether a stage may leave work for the time when the solver calibrates, in another process."""
        return self._apart and "calibration" in later

    def postpone(self, stage: Stage, now: Manifest, context: StageContext) -> None:
        """Notes a stage that has left work; it is begun with the solver's first stage."""
        self._run.postpone(stage, now, context)
        self._postponed.append(_Postponed(stage, now, context))

    def end(self) -> None:
        """Waits for the work that was postponed; raises what it raised."""
        while self._postponed:
            work = self._postponed[0]
            work.begin()
            work.wait()
            self._run.finish(work.stage, work.now, work.context)
            self._postponed.pop(0)

    def prepare(self, name: str, later: Sequence[str]) -> None:
        """Starts what gets ready while a stage runs; `later` are the stages of this run that come after it."""
        if name in _WARM_DURING and any(stage in _WARM_FOR for stage in later):
            if self._apart:
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

    def is_apart(self, name: str) -> bool:
        """Whether a stage runs in the solver's process."""
        return self._apart and name in solver_process.STAGES

    def run_apart(self, name: str, later: Sequence[str]) -> None:
        """Runs one of the solver's stages in its process, where it is not up to date; raises what it raises."""
        process = self._solver_process()
        if process.begin(name, self._run.force):
            self.follow(name, later)
            process.start()
            for work in self._postponed:
                work.begin()
            self.prepare(name, later)
            process.wait(name, self._write)
            self._run.hashes.reload()

    def _write(self, job: Any) -> None:
        """Carries out a job that the solver's process hands over: files of a tracked frame."""
        if self._files is None:
            # Here, because the rasteriser takes a third of a second to import.
            from stages.frame_files import FrameFiles

            rehearsal = self.prepared.get("review")
            load_model = None if rehearsal is None else rehearsal.model
            self._files = FrameFiles(self._run.subject, self._run.config, load_model)
        self._files.do(job)

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
        self._thread.shutdown()

    def abandon(self) -> None:
        """Stops it as soon as it looks; the next run makes it afresh."""
        self.context.stop.set()
        self._thread.shutdown(wait=True)


class _Follower:
    """A stage on a thread of its own, beside the stage whose files it reads as they appear.

    Its manifest is written anew, with the inputs' final hashes, once that stage has ended. Until then it holds the
    hashes of what was there when both began, so that after a kill it is resumed only if nothing has been added.
    """

    def __init__(self, stage: Stage, run: Run, prepared: Any) -> None:
        self.stage = stage
        self._run = run
        logger.info(f"{stage.NAME}: beside {FOLLOWS[stage.NAME]}")
        decision = decide(stage, run.subject, run.config, run.hashes, False)
        make_ready(stage, run.subject, run.config, decision)
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


def solver_apart(run: Run, names: Sequence[str]) -> bool:
    """Whether the solver's stages get a process of their own: it takes two seconds to start."""
    wanted = any(name in solver_process.STAGES for name in names) and any(name in _BESIDE_SOLVER for name in names)
    return wanted and clip_length(run.subject, run.config.fps) >= OWN_PROCESS_FROM
