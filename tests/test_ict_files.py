"""Reading ICT-FaceKit's OBJ files: units, fans, and what is said of files that are missing or damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from tracker.config import Config
from tracker.errors import InputError
from tracker.head import ict
from tracker.head.ict_files import find_folder, read_faces, read_vertices, source_files
from tracker.head_choice import head_name, load_head_model, model_files

OBJ = """# a comment with v in it
mtllib some.mtl
v 1 -2.5 1e-1
v 0.5 0 3
v 0 0 0
v 10 20 30
vt 0.25 0.5
vt 1.25 0.75
vt 0 0
vt 0.1 0.2
usemtl M_Face
f 1/1 2/2 3/3 4/4
f 2/2 3/3 4/1
"""


@pytest.fixture
def obj(tmp_path: Path) -> Path:
    path = tmp_path / "head.obj"
    path.write_text(OBJ)
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_vertices_are_metres(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "head.obj"
    path.write_bytes(OBJ.replace("\n", newline).encode())
    expected = [[0.01, -0.025, 0.001], [0.005, 0, 0.03], [0, 0, 0], [0.1, 0.2, 0.3]]
    np.testing.assert_allclose(read_vertices(path, 4), expected, atol=1e-15)


def test_polygons_become_fans(obj: Path) -> None:
    uv, triangles, uv_triangles = read_faces(obj)
    assert uv.tolist() == [[0.25, 0.5], [1.25, 0.75], [0, 0], [0.1, 0.2]]
    assert triangles.tolist() == [[0, 1, 2], [0, 2, 3], [1, 2, 3]]
    assert uv_triangles.tolist() == [[0, 1, 2], [0, 2, 3], [1, 2, 0]]


def test_a_head_of_another_size_is_refused(obj: Path) -> None:
    with pytest.raises(InputError, match=r"head\.obj: 4 vertices, expected 5"):
        read_vertices(obj, 5)


@pytest.mark.parametrize("text", ["v 1 2 x\nv 1 2 3\nvt 0 0\n", "nothing here", ""])
def test_text_that_is_no_head_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.obj"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.obj.*ICT-FaceKit"):
        read_vertices(path, 2)


def test_vertices_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.obj"
    path.write_text("v 1 2 nan\nv 1 2 3\nvt 0 0\n")
    with pytest.raises(InputError, match="finite"):
        read_vertices(path, 2)


def test_faces_without_texture_coordinates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.obj"
    path.write_text("v 0 0 0\nf 1 2 3\n")
    with pytest.raises(InputError, match="texture coordinates"):
        read_faces(path)


def _folder(tmp_path: Path, names: tuple[str, ...] = ("jawOpen", "eyeBlink_L")) -> Path:
    """A folder with the right names; what is in the OBJ files does not matter."""
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    table = {"expressions": names, "idx_to_landmark_verts": list(range(68))}
    (folder / "vertex_indices.json").write_text(json.dumps(table))
    for name in ("generic_neutral_mesh", "identity000", "identity001", *names):
        (folder / f"{name}.obj").write_text(name)
    return folder


def test_the_folder_or_its_parent_is_found(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert find_folder(folder) == folder
    assert find_folder(tmp_path) == folder
    assert find_folder(tmp_path / "elsewhere") is None
    assert [file.stem for file in source_files(folder)[2:]] == ["identity000", "identity001", "jawOpen", "eyeBlink_L"]


@pytest.mark.parametrize("missing", ["jawOpen.obj", "generic_neutral_mesh.obj"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = _folder(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(InputError, match=missing.replace(".", r"\.")):
        source_files(folder)


def test_no_identity_mode_at_all_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    for file in folder.glob("identity*.obj"):
        file.unlink()
    with pytest.raises(InputError, match=r"identity000\.obj"):
        source_files(folder)


@pytest.mark.parametrize("text", ["{", "{}", '{"expressions": ["a"], "idx_to_landmark_verts": [1, 2]}'])
def test_a_damaged_table_is_named(tmp_path: Path, text: str) -> None:
    folder = _folder(tmp_path)
    (folder / "vertex_indices.json").write_text(text)
    with pytest.raises(InputError, match=r"vertex_indices\.json"):
        source_files(folder)


def test_the_cache_knows_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD_TRACKER_CACHE", str(tmp_path / "cache"))
    folder = _folder(tmp_path)
    first = ict.cache_path(folder)
    assert first.parent == tmp_path / "cache"
    assert ict.cache_path(folder) == first
    (folder / "jawOpen.obj").write_text("other text")
    assert ict.cache_path(folder) != first


def test_no_folder_is_said_in_one_line(tmp_path: Path) -> None:
    config = Config(actor="x", head="ict", head_path=str(tmp_path))
    for use in (load_head_model, model_files):
        with pytest.raises(InputError, match=r"no FaceXModel folder.*github"):
            use(config)


def test_auto_is_flame_then_ict_then_generic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(actor="x")
    assert head_name(config) == "generic"
    (tmp_path / "assets").mkdir()
    _folder(tmp_path / "assets")
    assert head_name(config) == "ict"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert head_name(config.model_copy(update={"head_path": str(elsewhere / "head.npz")})) == "generic"
    _folder(elsewhere)
    assert head_name(config.model_copy(update={"head_path": str(elsewhere)})) == "ict"
    (tmp_path / "assets" / "FLAME2020").mkdir()
    (tmp_path / "assets" / "FLAME2020" / "generic_model.pkl").write_bytes(b"")
    assert head_name(config) == "flame"
    assert head_name(config.model_copy(update={"head": "generic"})) == "generic"
