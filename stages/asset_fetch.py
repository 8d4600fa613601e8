"""Downloads of `assets fetch`: through the libraries, or a zip file of which only the wanted members are kept."""

import getpass
import http.client
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stages import files
from stages.asset_list import Archive, Asset, find
from stages.asset_places import ASSETS
from tracker.errors import InputError
from tracker.file_hash import sha256

CHECKSUMS = ASSETS / "checksums.json"
_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 20
# What a library or urllib raises where there is no way to the server, or it breaks off. requests' errors are OSErrors.
_FAILURES = (OSError, http.client.HTTPException, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError)


def fetch(asset: Asset, again: bool = False) -> Path:
    """Downloads an asset to its place and keeps its checksum.

    Args:
        asset: one that can be fetched.
        again: although it is there; what was there is kept under another name, and comes back where this fails.

    Returns:
        Its file.

    Raises:
        InputError: no connection, a refusal, or another content than expected; one line with the remedy.
    """
    try:
        if asset.library == "face-alignment":
            with _instead_of(asset.folder() / asset.names[0], again):
                _by_face_alignment(asset)
        elif asset.library:
            with _instead_of(asset.folder(), again):
                _by_insightface(asset)
        elif asset.archive is not None:
            _by_archive(asset, asset.archive)
    except _FAILURES as error:
        raise InputError(f"{asset.name}: {_reason(error)}; {_remedy(asset)}") from error
    path = find(asset)
    if path is None:
        raise InputError(f"{asset.name}: the download holds no {asset.names[0]}; {_remedy(asset)}")
    _keep_checksum(asset, path)
    return path


@contextmanager
def _instead_of(path: Path, again: bool) -> Iterator[None]:
    """Sets a file or folder aside, because the libraries skip what is there; puts it back where nothing replaced it."""
    old = files.set_aside(path) if again and path.exists() else None
    try:
        yield
    finally:
        if old is not None and not path.exists():
            old.rename(path)


def checksums() -> dict[str, str]:
    """The sha256 of what was fetched, by asset; empty where nothing was, or the file is not of this form."""
    return {
        name: record["sha256"]
        for name, record in _records().items()
        if isinstance(record, dict) and isinstance(record.get("sha256"), str)
    }


def _records() -> dict[str, Any]:
    """What was fetched, by asset: file, sha256, origin.

    Raises:
        InputError: the file is damaged.
    """
    content = files.read_json(CHECKSUMS) if CHECKSUMS.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{CHECKSUMS}: holds {type(content).__name__}, not a table of checksums; delete it")
    return content


def named_checksum(path: Path) -> str:
    """The beginning of the sha256 that a file's name holds, as torch names weights; empty without one.

    `2DFAN4-11f355bf06.pth.tar` must begin with 11f355bf06.
    """
    _, _, end = path.name.partition("-")
    digits = end.partition(".")[0]
    return digits if len(digits) >= 8 and all(digit in "0123456789abcdef" for digit in digits) else ""


def _by_face_alignment(asset: Asset) -> None:
    from face_alignment.api import models_urls
    from face_alignment.detection.sfd.sfd_detector import models_urls as detector_urls
    from face_alignment.utils import load_file_from_url

    (url,) = [url for url in (*models_urls.values(), *detector_urls.values()) if url.endswith(asset.names[0])]
    load_file_from_url(url)


def _by_insightface(asset: Asset) -> None:
    from insightface.utils import ensure_available

    folder = asset.folder()
    if folder.is_dir() and find(asset) is None:
        # The library takes any folder of that name for the whole pack.
        files.set_aside(folder)
    try:
        ensure_available("models", asset.name, root=str(folder.parent.parent))
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    folder.with_suffix(".zip").unlink(missing_ok=True)


def _by_archive(asset: Asset, archive: Archive) -> None:
    form = _ask_account(asset) if archive.account else None
    target = asset.folder()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, suffix=files.TEMPORARY_SUFFIX) as folder:
        path = Path(folder) / "archive.zip"
        _download(archive.url, form, path)
        if not zipfile.is_zipfile(path):
            refused = (
                "refused: wrong user name or password, or its licence is not accepted" if form else "sent no archive"
            )
            raise InputError(f"{asset.name}: {_host(archive.url)} {refused}; {_remedy(asset)}")
        with zipfile.ZipFile(path) as content:
            _extract(content, archive.wanted, Path(folder) / "content")
        for item in sorted((Path(folder) / "content").iterdir()):
            _put(item, target / item.name)


def _ask_account(asset: Asset) -> bytes:
    """User name and password as a form, from the prompt; they are sent to the site and kept nowhere.

    Raises:
        InputError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise InputError(f"{asset.name}: asks for your account of {asset.origin}; run it in a terminal")
    sys.stderr.write(f"{asset.name}: {asset.origin} (licence: {asset.licence}). Your account there, kept nowhere:\n")
    user = input("user name: ")
    return urllib.parse.urlencode({"username": user, "password": getpass.getpass("password: ")}).encode()


def _download(url: str, form: bytes | None, path: Path) -> None:
    """Downloads to a file, with what it takes said on the console."""
    request = urllib.request.Request(url, form)
    # An opener of its own: the common one keeps the proxies that it first saw.
    with urllib.request.build_opener().open(request, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:
        expected = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while chunk := answer.read(_CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            if sys.stderr.isatty():
                total = f" of {expected / 1e6:.0f}" if expected else ""
                sys.stderr.write(f"\r{done / 1e6:.0f}{total} MB")
        if sys.stderr.isatty():
            sys.stderr.write("\n")
    if done < expected:
        raise EOFError(f"the connection broke off after {done} of {expected} bytes")


def _extract(content: zipfile.ZipFile, wanted: tuple[str, ...], target: Path) -> None:
    """Takes files by name, and folders (names that end in /) with what is in them; other members are passed over."""
    target.mkdir()
    for member in content.infolist():
        parts = PurePosixPath(member.filename).parts
        if member.is_dir() or ".." in parts:
            continue
        for name in wanted:
            folder = name.removesuffix("/")
            inside = name.endswith("/") and folder in parts[:-1]
            if inside or parts[-1] == name:
                kept = parts[parts.index(folder) :] if inside else parts[-1:]
                path = target.joinpath(*kept)
                path.parent.mkdir(parents=True, exist_ok=True)
                with content.open(member) as source, path.open("wb") as file:
                    shutil.copyfileobj(source, file)


def _put(item: Path, target: Path) -> None:
    """Moves a new file or folder to its place; what was there is kept under another name."""
    if target.exists():
        files.set_aside(target)
    os.replace(item, target)


def _keep_checksum(asset: Asset, path: Path) -> None:
    found = sha256(path)
    expected = named_checksum(path)
    if not found.startswith(expected):
        bad = files.set_aside(path)
        raise InputError(
            f"{asset.name}: damaged on the way (sha256 {found[:10]}…, its name says {expected}); kept as {bad.name}, "
            f"fetch it again"
        )
    record = {"file": str(path), "sha256": found, "origin": asset.origin}
    files.write_json(CHECKSUMS, _records() | {asset.name: record})


def _reason(error: BaseException) -> str:
    """Why a download failed, in one line."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{_host(error.url or '')} answers {error.code} ({error.reason})"
    # The libraries wrap the system's words several times.
    while inner := next((one for one in (getattr(error, "reason", None), *error.args) if _is_error(one)), None):
        error = inner
    text = " ".join(str(error).split())[:160] or type(error).__name__
    return f"not downloaded ({text})"


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)


def _remedy(asset: Asset) -> str:
    return (
        f"check the network, or https_proxy behind a proxy, or get it from {asset.origin} yourself: "
        f"{asset.folder() / asset.names[0]}"
    )


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or url
