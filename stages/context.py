"""What the runner hands to a stage: device, progress bar, TensorBoard, whether to resume."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stages import logs
from stages.scalars import ScalarWriter
from stages.subject import Subject

T = TypeVar("T")


# How often a stage looks for a file of the stage that it follows, seconds; a frame takes several times as long.
_LOOK_EVERY_S = 0.01


class Abandoned(Exception):
    """Another stage, which this one follows or runs beside, has failed: there is nothing more to wait for."""


class Leader:
    """The stage that another one follows, as the follower sees it."""

    def __init__(self) -> None:
        """It runs."""
        self._ended = threading.Event()
        self._failed = False

    def end(self, failed: bool) -> None:
        """Says that it has written all its files, or that it has failed."""
        self._failed |= failed
        self._ended.set()

    def wait_for(self, path: Path) -> None:
        """Waits until a file is there or no more files will come.

        Raises:
            Abandoned: the stage has failed.
        """
        while not (self._ended.is_set() or path.exists()):
            self._ended.wait(_LOOK_EVERY_S)
        if self._failed:
            raise Abandoned


class Elsewhere(Protocol):
    """Another process that takes work off a stage's hands."""

    def send(self, job: Any) -> None:
        """Hands a job over; they are carried out in order. Waits while the other process is far behind."""

    def settle(self) -> None:
        """Waits until all that was handed over has been done."""


@dataclass
class StageContext:
    """What the runner hands to a stage.

    Attributes:
        stage: the stage's name.
        subject: the subject being worked on.
        device: 'cpu' or 'cuda'.
        resume: outputs of an interrupted run with the same config, inputs and code are there; continue them. False:
            the outputs named by the stage were removed, start afresh.
        notes: facts for the manifest, e.g. {'frames': 250}.
        leader: the stage before, where it still runs and its files appear one by one; None where they are all there.
        prepared: what the stage's `prepare` gave, see `stages.stage_run.Prepares`; None where it was not asked.
        elsewhere: the process that started the stage's own, where it takes work off it; else None.
        may_postpone: what no stage before the solver's needs may be left for `postponed`.
        postponed: set by a stage that has left work: does it, on another thread, while later stages run.
        stop: set where that is of no use any more.
    """

    stage: str
    subject: Subject
    device: str
    resume: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    leader: Leader | None = None
    prepared: Any = None
    elsewhere: Elsewhere | None = None
    may_postpone: bool = False
    postponed: Callable[[], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def progress(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Passes one item a frame through the stage's progress bar.

        Raises:
            Abandoned: `stop` was set.
        """
        beside = self.leader is not None or self.postponed is not None
        for item in logs.progress(items, self.stage, total, int(beside)):
            if self.stop.is_set():
                raise Abandoned
            yield item

    def wait_for(self, path: Path) -> None:
        """Waits for a file that the stage before is about to write, where that still runs.

        Raises:
            Abandoned: that stage has failed.
        """
        if self.leader is not None:
            self.leader.wait_for(path)

    def scalars(self) -> AbstractContextManager[ScalarWriter]:
        """TensorBoard writer of this stage, in output/<name>/logs/<stage>."""
        return logs.scalar_writer(self.subject.scalars_dir / self.stage)
