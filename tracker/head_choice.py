"""Which head model `head: auto` stands for on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.config import Config
from tracker.errors import InputError
from tracker.head.flame_places import FULL_EXPRESSION, FULL_SHAPE, find_flame, flame_files, is_flame, model_file
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
    if config.head_path:
        path = Path(config.head_path)
        return "flame" if is_flame(path) else "generic" if find_ict(path) is None else "ict"
    if model_file(flame_path(config)):
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

        return _flame_modes(load_flame(flame_path(config)), config)
    elif name == "ict":
        model = load_ict(_ict_place(config))
    else:
        model = load_generic(Path(config.head_path) if config.head_path else None)
    return model.with_modes(config.num_shape_params, config.num_exp_params)


def flame_path(config: Config) -> Path:
    """File or folder of the FLAME model that a config names; where it names none, any release of it in assets/."""
    path = Path(config.head_path or config.flame_geom_path)
    if path == Path(Config.model_fields["flame_geom_path"].default) and not path.is_file():
        # Another release has another file name, and people unpack it into a folder of its own name.
        return find_flame(path.parents[1]) or path
    return path


def _flame_modes(model: "HeadModel", config: Config) -> "HeadModel":
    """The model with the configured number of modes; the full counts, the defaults, stand for all that it has.

    Raises:
        InputError: the config asks for another number than the full one, and for more than the file has.
    """
    wanted = {
        "num_shape_params": (config.num_shape_params, FULL_SHAPE, model.shape_count),
        "num_exp_params": (config.num_exp_params, FULL_EXPRESSION, model.expression_count),
    }
    for key, (asked, full, held) in wanted.items():
        if asked > held and asked != full:
            raise InputError(f"{key}: {asked} is more than the {held} that {flame_path(config)} holds; lower it")
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
        return flame_files(flame_path(config))
    if name == "ict":
        # Where they are kept; `prepare_head` makes them.
        path = cache_path(ict_folder(_ict_place(config)))
        return [path, bias_path(path)]
    path = Path(config.head_path) if config.head_path else GENERIC_HEAD_PATH
    bias = bias_path(path)
    return [path, bias] if bias.is_file() else [path]
