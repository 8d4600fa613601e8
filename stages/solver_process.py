"""The stages that need torch, in a process of their own: calibration and tracking.

Torch, its libraries and the solver's kernels take two seconds to load, and a solver on a thread waits for the
interpreter whenever pictures are cut, drawn or coded. This process loads them while the one that started it finds the
landmarks, and then runs the stages that it is told to. It speaks by pickles: requests on its standard input, answers on
its standard output. It ends with its input, in the middle of a stage if need be, so that it does not outlive the run
that started it, however that ends.

Not by multiprocessing: its `spawn` runs the caller's main module once more, which a script without a guard for that
does not survive, and starts a further process to keep count of what both share.
"""

import contextlib
import gc
import os
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from loguru import logger

from stages import solver_start
from tracker.allocator import give_freed_memory_back, share_one_heap
from tracker.errors import SubjectError

if TYPE_CHECKING:
    from loguru import Message, Record

STAGES = ("calibration", "tracking")


@dataclass(frozen=True)
class Serve:
    """First of all requests: whose stages these will be. It is not answered.

    Attributes:
        config_path: resolved config file of the subject.
        device: 'cpu' or 'cuda'.
    """

    config_path: Path
    device: str


@dataclass(frozen=True)
class Begin:
    """Request: look whether a stage has to run, and make all ready for it. The answer: `Begun`."""

    stage: str
    force: bool


@dataclass(frozen=True)
class Begun:
    """Answer: whether the stage has to run."""

    runs: bool


@dataclass(frozen=True)
class Go:
    """Request: run the stage. The answer: `Ended`."""


@dataclass(frozen=True)
class Job:
    """Work for the process that reads the answers; comes before the answer to `Go`."""

    content: Any


@dataclass(frozen=True)
class Settle:
    """Asks for `Settled`, which comes when all jobs before it have been carried out."""


@dataclass(frozen=True)
class Settled:
    """Request: go on, there is no job left."""


@dataclass(frozen=True)
class Ended:
    """Answer: the stage has run, its manifest is written."""


@dataclass(frozen=True)
class Failed:
    """Answer: what a request raised."""

    error: Exception


@dataclass(frozen=True)
class Said:
    """A line of the log; comes before the answer."""

    level: str
    text: str
    name: str
    line: int


class SolverProcess:
    """The process, seen from the run that started it. Use as a context manager."""

    def __init__(self, config_path: Path, device: str) -> None:
        """Starts it, if it has not been, for the subject of a resolved config file."""
        self._process = solver_start.start()
        self._send(Serve(config_path.absolute(), device))

    def __enter__(self) -> "SolverProcess":
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipes[0].close()
        self._pipes[1].close()
        self._process.wait()

    def begin(self, stage: str, force: bool) -> bool:
        """Makes all ready for a stage; False where it is up to date.

        Raises:
            InputError: an input is missing.
            SubjectError: the process died.
        """
        self._send(Begin(stage, force))
        return bool(self._answer(stage).runs)

    def start(self) -> None:
        """Lets the stage that was begun run; `wait` waits for its end."""
        self._send(Go())

    def wait(self, stage: str, do: Callable[[Any], None] | None = None) -> None:
        """Waits for the end of the stage.

        Args:
            stage: its name.
            do: carries out the jobs that the stage hands over, while this waits.

        Raises:
            SubjectError: the process died; else what the stage or a job raised.
        """
        self._answer(stage, do)

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def _send(self, request: Any) -> None:
        # Where the process has gone, waiting for its answer says so.
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(request, self._pipes[0])
            self._pipes[0].flush()

    def _answer(self, stage: str, do: Callable[[Any], None] | None = None) -> Any:
        while True:
            try:
                answer = pickle.load(self._pipes[1])
            except (EOFError, pickle.UnpicklingError) as error:
                code = self._process.wait()
                reason = f"{stage}: its process ended with code {code}; run again, it goes on there"
                raise SubjectError(reason) from error
            if isinstance(answer, Said):
                _say_again(answer)
            elif isinstance(answer, Job):
                assert do is not None
                do(answer.content)
            elif isinstance(answer, Settle):
                self._send(Settled())
            elif isinstance(answer, Failed):
                raise answer.error
            else:
                return answer


def _say_again(said: Said) -> None:
    """Logs a line as if it had been said here, so that console and train.log have one writer."""

    def place(record: "Record") -> None:
        record["name"], record["line"] = said.name, said.line

    logger.patch(place).log(said.level, "{}", said.text)


# ---- within the process


class _Requests:
    """Requests as they come; a thread reads them, so that the end of the input is seen also while a stage runs."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stage_wanted = threading.Event()
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def stage_wanted(self) -> bool:
        """Whether one to begin a stage has come."""
        return self._stage_wanted.is_set()

    def next(self) -> Any:
        """Waits for the next one."""
        return self._waiting.get()

    def _read(self) -> None:
        while True:
            try:
                request = pickle.load(self._pipe)
            except (EOFError, pickle.UnpicklingError):
                # Nobody waits for an answer any more. At once: what is half written has a temporary name.
                os._exit(0)
            self._waiting.put(request)
            if isinstance(request, Begin):
                self._stage_wanted.set()


class _Answers:
    """Where answers go; threads of a stage may log at the same time."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, answer: Any) -> None:
        """Sends one."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            pickle.dump(answer, self._pipe)
            self._pipe.flush()

    def say(self, message: "Message") -> None:
        """Sends a line of the log."""
        record = message.record
        self.send(Said(record["level"].name, record["message"], record["name"] or "", record["line"]))


class _Elsewhere:
    """The process that started this one, see `stages.context.Elsewhere`."""

    def __init__(self, answers: _Answers, requests: _Requests) -> None:
        self._answers = answers
        self._requests = requests

    def send(self, job: Any) -> None:
        self._answers.send(Job(job))

    def settle(self) -> None:
        self._answers.send(Settle())
        # While a stage runs, nothing else is asked.
        self._requests.next()


def main() -> None:
    """Runs stages as they are asked for."""
    share_one_heap()
    from stages.pipeline import StageRunner

    answers = _Answers(_own_output())
    requests = _Requests(sys.stdin.buffer)
    logger.remove()
    logger.add(answers.say, level="DEBUG", format="{message}")
    _warm_up(requests)
    first = requests.next()
    runner = StageRunner.of(first.config_path, first.device)
    while True:
        request = requests.next()
        try:
            if isinstance(request, Begin):
                answers.send(Begun(runner.begin(request.stage, request.force)))
            else:
                runner.go(_Elsewhere(answers, requests))
                answers.send(Ended())
                # The calibration's quarter of a gigabyte, which tracking does not need.
                gc.collect()
                give_freed_memory_back()
        except Exception as error:  # noqa: BLE001, it is raised again where the answer is read
            error.add_note(traceback.format_exc())
            answers.send(Failed(_sendable(error)))


def _warm_up(requests: _Requests) -> None:
    """Loads libraries and kernels until there is something to do."""
    from tracker import warm_up

    _until_wanted(warm_up.libraries(), requests)
    # What has been imported stays to the end, and need not be looked through again.
    gc.freeze()
    gc.enable()
    _until_wanted(warm_up.kernels(), requests)


def _until_wanted(steps: Iterator[None], requests: _Requests) -> None:
    while not requests.stage_wanted() and next(steps, StopIteration) is None:
        pass


def _own_output() -> IO[bytes]:
    """The standard output; what anything else prints there goes to standard error."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001, whatever a class may do when it is taken apart and put together
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
