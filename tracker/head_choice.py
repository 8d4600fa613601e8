"""Which head model `head: auto` stands for on this machine."""

from pathlib import Path

from tracker.config import Config


def head_name(config: Config) -> str:
    """The head model that a config asks for.

    Args:
        config: its `head`, `head_path` and `flame_geom_path`.

    Returns:
        'flame', 'ict' or 'generic'; `auto` is FLAME where its file is there, else the embedded generic head.
    """
    if config.head != "auto":
        return config.head
    return "flame" if Path(config.flame_geom_path).is_file() else "generic"
