"""The layers of the design, read from the imports: run_tracking -> stages -> tracker, and no stage imports another."""

import ast
from pathlib import Path

import pytest

from stages.pipeline import STAGES

ROOT = Path(__file__).resolve().parent.parent
# Tools beside the stages: no stage imports one, and they import no stage, but one tool may build on another.
TOOLS = ("assets", "demo", "landmark_bias")
HEAVY = {"mediapipe", "face_alignment", "insightface", "onnxruntime", "pytorch3d", "ray"}


def _imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", _modules("tracker"), ids=lambda p: str(p.relative_to(ROOT)))
def test_tracker_knows_nothing_of_stages(path: Path) -> None:
    above = {"stages", "run_tracking", "tqdm", "loguru", "yaml"}
    assert not {name for name in _imports(path) if name.split(".")[0] in above}


@pytest.mark.parametrize("path", _modules("stages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_stages_meet_through_the_subject_directory(path: Path) -> None:
    imported = _imports(path)
    assert "run_tracking" not in imported
    forbidden = STAGES if path.stem in TOOLS else (*STAGES, *TOOLS)
    others = {f"stages.{name}" for name in forbidden if name != path.stem}
    assert not imported & others


@pytest.mark.parametrize("path", _modules("tracker") + _modules("stages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_on_use(path: Path) -> None:
    assert not {name for name in _imports(path, top_level_only=True) if name.split(".")[0] in HEAVY}


def test_imports_are_seen(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text("def f():\n    from stages import crop\n")
    assert "stages.crop" in _imports(module)
    assert not _imports(module, top_level_only=True)
