"""Frames as they were tracked, on their way to the smoother; kept in files, so that a killed run can go on."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from stages.subject import Subject
from tracker.errors import InputError
from tracker.evidence import Evidence
from tracker.frame_file import state_arrays, state_from_arrays
from tracker.npz import DAMAGE, arrays_of, one_line
from tracker.smoother import RawFrame
from tracker.state import FrameState
from tracker.track import TrackedFrame

# Of a state's unknowns, without the expression.
_SHAPES = {"R": (3, 3), "t": (3,), "jaw": (3, 3), "eyes": (2, 2), "eyelids": (2,), "light": (9, 3)}


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
        """The record's arrays, as `load` reads them from a file; few, because each costs a file's entry."""
        evidence = self.frame.evidence
        numbers = [self.frame.cut, self.correlation, self.photometric_l1, self.steps, self.milliseconds]
        arrays = {
            "words": np.array([self.status, self.outcome]),
            "numbers": np.array(numbers, np.float64),
            "state": np.concatenate([value.reshape(-1) for value in state_arrays(self.frame.state).values()]),
        }
        return arrays if evidence is None else {**arrays, "H": evidence.H.numpy(), "g": evidence.g.numpy()}

    @classmethod
    def load(cls, path: Path) -> "RawRecord":
        """Reads a record.

        Raises:
            InputError: missing or damaged.
        """
        try:
            arrays = arrays_of(path)
            held = [torch.from_numpy(arrays[key]) for key in ("H", "g") if key in arrays]
            status, outcome = (str(word) for word in arrays["words"])
            cut, correlation, photometric_l1, steps, milliseconds = arrays["numbers"].tolist()
            evidence = Evidence(*held) if held else None
            frame = RawFrame(_state(arrays["state"]), evidence, bool(cut), status == "poor")
            return cls(frame, status, correlation, photometric_l1, int(steps), outcome, milliseconds)
        except DAMAGE as error:
            raise InputError(
                f"{path}: not a tracked frame ({one_line(error)}); run tracking again with --force"
            ) from error


def _state(values: np.ndarray) -> FrameState:
    """The state whose unknowns follow each other; all but the expression's length is known."""
    shapes = dict(_SHAPES)
    shapes["expression"] = (len(values) - sum(math.prod(shape) for shape in shapes.values()),)
    arrays, first = {}, 0
    for field in fields(FrameState):
        size = math.prod(shapes[field.name])
        arrays[field.name] = values[first : first + size].reshape(shapes[field.name])
        first += size
    return state_from_arrays(arrays)


def left_by_a_killed_run(subject: Subject, first: int) -> list[RawRecord]:
    """Records from a frame on, in order, up to the first that is missing."""
    records: list[RawRecord] = []
    while (path := subject.raw_path(first + len(records))).exists():
        records.append(RawRecord.load(path))
    return records
