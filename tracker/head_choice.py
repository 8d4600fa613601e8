"""Which head model `head: auto` stands for on this machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.config import Config
from tracker.errors import InputError
from tracker.head.bias_file import bias_path, with_bias
from tracker.head.flame_bias import flame_bias_path, measure_flame_bias
from tracker.head.flame_places import FULL_EXPRESSION, FULL_SHAPE, find_flame, flame_files, is_flame, model_file
from tracker.head.generic import GENERIC_HEAD_PATH, load_generic
from tracker.head.ict import cache_path, convert_ict, find_ict, ict_folder, load_ict
from tracker.head.plain import PlainHead

if TYPE_CHECKING:
    # torch takes a second to import; naming a model and drawing it do without.
    from tracker.head.model import HeadModel

_DEFAULT_FLAME = Path(Config.model_fields["flame_geom_path"].default)
# metrical-tracker's own default, which its YAML files may repeat though the file is not on this machine.
_LEGACY_FLAME = Path("data/FLAME2020/generic_model.pkl")


def head_name(config: Config) -> str:
    """The head model that a config asks for.

    Args:
        config: its `head`, `head_path` and `flame_geom_path`.

    Returns:
        'flame', 'ict' or 'generic'; `auto` is FLAME where its file is there, else ICT-FaceKit where its folder is,
        else the embedded generic head. `head_path` decides by what it holds, except that a `flame_geom_path` beside
        an ICT-FaceKit folder makes it FLAME.

    Raises:
        InputError: `auto`, and `flame_geom_path` names no FLAME model.
    """
    if config.head != "auto":
        return config.head
    if config.head_path and is_flame(Path(config.head_path)):
        return "flame"
    ict = find_ict(_ict_place(config)) is not None
    if config.head_path and not ict:
        return "generic"
    if _names_flame(config):
        if model_file(Path(config.flame_geom_path)) is None:
            raise InputError(
                f"flame_geom_path: {config.flame_geom_path} is no FLAME model and no folder with one; correct it, or "
                f"leave it out for another head model"
            )
        return "flame"
    if not config.head_path and model_file(flame_path(config)):
        return "flame"
    return "ict" if ict else "generic"


def _names_flame(config: Config) -> bool:
    """Whether `flame_geom_path` is one of the user's own; the usual places stand for whatever is there."""
    return bool(config.flame_geom_path) and Path(config.flame_geom_path) not in (_DEFAULT_FLAME, _LEGACY_FLAME)


def prepare_head(config: Config, progress: Callable[[str], None]) -> None:
    """Does now what the first use of a head model costs, and says how far it is.

    That is ICT-FaceKit's conversion, and the measurement of FLAME's landmark bias.

    Raises:
        InputError: the model's files are missing or damaged, or `tex_space_path` is not there.
    """
    if config.tex_space_path:
        # OpenCV takes a while to import.
        from tracker.texture_space import check_texture_path

        check_texture_path(config.tex_space_path)
    name = head_name(config)
    if name == "ict":
        convert_ict(_ict_place(config), progress)
    elif name == "flame":
        measure_flame_bias(flame_path(config), progress)


def _ict_place(config: Config) -> Path | None:
    return Path(config.head_path) if config.head_path else None


def load_head_model(config: Config) -> "HeadModel":
    """Loads the head model that a config asks for, with its landmark bias, cut to the configured number of modes.

    Raises:
        InputError: the model's file is missing or damaged.
    """
    name = head_name(config)
    if name == "flame":
        from tracker.head.flame import load_flame

        path = flame_path(config)
        return _flame_modes(_with_notes(with_bias(load_flame(path), flame_bias_path(path)), config), config)
    elif name == "ict":
        model = load_ict(_ict_place(config))
    else:
        model = load_generic(Path(config.head_path) if config.head_path else None)
    return _with_notes(model, config).with_modes(config.num_shape_params, config.num_exp_params)


def flame_path(config: Config) -> Path:
    """File or folder of the FLAME model that a config names; where it names none, any release of it in assets/.

    A `head_path` that is an ICT-FaceKit folder names none: `flame_geom_path` does.
    """
    head_path = Path(config.head_path)
    if config.head_path and (is_flame(head_path) or find_ict(head_path) is None):
        return head_path
    path = Path(config.flame_geom_path) if config.flame_geom_path else _DEFAULT_FLAME
    if path in (_DEFAULT_FLAME, _LEGACY_FLAME) and not path.is_file():
        # Another release has another file name, and people unpack it into a folder of its own name.
        return find_flame(_DEFAULT_FLAME.parents[1]) or path
    return path


def _with_notes(model: "HeadModel", config: Config) -> "HeadModel":
    """The model with a sentence for each path of the config that it does not come from."""
    notes = []
    if Path(config.flame_geom_path) == _LEGACY_FLAME and not _LEGACY_FLAME.is_file():
        notes.append(
            f"flame_geom_path: {config.flame_geom_path}, metrical-tracker's own default, is not there and taken as not "
            f"given; the head model is {model_files(config)[0]}"
        )
    if model.name == "flame" and config.head_path and flame_path(config) != Path(config.head_path):
        notes.append(
            f"head_path: {config.head_path} holds ICT-FaceKit, the head model is {flame_path(config)}; head: ict takes "
            f"the other"
        )
    return replace(model, notes=(*model.notes, *notes))


def _flame_modes(model: "HeadModel", config: Config) -> "HeadModel":
    """The model with the configured number of modes; the full counts, the defaults, stand for all that it has.

    A note tells so where the config spells them out.

    Raises:
        InputError: the config asks for another number than the full one, and for more than the file has.
    """
    wanted = {
        "num_shape_params": (config.num_shape_params, FULL_SHAPE, model.shape_count),
        "num_exp_params": (config.num_exp_params, FULL_EXPRESSION, model.expression_count),
    }
    notes = []
    for key, (asked, full, held) in wanted.items():
        # Not an error: the config.yml beside a track holds the defaults, too, and must load again.
        if asked > held and asked == full and key in config.model_fields_set:
            notes.append(f"{key}: {asked} asked for, {flame_path(config)} holds {held}, which are all used")
        elif asked > held and asked != full:
            raise InputError(f"{key}: {asked} is more than the {held} that {flame_path(config)} holds; lower it")
    model = replace(model, notes=(*model.notes, *notes))
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
        bias = flame_bias_path(flame_path(config))
        return [*flame_files(flame_path(config)), *([bias] if bias.is_file() else [])]
    if name == "ict":
        # Where they are kept; `prepare_head` makes them.
        path = cache_path(ict_folder(_ict_place(config)))
        return [path, bias_path(path)]
    path = Path(config.head_path) if config.head_path else GENERIC_HEAD_PATH
    bias = bias_path(path)
    return [path, bias] if bias.is_file() else [path]
