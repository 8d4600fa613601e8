"""ARKit curves of an ict track against a scanned clip's truth: `python -m benchmarks.curves truth_e OUTPUT`.

OUTPUT is the output folder of a track of that clip, made with `head: ict` and `begin_frames: 0`. One line a unit that
the truth uses: its largest value, the correlation, the root mean square error, the gain (slope of the track over the
truth) and the mean difference. The truth holds no gaze, so eyeLook units are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scans import is_scan, scan_folder

# A unit takes part where it reaches this, and rests where it stays below the other.
_USED, _RESTING = 0.05, 0.01


@dataclass(frozen=True)
class UnitScore:
    """How one unit's curve follows the truth.

    Attributes:
        name: of the unit.
        largest: largest true value.
        correlation: over time.
        rms: root mean square difference.
        gain: slope of the track over the truth, 1 where it moves as far.
        bias: mean difference.
    """

    name: str
    largest: float
    correlation: float
    rms: float
    gain: float
    bias: float


def true_curves(truth: Path) -> np.ndarray:
    """(N, 52) curves of a truth file's ICT-FaceKit coefficients, halves averaged."""
    from tracker.head.arkit import ARKIT_NAMES, arkit_name

    with np.load(truth) as data:
        names, values = [arkit_name(str(name)) for name in data["exp_names"]], data["exp"].astype(np.float64)
    found = np.zeros((len(values), len(ARKIT_NAMES)))
    for place, unit in enumerate(ARKIT_NAMES):
        columns = [k for k, name in enumerate(names) if name == unit]
        if columns:
            found[:, place] = values[:, columns].mean(1)
    return found


def compare(tracked: np.ndarray, true: np.ndarray, names: Sequence[str]) -> tuple[list[UnitScore], float]:
    """Scores of the units that the truth uses, and the mean of those that rest.

    Args:
        tracked: (N, 52).
        true: (N, 52).
        names: of the 52.
    """
    scores = []
    for place, name in enumerate(names):
        a, b = tracked[:, place], true[:, place]
        if b.max() < _USED or name.startswith("eyeLook"):
            continue
        da, db = a - a.mean(), b - b.mean()
        spread = float(np.sqrt((da @ da) * (db @ db)))
        scores.append(
            UnitScore(
                name=name,
                largest=float(b.max()),
                correlation=float(da @ db) / spread if spread > 0 else 0.0,
                rms=float(np.sqrt(((a - b) ** 2).mean())),
                gain=float(da @ db) / float(db @ db),
                bias=float((a - b).mean()),
            )
        )
    resting = [k for k, name in enumerate(names) if true[:, k].max() <= _RESTING and not name.startswith("eyeLook")]
    return scores, float(tracked[:, resting].mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    from stages.config_file import load_config
    from stages.export.arkit import curves
    from stages.subject import Subject
    from tracker.head.arkit import ARKIT_NAMES

    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("clip", help="a scanned clip's name")
    parser.add_argument("output", type=Path, help="output folder of its track")
    given = parser.parse_args(arguments)
    if not is_scan(given.clip):
        parser.error(f"{given.clip}: no clip in {scan_folder('')}")
    config, _ = load_config(given.output / "config.yml")
    rows = curves(Subject(Path(config.actor), given.output, config.begin_frames, config.end_frames), config)
    true = true_curves(scan_folder(given.clip) / "truth.npz")
    scores, resting = compare(np.array([row["values"] for row in rows]), true[: len(rows)], ARKIT_NAMES)
    print(f"{'unit':<20} largest  corr.    rms   gain    bias")
    for one in scores:
        print(
            f"{one.name:<20} {one.largest:7.2f} {one.correlation:6.2f} {one.rms:6.3f} {one.gain:6.2f} {one.bias:+7.3f}"
        )
    print(f"units at rest in the truth: mean {resting:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
