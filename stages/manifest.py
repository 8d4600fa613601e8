"""Manifests: what a stage was made from, so that it is skipped on an exact match alone, and why it would run.

A manifest is a JSON file beside the outputs: the config part, a hash of each input, the code the stage depends on, and
a listing of the outputs. It is written twice: when the stage starts (`complete` false) and, last of all, when it ends.
"""

import ast
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from stages import files
from tracker.errors import InputError
from tracker.file_hash import content_hash

ROOT = Path(__file__).resolve().parent.parent
MISSING = "missing"
# Config values reach a manifest through the config part, and a new default for one stage must not repeat the others;
# what only reports or keeps accounts does not change any output.
_WITHOUT_EFFECT = frozenset(
    {"tracker.config", "tracker.settings", "stages.config_file", "stages.logs", "stages.context", "stages.manifest"}
)
_HASH_THREADS = 2
# An import statement: the module and its names, or modules. Parsing all sources takes a fifth of a second, this a
# twentieth of that.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n;]+)|import[ \t]+([^\n;]+))", re.MULTILINE
)
_COMMENT = re.compile("#.*")
# Imports that do not begin a line, or go on behind a backslash.
_UNUSUAL = re.compile(r"\\\n|[;:][ \t]*(?:from|import)\b")


@dataclass(frozen=True)
class Manifest:
    """Identity of one stage's outputs.

    Attributes:
        stage: the stage's name.
        complete: the stage ran to its end.
        config: the part of the config that the outputs depend on, dotted key to JSON value.
        inputs: path as the user sees it to content hash, or 'missing'.
        code: module name to hash of its source, for every module of this project that the stage imports.
        outputs: name of each owned file or folder to a hash of its listing (names and sizes).
        notes: facts for people, e.g. how many frames were made.
    """

    stage: str
    complete: bool
    config: dict[str, Any]
    inputs: dict[str, str]
    code: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def finished(self, outputs: dict[str, str], notes: dict[str, Any]) -> "Manifest":
        """The same manifest for a stage that ran to its end."""
        return replace(self, complete=True, outputs=outputs, notes=notes)

    def difference(self, now: "Manifest") -> str | None:
        """Why outputs made under this manifest do not serve `now`; None when they do."""
        for label, old, new in (
            ("config", self.config, now.config),
            ("input", self.inputs, now.inputs),
            ("code", self.code, now.code),
        ):
            changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            if changed:
                return f"{label} changed: {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''}"
        return None


def read(path: Path) -> Manifest | None:
    """Reads a manifest; None when there is none or it is from another version of this format."""
    if not path.exists():
        return None
    try:
        return Manifest(**files.read_json(path))
    except (InputError, TypeError):
        return None


def write(path: Path, manifest: Manifest) -> None:
    """Writes a manifest atomically."""
    files.write_json(path, asdict(manifest))


def flatten(part: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config part to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in part.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


class HashCache:
    """Content hashes of files, remembered by size and modification time in a JSON file.

    Hashing 250 frames of 1080p takes about a second; a run asks for the same files several times.
    """

    def __init__(self, path: Path) -> None:
        """Opens the cache kept in `path`; a missing or damaged one starts empty."""
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        self.reload()

    def reload(self) -> None:
        """Adds what another process has saved meanwhile."""
        with suppress(InputError):
            self._known |= files.read_json(self._path) if self._path.exists() else {}

    def digest(self, path: Path) -> str:
        """Hash of a file's content, or of a folder's names and contents; 'missing' if there is neither."""
        if path.is_dir():
            names, stamps = _members(path)
            places = [str(path.absolute() / name) for name in names]
            digests = [self._remembered(*pair) for pair in zip(places, stamps, strict=True)]
            if None in digests:
                with ThreadPoolExecutor(_HASH_THREADS) as pool:
                    digests = list(pool.map(self._file, places, stamps))
            return _hash("\n".join(f"{n} {d}" for n, d in zip(names, digests, strict=True)).encode())
        return self._file(str(path.absolute()), path.stat()) if path.is_file() else MISSING

    def save(self) -> None:
        """Writes the cache, without files that are gone, if anything was added."""
        if self._changed:
            there = _there(self._known)
            files.write_json(self._path, {place: known for place, known in self._known.items() if place in there})
            self._changed = False

    def _file(self, place: str, status: os.stat_result) -> str:
        digest = self._remembered(place, status)
        if digest is None:
            digest = content_hash(Path(place))
            self._known[place] = [*_stamp(status), digest]
            self._changed = True
        return digest

    def _remembered(self, place: str, status: os.stat_result) -> str | None:
        known = self._known.get(place)
        return str(known[3]) if known is not None and known[:3] == _stamp(status) else None


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _there(places: Iterable[str]) -> set[str]:
    """Those of some files that are there; their folders are listed, which is quicker than asking for each."""
    by_folder: dict[str, list[str]] = {}
    for place in places:
        by_folder.setdefault(os.path.dirname(place), []).append(place)
    there: set[str] = set()
    for folder, within in by_folder.items():
        try:
            names = set(os.listdir(folder))
            there.update(place for place in within if os.path.basename(place) in names)
        except OSError:
            # Gone, or one that may be entered but not listed.
            there.update(place for place in within if os.path.exists(place))
    return there


def _members(folder: Path) -> tuple[list[str], list[os.stat_result]]:
    """Names, with those of their folders, of the finished files in a folder at any depth, in order; what they are."""
    found = sorted(_walk(str(folder), ""), key=lambda member: member[0].split("/"))
    return [name for name, _ in found], [status for _, status in found]


def _walk(folder: str, above: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                # One that may not be read (lost+found) is left out, as pathlib does.
                with suppress(PermissionError):
                    yield from _walk(entry.path, f"{above}{entry.name}/")
            elif entry.is_file() and not entry.name.endswith(files.TEMPORARY_SUFFIX):
                yield above + entry.name, entry.stat()


def listing(path: Path) -> str:
    """Hash of the names and sizes in a folder, or of a file's size; 'missing' if there is neither."""
    if path.is_dir():
        members = zip(*_members(path), strict=True)
        return _hash("\n".join(f"{name} {status.st_size}" for name, status in members).encode())
    return _hash(str(path.stat().st_size).encode()) if path.is_file() else MISSING


def code_version(module: str) -> dict[str, str]:
    """Hashes of a module's source and of all this project's modules that it imports, at any depth.

    Args:
        module: dotted name, e.g. 'stages.crop'.

    Returns:
        Module name to hash; modules without effect on outputs are left out, see `_WITHOUT_EFFECT`.
    """
    versions: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in versions or name in _WITHOUT_EFFECT:
            continue
        path = _module_path(name)
        if path is not None:
            versions[name], imported = _source(path, name)
            waiting += imported
    return dict(sorted(versions.items()))


@cache
def _module_path(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def _source(path: Path, name: str) -> tuple[str, list[str]]:
    """Hash of a source file and the project modules that it imports anywhere, functions included."""
    data = path.read_bytes()
    text = _COMMENT.sub("", data.decode())
    # Few sources have imports of another form than ours; those are parsed.
    statements = _parsed(data) if _UNUSUAL.search(text) else _matched(text)
    imported = []
    for module, names in statements:
        whole, dots = module, len(module) - len(module.lstrip("."))
        if dots:
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            whole = ".".join([*package[: len(package) - dots + 1], *filter(None, [module[dots:]])])
        imported += [whole, *(f"{whole}.{part}" for part in names)]
    ours = [m for m in imported if m.split(".")[0] in ("tracker", "stages")]
    return _hash(data), ours


def _matched(text: str) -> Iterator[tuple[str, list[str]]]:
    """Modules that a source imports, with leading dots where relative, and the names taken from each."""
    for module, names, plain in _IMPORT.findall(text):
        if module:
            yield module, _first_words(names.strip("()"))
        else:
            yield from ((part, []) for part in _first_words(plain))


def _first_words(names: str) -> list[str]:
    """`a as b, c` without what follows `as`."""
    return [words[0] for part in names.split(",") if (words := part.split())]


def _parsed(data: bytes) -> Iterator[tuple[str, list[str]]]:
    """The same by Python's parser."""
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [alias.name for alias in node.names]


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
