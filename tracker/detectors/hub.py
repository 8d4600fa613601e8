"""torch's folder of downloaded weights, where face-alignment keeps its own."""

import os
from pathlib import Path


def checkpoints_dir() -> Path:
    """The folder, as `torch.hub.get_dir()` says, without importing torch for it."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", Path(cache) / "torch")).expanduser()
    return home / "hub" / "checkpoints"
