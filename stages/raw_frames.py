"""Frames as they were tracked, on their way to the smoother; kept in files, so that a killed run can go on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages.subject import Subject
from tracker.errors import InputError
from tracker.evidence import Evidence
from tracker.frame_file import state_arrays, state_from_arrays
from tracker.npz import DAMAGE, arrays_of, one_line
from tracker.smoother import RawFrame
from tracker.track import TrackedFrame

_STATE = "state."


@dataclass(frozen=True, eq=False)
class RawRecord:
    """One tracked frame before smoothing.

    Attributes:
        frame: state, evidence, and whether it follows a cut.
        status: 'ok', 'poor' or 'lost'.
        correlation: of picture and appearance.
        photometric_l1: mean absolute colour residual.
        steps: solver steps.
        outcome: the solver's outcome.
        milliseconds: that tracking took.
    """

    frame: RawFrame
    status: str
    correlation: float
    photometric_l1: float
    steps: int
    outcome: str
    milliseconds: float

    @classmethod
    def of(cls, tracked: TrackedFrame, milliseconds: float) -> "RawRecord":
        """The record of a frame."""
        solution = tracked.solution
        return cls(
            frame=tracked.raw(),
            status=tracked.status,
            correlation=solution.correlation,
            photometric_l1=solution.photometric_l1,
            steps=solution.steps,
            outcome=solution.status,
            milliseconds=milliseconds,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The record's arrays, as `load` reads them from a file."""
        evidence = self.frame.evidence
        arrays = {f"{_STATE}{name}": value for name, value in state_arrays(self.frame.state).items()}
        if evidence is not None:
            arrays |= {"H": evidence.H.numpy(), "g": evidence.g.numpy()}
        plain = {name: np.array(value) for name, value in vars(self).items() if name != "frame"}
        return {"cut": np.array(self.frame.cut), **arrays, **plain}

    @classmethod
    def load(cls, path: Path) -> "RawRecord":
        """Reads a record.

        Raises:
            InputError: missing or damaged.
        """
        try:
            arrays = arrays_of(path)
            names = [key for key in arrays if key.startswith(_STATE)]
            state = state_from_arrays({key.removeprefix(_STATE): arrays.pop(key) for key in names})
            held = [torch.from_numpy(arrays.pop(key)) for key in ("H", "g") if key in arrays]
            cut, poor = bool(arrays.pop("cut")), arrays["status"].item() == "poor"
            frame = RawFrame(state, Evidence(*held) if held else None, cut, poor)
            return cls(frame, **{key: value.item() for key, value in arrays.items()})
        except DAMAGE as error:
            raise InputError(
                f"{path}: not a tracked frame ({one_line(error)}); run tracking again with --force"
            ) from error


def left_by_a_killed_run(subject: Subject, first: int) -> list[RawRecord]:
    """Records from a frame on, in order, up to the first that is missing."""
    records: list[RawRecord] = []
    while (path := subject.raw_path(first + len(records))).exists():
        records.append(RawRecord.load(path))
    return records
