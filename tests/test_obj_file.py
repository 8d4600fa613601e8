"""The OBJ reader: positions, texture coordinates and corners in the file's order."""

from pathlib import Path

import pytest

from tracker.errors import InputError
from tracker.obj_file import NO_TEXTURE, read_obj


def test_all_forms_of_corners(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text("# a comment\nv 1 2 3\nv 4 5 6 0.5 0.5 0.5\nvt 0.25 0.75\nvn 0 0 1\n\nf 1/1 2/1/1 1 2//1\n")
    text = read_obj(path, "get it anew")
    assert text.vertices == [[1, 2, 3], [4, 5, 6]]
    assert text.uv == [[0.25, 0.75]]
    assert text.faces == [[(0, 0), (1, 0), (0, NO_TEXTURE), (1, NO_TEXTURE)]]
    assert read_obj(path, "get it anew", positions=False).vertices == []


@pytest.mark.parametrize("line", ["v 1 2 x", "f 1/a 2 3", "vt ?"])
def test_a_damaged_line_is_told_with_the_remedy(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.obj"
    path.write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"a\.obj: not a readable OBJ \(.*\); get it anew"):
        read_obj(path, "get it anew")
    with pytest.raises(InputError, match="cannot be read"):
        read_obj(tmp_path / "none.obj", "get it anew")
