"""Measures FaceMesh's landmark bias on a head model: `python -m stages.landmark_bias`.

A tool beside the stages. Renders demo clips of several identities, runs FaceMesh on every picture, and writes the mean
offset of each landmark, its spread, and its response to closing lids beside the head model, where the calibration finds
them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from loguru import logger

from stages import files, logs
from tracker.command_line import OneLineParser
from tracker.errors import InputError, TrackerError
from tracker.head.bias_file import bias_path, load_bias
from tracker.head.generic import GENERIC_HEAD_PATH
from tracker.head.measure_bias import measure_bias
from tracker.head.store import load_head

# What the generic head's file was made with: enough people to tell how offsets follow the identity.
_PEOPLE, _EVERY = 300, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=_PEOPLE, help="number of rendered identities")
    parser.add_argument("--every", type=int, default=_EVERY, help="use every n-th of 60 frames of a clip")
    parser.add_argument("--head", type=Path, default=GENERIC_HEAD_PATH, help="head model (npz of this project)")
    parser.add_argument(
        "--lids-only", action="store_true", help="keep the offsets that lie beside the model, measure the lids anew"
    )
    logs.log_to_console()
    try:
        options = parser.parse_args(arguments)
        # Without the bias that is measured anew, which may be damaged or of an older version.
        model = load_head(options.head)
        kept = load_bias(model, bias_path(options.head)) if options.lids_only else None
        if options.lids_only and kept is None:
            raise InputError(f"{bias_path(options.head)}: no offsets of this head; measure them without --lids-only")
        bias = measure_bias(model, options.identities, options.every, kept, logger.info)
    except TrackerError as error:
        logger.error(str(error))
        return 1
    path = bias_path(options.head)
    files.write_atomic(path, bias.save)
    size, spread, noise = (
        1000 * np.median(v) for v in (np.linalg.norm(bias.offset_m, axis=1), bias.spread_m, bias.noise_m)
    )
    logger.info(
        f"{path}: median offset {size:.2f} mm, spread between identities {spread:.2f} mm, a view's noise {noise:.2f} mm"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
