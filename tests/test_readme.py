"""What the README says of config keys, options, files and commands is what the program has."""

import re
from pathlib import Path

import pytest
from readme_table import README, ROOT, config_table, replaced

import run_tracking
from stages import pipeline
from tracker.config import Config, field_paths
from tracker.head import flame_places

PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_config_table_is_the_configs_own() -> None:
    text = README.read_text()
    assert text == replaced(text, config_table(Config)), "run: python tests/readme_table.py"


def test_config_table_names_every_key() -> None:
    table = config_table(Config)
    assert {path.rpartition(".")[2] for path in field_paths()} <= set(re.findall(r"`(\w+):?`", table))


def test_every_option_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_tracking.parse_arguments(["--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {"--cfg", "--dry-run"} < options
    assert not [option for option in options if f"`{option}" not in README.read_text()]


def test_stages_and_flame_files_are_named() -> None:
    text = README.read_text()
    assert ", ".join(pipeline.STAGES) in text
    wanted = set(re.findall(r'"([\w.]+\.(?:npy|npz|pkl|obj))"', Path(flame_places.__file__).read_text()))
    assert {"landmark_embedding.npy", "FLAME_masks.pkl"} < wanted
    assert not [name for name in wanted - set(flame_places.MODEL_NAMES) if f"`{name}`" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(re.findall(r"`[^`]+`|^make .*$", README.read_text(), re.M))))
    assert {"demo", "test"} <= named
    assert not [target for target in named if not re.search(rf"^{target}:", makefile, re.M)]


def _snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if _snippets(page)], ids=lambda page: page.name)
def test_snippets_compile(page: Path) -> None:
    for snippet in _snippets(page):
        assert compile(snippet, page.name, "exec").co_names


@pytest.mark.parametrize("page", [README, ROOT / "docs/frame_file.md"], ids=lambda page: page.name)
def test_reading_a_checkpoint_works_as_written(
    demo_track, monkeypatch: pytest.MonkeyPatch, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject, _, _ = demo_track
    monkeypatch.chdir(subject.output_dir.parents[1])
    names: dict = {}
    for snippet in _snippets(page):
        exec(snippet, names)
    assert capsys.readouterr().out.startswith("ok ")
    assert names["vertices_cam_m"].shape == (names["model"].vertex_count, 3)
    # The demo's head is about 0.6 m before the camera.
    assert 0.4 < float(names["vertices_cam_m"][:, 2].mean()) < 0.9
