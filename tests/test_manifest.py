"""Manifests: what counts as a change, and what code a stage depends on."""

import ast
import hashlib
import os
from pathlib import Path

import pytest

from stages import files, manifest
from stages.manifest import HashCache, Manifest


def _manifest(**changes: dict[str, str]) -> Manifest:
    parts = {"config": {"fps": "25"}, "inputs": {"video.mp4": "a"}, "code": {"stages.x": "1"}}
    return Manifest("frames", True, **(parts | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"config": {"fps": "30"}}, "config changed: fps"),
        ({"config": {}}, "config changed: fps"),
        ({"inputs": {"video.mp4": "b"}}, "input changed: video.mp4"),
        ({"inputs": {"video.mp4": "a", "bbox.pt": "c"}}, "input changed: bbox.pt"),
        ({"code": {"stages.x": "2"}}, "code changed: stages.x"),
        ({"config": {c: "1" for c in "abcd"}}, "config changed: a, b, c …"),
    ],
)
def test_difference_names_what_changed(changes: dict[str, dict[str, str]], reason: str | None) -> None:
    assert _manifest().difference(_manifest(**changes)) == reason


def test_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "manifests" / "frames.json"
    assert manifest.read(path) is None
    whole = _manifest().finished({"source": "x"}, {"frames": 3})
    manifest.write(path, whole)
    assert manifest.read(path) == whole
    path.write_text('{"stage": "fra')
    assert manifest.read(path) is None
    path.write_text('{"stage": "frames", "of_another_version": 1}')
    assert manifest.read(path) is None


def test_flatten() -> None:
    assert manifest.flatten({"a": 1, "b": {"c": [2], "d": {"e": None}}}) == {"a": 1, "b.c": [2], "b.d.e": None}


def test_folder_hash_sees_content_names_and_order_of_neither_time(tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "hashes.cache")
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "1").write_bytes(b"one")
    first = cache.digest(folder)
    os.utime(folder / "1", ns=(0, 0))
    assert cache.digest(folder) == first
    (folder / "2.tmp").write_bytes(b"left by a kill")
    assert cache.digest(folder) == first
    (folder / "1").write_bytes(b"eno")
    changed = cache.digest(folder)
    assert changed != first
    (folder / "1").rename(folder / "0")
    assert cache.digest(folder) not in (first, changed)
    assert cache.digest(tmp_path / "none") == manifest.MISSING


def test_hash_cache_spares_reading_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    cache = HashCache(tmp_path / "hashes.cache")
    digest = cache.digest(file)
    cache.save()
    reopened = HashCache(tmp_path / "hashes.cache")
    monkeypatch.setattr(manifest, "content_hash", None)
    assert reopened.digest(file) == digest
    file.write_bytes(b"abcd")
    with pytest.raises(TypeError):
        reopened.digest(file)


def test_damaged_hash_cache_starts_empty(tmp_path: Path) -> None:
    (tmp_path / "hashes.cache").write_text("{")
    (tmp_path / "a").write_bytes(b"abc")
    assert HashCache(tmp_path / "hashes.cache").digest(tmp_path / "a") != manifest.MISSING


def test_code_version_follows_imports_and_leaves_out_config_values() -> None:
    crop = manifest.code_version("stages.crop")
    assert {"stages.crop", "stages.files", "tracker.cropping", "tracker.detectors.finder"} <= set(crop)
    assert not {"tracker.config", "tracker.settings", "stages.logs", "stages.frames", "tracker.solver"} & set(crop)
    assert set(manifest.code_version("stages.frames")).isdisjoint({"tracker.cropping", "tracker.detectors.facemesh"})


def test_code_version_changes_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "tracker" / "deep").mkdir(parents=True)
    (tmp_path / "stages" / "a.py").write_text("def run():\n    from tracker.deep import inner\n")
    (tmp_path / "tracker" / "deep" / "__init__.py").write_text("")
    inner = tmp_path / "tracker" / "deep" / "inner.py"
    inner.write_text("from . import other\n")
    (tmp_path / "tracker" / "deep" / "other.py").write_text("x = 1\n")
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    manifest._source.cache_clear()
    before = manifest.code_version("stages.a")
    assert list(before) == ["stages.a", "tracker.deep", "tracker.deep.inner", "tracker.deep.other"]
    (tmp_path / "tracker" / "deep" / "other.py").write_text("x = 2\n")
    manifest._source.cache_clear()
    after = manifest.code_version("stages.a")
    assert [name for name in before if before[name] != after[name]] == ["tracker.deep.other"]


def _parsed_imports(path: Path, name: str) -> set[str]:
    """The project modules that a source imports, by Python's own parser."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return {module for module in found if module.split(".")[0] in ("tracker", "stages")}


@pytest.mark.parametrize("package", ["tracker", "stages"])
def test_imports_are_those_that_python_sees(package: str) -> None:
    sources = sorted((manifest.ROOT / package).rglob("*.py"))
    assert len(sources) > 30
    for path in sources:
        name = ".".join(path.relative_to(manifest.ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert set(manifest._source(path, name)[1]) == _parsed_imports(path, name), name


def test_imports_in_every_form_are_seen(tmp_path: Path) -> None:
    text = """import os, tracker.a as b, stages.c  # import tracker.not_here
from tracker import (
    d,  # of (old) times
    e as f,
)
from . import g
from ..stages.h import i, j as k; x = 1

def later():
    if True:
        from tracker.l.m import n  # noqa
"""
    path = tmp_path / "here.py"
    path.write_text(text)
    assert set(manifest._source(path, "tracker.sub.here")[1]) == {
        "tracker.a",
        "stages.c",
        "tracker",
        "tracker.d",
        "tracker.e",
        "tracker.sub",
        "tracker.sub.g",
        "tracker.stages.h",
        "tracker.stages.h.i",
        "tracker.stages.h.j",
        "tracker.l.m",
        "tracker.l.m.n",
    }


def test_unusual_imports_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "here.py"
    path.write_text(
        "import os; import tracker.a\nfrom tracker.b import c, \\\n    d\ntry: import stages.e\nfinally: pass\n"
    )
    assert set(manifest._source(path, "tracker.here")[1]) == {
        "tracker.a",
        "tracker.b",
        "tracker.b.c",
        "tracker.b.d",
        "stages.e",
    }
    plain = tmp_path / "plain.py"
    plain.write_text('"""Text.\n\nimport numpy,\n"""\n')
    assert manifest._source(plain, "tracker.plain")[1] == []


def test_hashes_of_earlier_runs_stay_valid(tmp_path: Path) -> None:
    """BLAKE2b of 16 bytes, of a file and of a folder's list of names and hashes."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_bytes(b"abc")
    cache = HashCache(tmp_path / "hashes.cache")
    assert cache.digest(tmp_path / "f" / "a") == "cf4ab791c62b8d2b2109c90275287816"
    assert cache.digest(tmp_path / "f") == "f0a4e216871f59fb67418a89766be324"


def test_a_folders_hash_has_its_files_at_any_depth(tmp_path: Path) -> None:
    """Names and contents of finished files in order, linked ones included, linked folders left out."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place in ("a/1", "a.b/1", "a-b/c/2", "z"):
        (inside / place).parent.mkdir(parents=True, exist_ok=True)
        (inside / place).write_text(place)
    outside.mkdir()
    (outside / "far").write_text("far")
    (inside / f"z{files.TEMPORARY_SUFFIX}").write_text("half")
    (inside / "linked").symlink_to(outside / "far")
    (inside / "folder").symlink_to(outside)
    (inside / "broken").symlink_to(outside / "nothing")

    def small(text: str) -> str:
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    names = [("a/1", "a/1"), ("a-b/c/2", "a-b/c/2"), ("a.b/1", "a.b/1"), ("linked", "far"), ("z", "z")]
    hashes = HashCache(tmp_path / "hashes.cache")
    expected = small("\n".join(f"{name} {small(text)}" for name, text in names))
    assert hashes.digest(inside) == hashes.digest(inside) == expected
    assert manifest.listing(inside) == small("\n".join(f"{name} {len(text)}" for name, text in names))


def test_the_cache_forgets_files_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = tmp_path / "folder", tmp_path / "hashes.cache"
    folder.mkdir()
    for name in ("1", "2"):
        (folder / name).write_text(name)
    hashes = HashCache(cache)
    hashes.digest(folder)
    (folder / "1").unlink()

    def refused(_folder: str) -> list[str]:
        raise PermissionError

    for listed in (os.listdir, refused):
        # A folder that may be entered, but not listed, is asked for each file.
        monkeypatch.setattr(os, "listdir", listed)
        hashes._changed = True
        hashes.save()
        assert list(files.read_json(cache)) == [str(folder / "2")]
