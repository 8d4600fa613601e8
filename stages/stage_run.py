"""A stage, whether it would run and why, and what is done before and after it does."""

import importlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from loguru import logger

from stages import files, manifest
from stages.context import StageContext
from stages.manifest import HashCache, Manifest
from stages.source_pictures import POSTPONED
from stages.subject import Subject
from tracker.config import Config
from tracker.errors import InputError

STAGES = ("frames", "crop", "landmarks", "identity", "calibration", "tracking", "review")


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


@dataclass(frozen=True)
class Run:
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
        make_ready(stage, self.subject, self.config, decision)
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


def _require_inputs(stage: Stage, decision: Decision) -> None:
    missing = [name for name, digest in decision.now.inputs.items() if digest == manifest.MISSING]
    if missing:
        before = STAGES[: STAGES.index(stage.NAME)]
        raise InputError(f"{stage.NAME}: {missing[0]} is missing; run the stages before it first ({', '.join(before)})")


def make_ready(stage: Stage, subject: Subject, config: Config, decision: Decision) -> None:
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
