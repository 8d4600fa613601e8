"""Config files: what is accepted, and one clear line for what is not."""

import ast
from pathlib import Path

import pytest
import yaml

from stages.config_file import dump_config, load_config
from tracker.config import LEGACY_KEYS, PROFILES, Config, field_paths, with_profile
from tracker.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def _write(folder: Path, text: str, name: str = "anna.yml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_defaults_and_name_from_the_file(tmp_path: Path) -> None:
    config, ignored = load_config(_write(tmp_path, "actor: ./input/anna\n"))
    assert config.config_name == "anna"
    assert (config.fps, config.image_size, config.bbox_scale, config.crop) == (25.0, (512, 512), 2.5, "median")
    assert ignored == []


@pytest.mark.parametrize("name", ["duda", "demo"])
def test_shipped_configs_load(name: str) -> None:
    config, ignored = load_config(ROOT / "configs" / f"{name}.yml")
    assert (config.config_name, config.optimize_shape, config.optimize_jaw, ignored) == (name, True, True, [])


def test_metrical_tracker_yaml_runs_and_names_what_has_no_effect(tmp_path: Path) -> None:
    text = (
        "actor: './input/duda'\nsave_folder: './output/'\noptimize_shape: true\noptimize_jaw: true\nbegin_frames: 1\n"
        "keyframes: [ 0, 1 ]\nimage_size: [512, 512]\nfps: 25\nrotation_lr: 0.2\nw_pho: 350\n"
        "pyr_levels: [[0.75, 90], [1.25, 90]]\nraster_update: 8\nsampling: [[0.5, 200]]\n"
    )
    config, ignored = load_config(_write(tmp_path, text, "duda.yml"))
    assert config.keyframes == (0, 1)
    assert ignored == ["pyr_levels", "raster_update", "rotation_lr", "sampling", "w_pho"]
    assert not LEGACY_KEYS & set(Config.model_fields)


def test_keyframes_may_be_chosen(tmp_path: Path) -> None:
    config, _ = load_config(_write(tmp_path, "actor: a\nkeyframes: auto\n"))
    assert config.keyframes == ()
    with pytest.raises(InputError, match="keyframes"):
        load_config(_write(tmp_path, "actor: a\nkeyframes: automatic\n"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("fsp: 30", ["unknown key 'fsp'", "'fps'"]),
        ("tracking: {sample: 10}", ["unknown key 'tracking.sample'", "'tracking.samples'"]),
        ("tracker: {samples: 1000}", ["unknown key 'tracker'", "'tracking'"]),
        ("offset_std: 1", ["unknown key 'offset_std'", "'calibration.offset_std_mm'"]),
        ("fps: fast", ["fps: expected a valid number", "'fast'"]),
        ("fps: '25'", ["fps: expected a valid number"]),
        ("fps: 0", ["fps: expected greater than 0", "found 0"]),
        ("fps: .nan", ["fps: expected"]),
        ("optimize_shape: 1", ["optimize_shape: expected a valid boolean"]),
        ("crop: best", ["crop: expected 'median' or 'first'", "'best'"]),
        ("image_size: 63", ["image_size: expected even sides from 64 to 4096"]),
        ("image_size: [512, 288]", ["image_size must be square when crop_image is true"]),
        ("camera_file: a.yml\nfocal_length: 900", ["expected camera_file or focal_length, not both", "remove one"]),
        ("camera_file: a.yml\nfix_principal_point: true", ["expected camera_file or fix_principal_point, not both"]),
        ("keyframes: [0, 0]", ["keyframes: expected distinct"]),
        ("keyframes: [a]", ["keyframes.0: expected a valid integer"]),
        ("config_name: a/b", ["config_name: expected a plain folder name"]),
        ("fps: 25\nfps: 30", ["not valid YAML", "'fps' is given twice"]),
        ("fps: [25", ["not valid YAML"]),
    ],
)
def test_bad_values_name_file_path_and_remedy_in_one_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = _write(tmp_path, f"actor: x\n{text}\n")
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n"])
def test_files_that_are_no_config(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"the key 'actor' is missing|expected 'key: value' lines"):
        load_config(_write(tmp_path, text))


def test_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    _write(tmp_path, "actor: x")
    with pytest.raises(InputError, match=r"ana\.yml: no such config file; did you mean .*anna\.yml"):
        load_config(tmp_path / "ana.yml")


def test_overrides_are_yaml_and_win(tmp_path: Path) -> None:
    path = _write(tmp_path, "actor: x\nfps: 25\n")
    config, _ = load_config(path, ("fps=30", "tracking.samples=500", "keyframes=[3, 1]", "focal_length=1.2e3"))
    assert (config.fps, config.tracking.samples, config.keyframes, config.focal_length) == (30, 500, (3, 1), 1200)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fps", r"--set fps: expected dotted\.key=value"),
        ("fps=-1", r"--set fps=-1: fps: expected greater than 0"),
        ("fps=[", r"--set fps=\[: the value is not valid YAML"),
        ("fps.x=1", r"--set fps\.x=1: 'fps' is not a section"),
        ("trackng.samples=500", r"unknown key 'trackng'; did you mean 'tracking'"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(_write(tmp_path, "actor: x\nfps: 25\n"), (override,))


def test_resolved_config_reads_back_the_same(tmp_path: Path) -> None:
    config, _ = load_config(_write(tmp_path, "actor: ä\nkeyframes: [2, 7]\nfocal_length: 1e3\n"))
    again, _ = load_config(_write(tmp_path, dump_config(config), "config.yml"))
    assert again == config


def test_every_field_has_a_description() -> None:
    def check(model: type) -> None:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            if hasattr(info.annotation, "model_fields"):
                check(info.annotation)

    check(Config)


def test_every_field_is_read_somewhere() -> None:
    sources = [ROOT / "run_tracking.py", *(ROOT / "stages").rglob("*.py"), *(ROOT / "tracker").rglob("*.py")]
    read: set[str] = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    unread = [path for path in field_paths() if path.rpartition(".")[2] not in read]
    assert unread == []


def test_resolved_config_is_plain_yaml(tmp_path: Path) -> None:
    config, _ = load_config(_write(tmp_path, "actor: x\n"))
    assert yaml.safe_load(dump_config(config))["image_size"] == [512, 512]


# ---- profiles


def test_preview_sets_what_is_not_set(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("actor: x\nprofile: preview\nsource_format: png\ntracking: {steps: 7}\n")
    config, _ = load_config(path, ("calibration.frames=11",))
    assert (config.tracking.levels, config.tracking.steps) == (1, 7)
    assert (config.calibration.frames, config.calibration.rounds) == (11, 1)
    assert config.source_format == "png"
    assert config.image_size == (256, 256)
    assert config.crop_format == "bmp"
    assert not config.write_depth
    assert config.review.panel_px == 256
    assert load_config(_saved(tmp_path, config))[0] == config


def test_set_key_wins_over_the_preview_also_with_the_full_profiles_value(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("actor: x\nprofile: preview\n")
    full = Config(actor="x")
    config, _ = load_config(path, (f"tracking.levels={full.tracking.levels}", "write_meshes=true"))
    assert config.tracking.levels == full.tracking.levels
    assert config.write_meshes


def test_full_profile_sets_nothing() -> None:
    assert with_profile({"actor": "x", "profile": "full"}) == {"actor": "x", "profile": "full"}


def test_every_profile_sets_known_keys_to_other_values() -> None:
    full = Config(actor="x").model_dump()
    for name, settings in PROFILES.items():
        made = Config.model_validate(with_profile({"actor": "x", "profile": name})).model_dump()
        for key, value in settings.items():
            for inner, wanted in value.items() if isinstance(value, dict) else [(None, value)]:
                assert (made[key][inner] if inner else made[key]) == wanted
                assert (full[key][inner] if inner else full[key]) != wanted


def test_section_that_is_no_section_is_still_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tracking"):
        load_config(_write(tmp_path, "actor: x\nprofile: preview\ntracking: 3\n"))


def test_unknown_profile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("actor: x\nprofile: fast\n")
    with pytest.raises(InputError, match=r"a\.yml: profile: expected 'full' or 'preview', found 'fast'"):
        load_config(path)


def _saved(folder: Path, config: Config) -> Path:
    path = folder / "saved.yml"
    path.write_text(dump_config(config))
    return path
