"""What the runner hands to a stage: device, progress bar, TensorBoard, whether to resume."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from stages import logs
from stages.subject import Subject

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

T = TypeVar("T")


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
    """

    stage: str
    subject: Subject
    device: str
    resume: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def progress(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Passes one item a frame through the stage's progress bar."""
        return logs.progress(items, self.stage, total)

    def scalars(self) -> AbstractContextManager["SummaryWriter"]:
        """TensorBoard writer of this stage, in output/<name>/logs/<stage>."""
        return logs.scalar_writer(self.subject.scalars_dir / self.stage)
