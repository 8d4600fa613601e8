"""Which head model `head: auto` stands for on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.config import Config
from tracker.head.generic import GENERIC_HEAD_PATH, bias_path, load_generic
from tracker.head.ict import cache_path, convert_ict, find_ict, ict_folder, load_ict
from tracker.head.plain import PlainHead

if TYPE_CHECKING:
    # torch takes a second to import; naming a model and drawing it do without.
    from tracker.head.model import HeadModel


def head_name(config: Config) -> str:
    """The head model that a config asks for.

    Args:
        config: its `head`, `head_path` and `flame_geom_path`.

    Returns:
        'flame', 'ict' or 'generic'; `auto` is FLAME where its file is there, else ICT-FaceKit where its folder is,
        else the embedded generic head.
    """
    if config.head != "auto":
        return config.head
    if Path(config.flame_geom_path).is_file():
        return "flame"
    return "generic" if find_ict(_ict_place(config)) is None else "ict"


def prepare_head(config: Config, progress: Callable[[str], None]) -> None:
    """Does now what the first use of a head model costs (ICT-FaceKit's conversion), and says how far it is.

    Raises:
        InputError: the model's files are missing or damaged.
    """
    if head_name(config) == "ict":
        convert_ict(_ict_place(config), progress)


def _ict_place(config: Config) -> Path | None:
    return Path(config.head_path) if config.head_path else None


def load_head_model(config: Config) -> "HeadModel":
    """Loads the head model that a config asks for, cut to the configured number of modes.

    Raises:
        InputError: the model's file is missing or damaged.
    """
    name = head_name(config)
    if name == "flame":
        from tracker.head.flame import load_flame

        model = load_flame(Path(config.head_path or config.flame_geom_path))
    elif name == "ict":
        model = load_ict(_ict_place(config))
    else:
        model = load_generic(Path(config.head_path) if config.head_path else None)
    return model.with_modes(config.num_shape_params, config.num_exp_params)


def load_plain_head(config: Config) -> PlainHead:
    """The same head in numpy; FLAME's pickles need torch to be read, the project's own layout does not.

    Raises:
        InputError: the model's file is missing or damaged.
    """
    name = head_name(config)
    if name == "flame":
        return PlainHead.of(load_head_model(config))
    if name == "ict":
        path = convert_ict(_ict_place(config))
    else:
        path = Path(config.head_path) if config.head_path else GENERIC_HEAD_PATH
    return PlainHead.read(path).with_modes(config.num_shape_params, config.num_exp_params)


def model_files(config: Config) -> list[Path]:
    """Files of the chosen head model, its measured landmark bias included, for the manifests."""
    name = head_name(config)
    if name == "flame":
        path = Path(config.head_path or config.flame_geom_path)
        return [path if path.is_dir() else path.parent]
    if name == "ict":
        # Where they are kept; `prepare_head` makes them.
        path = cache_path(ict_folder(_ict_place(config)))
        return [path, bias_path(path)]
    path = Path(config.head_path) if config.head_path else GENERIC_HEAD_PATH
    bias = bias_path(path)
    return [path, bias] if bias.is_file() else [path]
