"""`python -m tracker.head.build [FILE]` writes the generic head (default assets/generic_head.npz)."""

import sys
from pathlib import Path

from tracker.head.build.model import build_model
from tracker.head.generic import GENERIC_HEAD_PATH
from tracker.head.store import save_head


def main(arguments: list[str]) -> None:
    """Builds and writes the model."""
    path = Path(arguments[0]) if arguments else GENERIC_HEAD_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    save_head(build_model(), path)


if __name__ == "__main__":
    main(sys.argv[1:])
