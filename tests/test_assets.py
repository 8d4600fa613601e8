"""`run_tracking.py assets`: what it finds, and what it says of the rest."""

from pathlib import Path

import pytest
import yaml
from assets_home import run_assets

from stages import files
from stages.asset_list import CATALOGUE
from tracker.config import Config
from tracker.detectors import fan, scrfd
from tracker.head.flame_places import flame_files
from tracker.head_choice import flame_path, head_name
from tracker.texture_space import find_texture_space

pytestmark = pytest.mark.usefixtures("home")


def test_missing_assets_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_assets(capsys)
    assert code == 0
    assert "found" not in out
    for asset in CATALOGUE:
        part = out.partition(f"missing  {asset.name: <16} ")[2].partition("missing  ")[0]
        assert asset.adds in part
        assert asset.origin in part
        assert f"licence: {asset.licence}; registration: {asset.registration}" in part
        assert (f"assets fetch {asset.name}" in part) == asset.can_be_fetched
    assert "put into your config" not in out


def test_names_are_unique_and_fetching_has_one_way() -> None:
    assert len({asset.name for asset in CATALOGUE}) == len(CATALOGUE)
    assert all(not (asset.archive and asset.library) for asset in CATALOGUE)
    accounts = [asset for asset in CATALOGUE if asset.archive and asset.archive.account]
    assert accounts
    assert all("account" in asset.registration for asset in accounts)


def test_what_is_there_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [
        "assets/FLAME2023/flame2023.pkl",
        "assets/mica.tar",
        "assets/FaceXModel/generic_neutral_mesh.obj",
        f".insightface/models/antelopev2/antelopev2/{scrfd.PACKS[0][1]}",
        f"torch/hub/checkpoints/{fan.WEIGHTS_NAME}",
    ]
    for place in places:
        files.write_bytes(home / place, b"x")
    _, out, _ = run_assets(capsys)
    found = [line.split()[1:] for line in out.splitlines() if line.startswith("found")]
    assert [name for name, _ in found] == ["flame", "mica", "ict", "fan", "antelopev2"]
    assert all((home / path).is_file() for _, path in found)
    # The tracker finds all of them by itself.
    assert "put into your config" not in out
    # What is still missing belongs beside the model that is there.
    assert "place: assets/FLAME2023/landmark_embedding.npy" in out


def _found(out: str) -> dict[str, str]:
    rows = (line.split() for line in out.splitlines() if line.startswith("found"))
    return {row[1]: row[2] for row in rows}


@pytest.mark.parametrize(
    "place",
    [
        "assets/FLAME2020/generic_model.pkl",
        "assets/FLAME2020/flame2023_Open.pkl",
        "assets/FLAME2023/flame2023.pkl",
        "assets/flame/generic_model.pkl",
        "assets/generic_model.npz",
    ],
)
def test_what_is_found_is_what_the_tracker_takes(home: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """FLAME, its companions in the model's folder and in FLAME 2020's, and its texture space."""
    others = {
        "flame-landmarks": "landmark_embedding.npy",
        "flame-template": "head_template.obj",
        "flame-masks": "FLAME_masks.pkl",
        "flame-texture": "FLAME_texture.npz",
    }
    files.write_bytes(home / place, b"x")
    for name in others.values():
        files.write_bytes(home / "assets/FLAME2020" / name, b"x")
    config = Config(actor="a")
    taken = {path.name: path for path in flame_files(flame_path(config))}
    model = next(iter(taken.values()), None)
    texture = find_texture_space("", [model]) if model else Path("assets/FLAME2020/FLAME_texture.npz")
    found = _found(run_assets(capsys)[1])
    assert ("flame" in found) == (head_name(config) == "flame")
    assert found.get("flame") == (str(model) if model else None)
    assert found.get("flame-texture") == (str(texture) if texture else None)
    if model:
        for asset in ("flame-landmarks", "flame-template", "flame-masks"):
            expected = taken.get(others[asset])
            assert found.get(asset) == (str(expected) if expected else None)


def test_two_files_that_belong_together_count_together(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("flame_static_embedding.pkl", "l_eyelid.npy"):
        files.write_bytes(home / "assets/FLAME2020" / name, b"x")
    assert not _found(run_assets(capsys)[1])
    for name in ("flame_dynamic_embedding.npy", "r_eyelid.npy"):
        files.write_bytes(home / "assets/FLAME2020" / name, b"x")
    assert set(_found(run_assets(capsys)[1])) == {"flame-landmarks", "flame-eyelids"}


def test_icts_files_count_where_the_tracker_looks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_bytes(home / "assets/generic_neutral_mesh.obj", b"x")
    assert "ict" not in _found(run_assets(capsys)[1])
    files.write_bytes(home / "assets/ict_facekit/generic_neutral_mesh.obj", b"x")
    assert _found(run_assets(capsys)[1])["ict"] == "assets/ict_facekit/generic_neutral_mesh.obj"


def test_companions_apart_from_the_model_are_to_be_copied(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loader looks around the model: what lies in another folder is not found, but where it lies is said."""
    files.write_bytes(home / "assets/FLAME2020/generic_model.pkl", b"x")
    for place in ("there/data/landmark_embedding.npy", "there/flame/blendshapes/l_eyelid.npy"):
        files.write_bytes(home / place, b"x")
    _, out, _ = run_assets(capsys, "there")
    assert set(_found(out)) == {"flame"}
    assert "place: assets/FLAME2020/landmark_embedding.npy\n" in out
    assert out.count("from: copy it from there/data\n") == 1
    # One lid alone is of no use.
    assert out.count("copy it from") == 1
    files.write_bytes(home / "there/flame/blendshapes/r_eyelid.npy", b"x")
    assert "blendshapes\n" in run_assets(capsys, "there")[1]


def test_printed_keys_may_be_pasted_together(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (
        "there/FLAME2020/generic_model.pkl",
        "there/FaceXModel/generic_neutral_mesh.obj",
        "there/data/FLAME_albedo_from_BFM.npz",
        "there/mica.tar",
    ):
        files.write_bytes(home / place, b"x")
    _, out, _ = run_assets(capsys, "there")
    text = out.partition("put into your config:\n")[2]
    config = Config(actor="a", **yaml.safe_load(text))
    assert head_name(config) == "flame"
    assert flame_path(config) == Path("there/FLAME2020/generic_model.pkl")
    assert config.tex_space_path == "there/data/FLAME_albedo_from_BFM.npz"
    assert config.mica_path == "there/mica.tar"
    # The alternative stands in comments.
    other = Config(actor="a", **yaml.safe_load(text.partition("# or")[2].partition("\n")[2].replace("# ", "")))
    assert (other.head, other.head_path) == ("ict", "there/FaceXModel")


def test_folders_of_metrical_tracker_are_found_by_pointing_at_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = home / "metrical-tracker"
    for place in (
        "data/FLAME2020/generic_model.pkl",
        "data/landmark_embedding.npy",
        "data/FLAME2020/FLAME_texture.npz",
    ):
        files.write_bytes(repository / place, b"x")
    files.write_bytes(repository / "data/FLAME2020/FLAME_masks/FLAME_masks.pkl", b"x")
    files.write_bytes(repository / "flame/mediapipe/mediapipe_landmark_embedding.npz", b"x")
    for folder in (repository, repository / "data"):
        _, out, _ = run_assets(capsys, str(folder))
        found = {line.split()[1] for line in out.splitlines() if line.startswith("found")}
        assert found == {"flame", "flame-landmarks", "flame-facemesh", "flame-masks", "flame-texture"}
        assert out.endswith(f"flame_geom_path: {repository}/data/FLAME2020/generic_model.pkl\n")
    files.write_bytes(home / "ict/FaceXModel/generic_neutral_mesh.obj", b"x")
    for folder in ("ict", "ict/FaceXModel"):
        assert run_assets(capsys, folder)[1].endswith("head_path: ict/FaceXModel\n")
    code, _, err = run_assets(capsys, "nowhere")
    assert code == 1
    assert "nowhere: no such folder" in err


@pytest.mark.parametrize(
    "arguments", [["--foo"], ["fetch"], ["fetch", "ict", "--agai"], ["fetch", "--again"]], ids=" ".join
)
def test_usage_errors_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_assets(capsys, *arguments)
    assert code == 1
    assert out == ""
    (line,) = err.splitlines()
    assert line.endswith("see --help")


def test_other_contents_of_checksums_are_no_traceback(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_text(home / "assets/checksums.json", '{"flame-masks": 3, "ict": {"sha256": 4}}')
    assert run_assets(capsys)[0] == 0
    files.write_text(home / "assets/checksums.json", "[]")
    code, _, err = run_assets(capsys)
    assert code == 1
    assert "checksums.json: holds list" in err


def test_a_file_in_the_folders_place_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "assets").write_text("x")
    code, _, err = run_assets(capsys, "fetch", "fan")
    assert code == 1
    assert "assets: is a file" in err
