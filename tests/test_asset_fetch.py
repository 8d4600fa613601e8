"""`run_tracking.py assets fetch`: downloads from a server on this machine, and through the libraries."""

import builtins
import getpass
import hashlib
import http.server
import io
import sys
import threading
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_scrfd
from assets_home import run_assets

from stages import asset_fetch, asset_list, assets, files
from stages.asset_list import CATALOGUE, Archive
from tracker.detectors import fan, scrfd
from tracker.detectors.hub import checkpoints_dir

pytestmark = pytest.mark.usefixtures("home")


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers with `pages`; a page of two tuples is (form that is asked for, content)."""

    pages: dict[str, Any]
    forms: list[dict[str, list[str]]]

    def do_GET(self) -> None:
        self._answer(self.pages.get(self.path))

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.forms.append(form)
        wanted, content = self.pages[self.path]
        self._answer(content if form == wanted else b"<html>please log in</html>")

    def _answer(self, content: Any) -> None:
        cut = content is not None and not isinstance(content, bytes)
        data = content[0] if cut else content
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"") + (1000 if cut else 0)))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {"pages": {}, "forms": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", handler
    running.shutdown()
    thread.join()
    running.server_close()


def _serve(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    """Lets an asset's archive come from another address."""
    changed = tuple(
        replace(asset, archive=replace(asset.archive, url=url)) if asset.name == name and asset.archive else asset
        for asset in CATALOGUE
    )
    monkeypatch.setattr(assets, "CATALOGUE", changed)


def test_archive_leaves_what_is_wanted_and_keeps_its_checksum(
    home: Path, server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = server
    handler.pages["/ict.zip"] = _zip(
        {
            "ICT-FaceKit-abc/FaceXModel/generic_neutral_mesh.obj": b"v 0 0 0\n",
            "ICT-FaceKit-abc/FaceXModel/sub/a.obj": b"v 1 0 0\n",
            "ICT-FaceKit-abc/LICENSE": b"MIT",
            "ICT-FaceKit-abc/Scripts/run.py": b"print()",
            "ICT-FaceKit-abc/FaceXModel/../../../evil": b"evil",
        }
    )
    _serve(monkeypatch, "ict", f"{address}/ict.zip")
    code, out, _ = run_assets(capsys, "fetch", "ict")
    assert code == 0
    found = {str(path.relative_to(home)) for path in (home / "assets").rglob("*") if path.is_file()}
    base = "assets/ICT-FaceKit"
    expected = {f"{base}/FaceXModel/generic_neutral_mesh.obj", f"{base}/FaceXModel/sub/a.obj", f"{base}/LICENSE"}
    assert found == expected | {"assets/checksums.json"}
    digest = hashlib.sha256(b"v 0 0 0\n").hexdigest()
    assert digest in out
    assert "licence: MIT" in out
    assert asset_fetch.checksums()["ict"] == digest
    assert not (home.parent / "evil").exists()
    # Once it is there, nothing is downloaded unless it is asked for; what changes since is said.
    handler.pages.clear()
    assert "ict: already there" in run_assets(capsys, "fetch", "ict")[1]
    assert "changed since" not in run_assets(capsys)[1]
    files.write_bytes(home / f"{base}/FaceXModel/generic_neutral_mesh.obj", b"other")
    assert "(changed since it was fetched)" in run_assets(capsys)[1]
    code, _, err = run_assets(capsys, "fetch", "ict", "--again")
    assert code == 1
    assert "127.0.0.1 answers 404" in err
    assert (home / f"{base}/FaceXModel/generic_neutral_mesh.obj").read_bytes() == b"other"


def test_again_replaces_the_folder_that_is_used(
    home: Path, server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = server
    handler.pages["/ict.zip"] = _zip({"ICT-FaceKit-abc/FaceXModel/generic_neutral_mesh.obj": b"new"})
    _serve(monkeypatch, "ict", f"{address}/ict.zip")
    used = home / "assets/FaceXModel/generic_neutral_mesh.obj"
    files.write_bytes(used, b"old")
    assert run_assets(capsys, "fetch", "ict", "--again")[0] == 0
    assert used.read_bytes() == b"new"
    assert (home / "assets/FaceXModel.old/generic_neutral_mesh.obj").read_bytes() == b"old"
    assert not (home / "assets/ICT-FaceKit").exists()


def test_credentials_are_asked_for_and_kept_nowhere(
    home: Path, server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = server
    right = {"username": ["a&b@c.org"], "password": ["s=ecret word"]}
    handler.pages["/flame.zip"] = (right, _zip({"FLAME2020/generic_model.pkl": b"model", "FLAME2020/Readme.pdf": b"x"}))
    _serve(monkeypatch, "flame", f"{address}/flame.zip")
    code, _, err = run_assets(capsys, "fetch", "flame")
    assert code == 1
    assert "flame: asks for your account of https://flame.is.tue.mpg.de; run it in a terminal" in err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", lambda _prompt: "a&b@c.org")
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: "wrong")
    code, _, err = run_assets(capsys, "fetch", "flame")
    assert code == 1
    assert "127.0.0.1 refused: wrong user name or password" in err
    assert not (home / "assets/FLAME2020/generic_model.pkl").exists()
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: "s=ecret word")
    assert run_assets(capsys, "fetch", "flame")[0] == 0
    assert (home / "assets/FLAME2020/generic_model.pkl").read_bytes() == b"model"
    assert handler.forms[-1] == right
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"ecret" not in written
    assert b"c.org" not in written


def test_face_alignment_fetches_its_own(
    server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import face_alignment.api
    from face_alignment.detection.sfd import sfd_detector

    address, handler = server
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    handler.pages["/2DFAN4-11f355bf06.pth.tar"] = b"damaged"
    handler.pages["/s3fd-619a316812.pth"] = content
    monkeypatch.setitem(face_alignment.api.models_urls, "2DFAN-4", f"{address}/2DFAN4-11f355bf06.pth.tar")
    monkeypatch.setitem(sfd_detector.models_urls, "s3fd", f"{address}/s3fd-619a316812.pth")
    monkeypatch.setattr(
        asset_fetch, "named_checksum", lambda path: digest[:10] if "s3fd" in path.name else "11f355bf06"
    )
    code, out, _ = run_assets(capsys, "fetch", "s3fd")
    assert code == 0
    assert (checkpoints_dir() / "s3fd-619a316812.pth").read_bytes() == content
    assert digest in out
    # Again: the library would keep the file that is there.
    path = checkpoints_dir() / "s3fd-619a316812.pth"
    path.write_bytes(b"other")
    assert run_assets(capsys, "fetch", "s3fd", "--again")[0] == 0
    assert path.read_bytes() == content
    assert path.with_name(f"{path.name}.old").read_bytes() == b"other"
    # What does not fit the checksum in its name is not left where it would be loaded.
    code, _, err = run_assets(capsys, "fetch", "fan")
    assert code == 1
    assert "damaged on the way" in err
    assert not fan.weights_path().exists()


def test_insightface_fetches_its_own(
    home: Path, server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from insightface.utils import storage

    address, handler = server
    model = tiny_scrfd.write(home / "tiny.onnx").read_bytes()
    handler.pages["/buffalo_l.zip"] = _zip({"det_10g.onnx": model})
    handler.pages["/antelopev2.zip"] = b"no archive"
    monkeypatch.setattr(storage, "MODEL_ZOO_RELEASE_DOWNLOAD_URL", f"{address}/")
    # An empty folder, as a broken download leaves one, is no pack.
    (scrfd.models_dir() / "buffalo_l").mkdir(parents=True)
    assert run_assets(capsys, "fetch", "buffalo_l")[0] == 0
    path = scrfd.find_scrfd()
    assert path == scrfd.models_dir() / "buffalo_l" / "det_10g.onnx"
    assert scrfd.Scrfd(path).name == "insightface"
    path.write_bytes(b"other")
    assert run_assets(capsys, "fetch", "buffalo_l", "--again")[0] == 0
    assert path.read_bytes() == model
    # Where that fails, what was there stays.
    handler.pages.pop("/buffalo_l.zip")
    path.write_bytes(b"other")
    assert run_assets(capsys, "fetch", "buffalo_l", "--again")[0] == 1
    assert path.read_bytes() == b"other"
    code, _, err = run_assets(capsys, "fetch", "antelopev2")
    assert code == 1
    assert "antelopev2: not downloaded (File is not a zip file)" in err
    assert not (scrfd.models_dir() / "antelopev2").exists()


@pytest.mark.parametrize("name", ["ict", "fan", "buffalo_l"])
def test_no_network_is_one_clear_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A proxy that does not answer."""
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    # torch asks urllib's common opener, which keeps the proxies that it first saw.
    monkeypatch.setattr(urllib.request, "_opener", None)
    code, _, err = run_assets(capsys, "fetch", name)
    assert code == 1
    (line,) = [line for line in err.splitlines() if " ERROR " in line]
    assert f"{name}: not downloaded (" in line
    assert "refused" in line
    assert "check the network, or https_proxy behind a proxy, or get it from https://github.com/" in line


def test_broken_off_downloads_leave_nothing(
    home: Path, server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = server
    handler.pages["/ict.zip"] = (_zip({"FaceXModel/generic_neutral_mesh.obj": b"v 0 0 0\n"}), "cut")
    _serve(monkeypatch, "ict", f"{address}/ict.zip")
    code, _, err = run_assets(capsys, "fetch", "ict")
    assert code == 1
    assert "the connection broke off after" in err or "IncompleteRead" in err
    assert not list((home / "assets").rglob("*.*"))


def test_archives_without_the_file_and_other_names_are_said(
    server: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = server
    handler.pages["/masks.zip"] = _zip({"Readme.txt": b"x"})
    _serve(monkeypatch, "flame-masks", f"{address}/masks.zip")
    assert "the download holds no FLAME_masks.pkl" in run_assets(capsys, "fetch", "flame-masks")[2]
    assert "assets fetch nothing: unknown; there are flame, flame-masks" in run_assets(capsys, "fetch", "nothing")[2]
    assert "assets fetch mica: get it from https://github.com/Zielon/MICA" in run_assets(capsys, "fetch", "mica")[2]


def test_checksums_in_names() -> None:
    assert asset_fetch.named_checksum(Path("2DFAN4-11f355bf06.pth.tar")) == "11f355bf06"
    assert asset_fetch.named_checksum(Path("det_10g.onnx")) == ""
    assert asset_fetch.named_checksum(Path("a-model.pth")) == ""
    assert Archive("u", ()).account is False
    assert asset_list.find(CATALOGUE[0]) is None
