"""`python run_tracking.py assets`: which files of other people are there, and what the missing ones would add.

`assets DIR…` looks in these folders, too, e.g. metrical-tracker's data/; `assets fetch NAME…` downloads.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages import asset_places
from stages.asset_fetch import checksums, fetch
from stages.asset_list import CATALOGUE, Asset, find
from stages.asset_places import ASSETS, companion_apart
from tracker.command_line import OneLineParser
from tracker.config import Config
from tracker.errors import InputError
from tracker.file_hash import sha256


def main(arguments: Sequence[str]) -> int:
    """Runs the subcommand; returns the exit code 0.

    Raises:
        InputError: an unknown name, a folder that does not exist, a failed download.
    """
    if arguments[:1] == ["fetch"]:
        _fetch(arguments[1:])
    else:
        _list(arguments)
    return 0


def _list(arguments: Sequence[str]) -> None:
    parser = OneLineParser(
        prog="run_tracking.py assets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="further folders to look in")
    folders = tuple(parser.parse_args(arguments).folders)
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name one that holds assets, or leave it out")
    known = checksums()
    for asset in CATALOGUE:
        _say(describe(asset, folders, known.get(asset.name, "")))
    for line in config_lines(folders):
        _say(line)


def describe(asset: Asset, folders: tuple[Path, ...], checksum: str) -> str:
    """The lines of one asset.

    Args:
        asset: the asset.
        folders: further folders to look in.
        checksum: sha256 of the file when it was fetched; empty where it was not.
    """
    path = find(asset, folders)
    if path is not None:
        changed = checksum and path == find(asset) and sha256(path) != checksum
        note = "  (changed since it was fetched)" if changed else ""
        return f"found    {asset.name: <16} {path}{note}"
    apart = None if asset.companion is None else companion_apart(asset.companion, folders)
    lines = [
        f"missing  {asset.name: <16} {asset.adds}",
        f"{'': <25} place: {asset.folder(folders) / asset.names[0]}",
        f"{'': <25} from: {asset.origin if apart is None else f'copy it from {apart.parent}'}",
        f"{'': <25} licence: {asset.licence}; registration: {asset.registration}",
    ]
    if asset.can_be_fetched:
        lines.append(f"{'': <25} python run_tracking.py assets fetch {asset.name}")
    return "\n".join(lines)


def config_lines(folders: tuple[Path, ...]) -> list[str]:
    """The config keys that point at what lies elsewhere than where the tracker looks by itself.

    All of them may stand in one config: ICT-FaceKit, where FLAME is there, too, is an alternative in comments.
    """
    lines = []
    model = asset_places.flame_model(folders)
    if model != asset_places.flame_model():
        lines.append(f"flame_geom_path: {model}")
    texture = asset_places.texture_space(folders)
    if model is not None and texture != asset_places.texture_beside_flame(folders):
        lines.append(f"tex_space_path: {texture}")
    (mica,) = [asset for asset in CATALOGUE if asset.name == "mica"]
    weights = find(mica, folders)
    if weights not in (None, Path(Config.model_fields["mica_path"].default)):
        lines.append(f"mica_path: {weights}")
    mesh = asset_places.ict_mesh(folders)
    if mesh is not None and mesh != asset_places.ict_mesh():
        place = f"head_path: {mesh.parent}"
        lines += [place] if model is None else ["# or, instead of FLAME:", "# head: ict", f"# {place}"]
    return ["", "To use these, put into your config:", *lines] if lines else []


def _fetch(arguments: Sequence[str]) -> None:
    parser = OneLineParser(prog="run_tracking.py assets fetch", description="Downloads assets.")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--again", action="store_true", help="although it is there")
    options = parser.parse_args(arguments)
    by_name = {asset.name: asset for asset in CATALOGUE}
    for name in options.names:
        if name not in by_name:
            able = ", ".join(asset.name for asset in CATALOGUE if asset.can_be_fetched)
            raise InputError(f"assets fetch {name}: unknown; there are {able}")
        if not by_name[name].can_be_fetched:
            asset = by_name[name]
            raise InputError(
                f"assets fetch {name}: get it from {asset.origin} yourself (licence: {asset.licence}) and put it into "
                f"{asset.folder()}"
            )
    if ASSETS.exists() and not ASSETS.is_dir():
        raise InputError(f"{ASSETS}: is a file; move it away, the downloads go into a folder of that name")
    ASSETS.mkdir(exist_ok=True)
    for name in options.names:
        asset = by_name[name]
        path = find(asset)
        if path is not None and not options.again:
            _say(f"{name}: already there, {path}")
            continue
        path = fetch(asset, again=path is not None)
        _say(f"{name}: {path}, sha256 {sha256(path)}; licence: {asset.licence}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
