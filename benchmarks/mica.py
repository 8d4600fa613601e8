"""Times MICA's networks by torch and by onnxruntime in turns: `python -m benchmarks.mica [--weights assets/mica.tar]`.

Without weights random ones are made: the time does not depend on their values. Prints, for one picture and for eight,
the median and interquartile range of both and of their ratio in a round; what loading takes; the largest difference.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from tracker.mica.checkpoint import load_network
from tracker.mica.encoder import Encoder, OnnxEncoder, TorchEncoder, export_path
from tracker.mica.export import export_onnx
from tracker.mica.networks import MicaNetwork

Runtime = TypeVar("Runtime")

WARM_UP, ROUNDS = 1, 15
COUNTS = (1, 8)


def random_weights(path: Path) -> Path:
    """A checkpoint of the networks as torch starts them."""
    import torch

    torch.manual_seed(0)
    network = MicaNetwork()
    parts = {"arcface": network.arcface, "regressor": network.regressor}
    mapping = {f"regressor.{key}": value for key, value in parts["regressor"].state_dict().items()}
    torch.save({"arcface": parts["arcface"].state_dict(), "flameModel": mapping}, path)
    return path


def timed(work: Callable[[], Runtime]) -> tuple[float, Runtime]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def compare(encoders: Sequence[Encoder], count: int, rounds: int) -> tuple[np.ndarray, float]:
    """Seconds (rounds, encoders), taken in turns, and the largest difference of the codes by their largest value."""
    pictures = list(np.random.RandomState(0).uniform(-1, 1, (count, 3, 112, 112)).astype(np.float32))
    codes: list[np.ndarray] = []
    seconds = np.zeros((rounds, len(encoders)))
    for turn in range(-WARM_UP, rounds):
        for place, encoder in enumerate(encoders):
            start = time.perf_counter()
            found = encoder.encode(pictures)
            if turn >= 0:
                seconds[turn, place] = time.perf_counter() - start
            elif len(codes) <= place:
                codes.append(np.stack([one.shape for one in found]))
    return seconds, float(np.abs(codes[0] - codes[1]).max() / np.abs(codes[0]).max())


def quartiles(values: np.ndarray, unit: str) -> str:
    """Median and interquartile range."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.2f}{unit} (IQR {low:.2f} to {high:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("assets/mica.tar"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        given = options.weights.is_file()
        weights = options.weights if given else random_weights(Path(folder) / "mica.tar")
        export = export_path(Path(folder) / "mica.tar")
        export_onnx(weights, export)
        torch_s, network = timed(lambda: TorchEncoder(load_network(weights)))
        onnx_s, session = timed(lambda: OnnxEncoder(export))
        encoders = (network, session)
        print(
            f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python "
            f"{platform.python_version()}, {'given' if given else 'random'} weights"
        )
        print(f"loading: {network.runtime} {torch_s:.1f} s, {session.runtime} {onnx_s:.1f} s")
        for count in COUNTS:
            seconds, difference = compare(encoders, count, options.rounds)
            torch_part, onnx_part = seconds[:, 0], seconds[:, 1]
            print(
                f"{count} picture{'s' * (count > 1)}: torch {quartiles(1000 * torch_part, ' ms')}, onnxruntime "
                f"{quartiles(1000 * onnx_part, ' ms')}, torch / onnxruntime {quartiles(torch_part / onnx_part, '')}, "
                f"codes differ by {difference:.1e}"
            )


if __name__ == "__main__":
    main()
