"""The stages in order, which of them would run and why, and the runner."""

import time
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from stages import files
from stages.beside import FOLLOWS, Beside
from stages.config_file import dump_config, load_config
from stages.context import Elsewhere, StageContext
from stages.manifest import HashCache
from stages.stage_run import STAGES, Decision, Run, Stage, decide, load_stage
from stages.subject import Subject
from tracker.config import Config
from tracker.errors import InputError
from tracker.head_choice import prepare_head

__all__ = ["STAGES", "StageContext", "StageRunner", "plan", "run_stages", "select_stages"]

_WITH_HEAD = ("calibration", "tracking", "review")


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
    run = Run(subject, config, device, HashCache(subject.hash_cache_path), force)
    seconds: dict[str, float] = {}
    with Beside(run, names) as beside:
        for place, name in enumerate(names):
            start, later = time.perf_counter(), names[place + 1 :]
            if beside.follows(name):
                beside.finish()
            elif beside.is_apart(name):
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


class StageRunner:
    """Runs single stages: what the solver's process does."""

    def __init__(self, subject: Subject, config: Config, device: str) -> None:
        """Nothing has begun yet."""
        self._subject, self._config, self._device = subject, config, device
        self._begun: tuple[Run, Stage, Decision] | None = None

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
        run = Run(self._subject, self._config, self._device, HashCache(self._subject.hash_cache_path), force)
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
        context = StageContext(stage.NAME, run.subject, run.device, decision.resume, elsewhere=elsewhere)
        stage.run(run.subject, run.config, context)
        run.finish(stage, decision.now, context)
