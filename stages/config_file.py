"""Reads a config file: YAML, command-line overrides, one-line errors with the dotted path and the nearest name."""

import difflib
import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tracker.config import LEGACY_KEYS, Config, field_paths, with_profile
from tracker.errors import InputError


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number (YAML 1.1 wants 1.0e-3), a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> tuple[Config, list[str]]:
    """Reads and checks a config file.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` strings, values in YAML, applied over the file.

    Returns:
        The config, with `config_name` filled in, and the metrical-tracker keys found that have no effect.

    Raises:
        InputError: no such file, not YAML, an unknown key, a wrong type, a value out of range.
    """
    data = _read_yaml(path)
    for override in overrides:
        _apply_override(data, override)
    ignored = sorted(LEGACY_KEYS & data.keys())
    for key in ignored:
        del data[key]
    if not data.get("config_name"):
        data["config_name"] = path.stem
    if data.get("keyframes") == "auto":
        data["keyframes"] = []
    try:
        # JSON in strict mode: lists become tuples and whole numbers floats, but '25' is no number and 1 no boolean.
        return Config.model_validate_json(json.dumps(with_profile(data), default=str), strict=True), ignored
    except ValidationError as error:
        raise InputError(_explain(error, path, overrides)) from error


def dump_config(config: Config) -> str:
    """The resolved config as YAML, readable by `load_config`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such config file{_similar_file(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a config file ({error}); expected a YAML text file") from error
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {_one_line(error)}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InputError(f"{path}: expected 'key: value' lines, found {type(data).__name__}")
    return data


def _similar_file(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob("*.yml")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, 1) or sorted(siblings)[:3]
    return f"; did you mean {', '.join(str(path.parent / name) for name in close)}?" if close else ""


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: expected dotted.key=value, e.g. --set fps=30")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not valid YAML: {_one_line(error)}") from error
    *sections, name = key.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}: '{section}' is not a section{_nearest(key)}")
        data = inner
    data[name] = value


def _explain(error: ValidationError, path: Path, overrides: tuple[str, ...]) -> str:
    """One line for the first problem pydantic found."""
    problem = error.errors()[0]
    dotted = ".".join(str(part) for part in problem["loc"])
    field = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
    given = [item for item in overrides if item.partition("=")[0] == field]
    where = f"--set {given[-1]}" if given else str(path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key '{dotted}'{_nearest(dotted)}{more}"
    if problem["type"] == "missing":
        return f"{where}: the key '{dotted}' is missing{more}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    message = message if message.startswith(("expected", "image_size")) else f"expected {message}"
    found = f", found {problem['input']!r}" if dotted else ""
    return f"{where}: {dotted + ': ' if dotted else ''}{message}{found}{more}"


def _nearest(dotted: str) -> str:
    """The valid name most like an unknown one, looked up by full path and by last name."""
    paths = field_paths()
    close = difflib.get_close_matches(dotted, paths, 1, 0.7)
    if not close:
        last = dotted.rpartition(".")[2]
        named = {path.rpartition(".")[2]: path for path in reversed(paths)}
        close = [named[name] for name in difflib.get_close_matches(last, list(named), 1, 0.6)]
    return f"; did you mean '{close[0]}'?" if close else "; the README lists the valid keys"


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
