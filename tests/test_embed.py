"""FaceMesh's points found by rendering: lifting, averaging on the surface, and the whole on several heads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker.errors import InputError
from tracker.head import embed, surface_places
from tracker.head.embed_views import EmbedView, views
from tracker.head.face_paint import draw_complexion, openness, paint
from tracker.head.flame import load_flame
from tracker.head.generic import load_generic
from tracker.head.model import HeadModel
from tracker.head.model import embed as at_points
from tracker.landmark_set import COUNT, IRISES, RIGHT_LID_PAIRS


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_generic()


def _points(model: HeadModel, faces: np.ndarray, bary: np.ndarray) -> np.ndarray:
    return (model.template.double().numpy()[model.triangles.numpy()[faces]] * bary[..., None]).sum(1)


def _own_points(model: HeadModel) -> np.ndarray:
    at = model.landmarks478
    points = at_points(at.faces, at.bary, model.triangles, model.template).double().numpy()
    return points[np.argsort(at.indices.numpy())]


# ---- averaging


def test_the_robust_mean_leaves_out_what_is_far_away() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.1, 0.1, (5, 3))
    points = places + 0.0005 * rng.standard_normal((40, 5, 3))
    points[:9] += 0.05
    weights = np.ones((40, 5))
    points[3, 2], weights[3, 2] = np.nan, 0
    mean, spread = surface_places.robust_mean(points, weights)
    # 9 of 40 views are 87 mm off; the plain mean is 20 mm off, this one 0.27 mm.
    assert np.linalg.norm(mean - places, axis=1).max() < 0.0006
    assert spread.shape == (5,)


def test_a_start_between_two_heaps_ends_in_the_larger() -> None:
    points = np.zeros((10, 1, 3))
    points[6:] = 0.06
    mean, _ = surface_places.robust_mean(points, np.ones((10, 1)))
    assert np.linalg.norm(mean[0]) < 0.001


def test_nothing_known_stays_unknown() -> None:
    weights = np.ones((4, 2))
    weights[:, 1] = 0
    points = np.zeros((4, 2, 3))
    points[:, 1] = np.nan
    mean, spread = surface_places.robust_mean(points, weights)
    assert np.isfinite(mean[0]).all()
    assert np.isnan(mean[1]).all()
    assert np.isnan(spread[1])


def test_places_come_back_to_the_surface_they_belong_to(model: HeadModel) -> None:
    """The generic head's own points, moved off along the normal by a millimetre."""
    own, normals = surface_places.generic_points()
    kind = surface_places.kinds(model)
    numbers = np.array([1, 4, 50, 152, 468, 473])
    faces, bary = surface_places.on_surface(model, own + 0.001 * normals, normals, kind, numbers)
    assert np.linalg.norm(_points(model, faces, bary) - own[numbers], axis=1).max() < 1e-6
    assert (kind[faces] == [0, 0, 0, 0, 1, 1]).all()
    np.testing.assert_allclose(bary.sum(1), 1)


def test_lids_are_not_on_the_eyeball(model: HeadModel) -> None:
    """A lid point that is detected within the eye's opening takes the nearest skin."""
    kind = surface_places.kinds(model)
    joints = model.joints(model.neutral().shape).numpy()
    places = np.tile(joints[4] + [0, 0, 0.012], (COUNT, 1))
    upper = RIGHT_LID_PAIRS[2][0]
    faces, _ = surface_places.on_surface(model, places, np.tile([0, 0, 1.0], (COUNT, 1)), kind, np.array([upper, 468]))
    assert kind[faces[0]] == 0
    assert kind[faces[1]] == 1


def test_mirrored_numbers_are_pairs() -> None:
    mirror = surface_places.mirrored_numbers()
    assert (mirror[mirror] == np.arange(COUNT)).all()
    assert mirror[33] == 263
    assert mirror[1] == 1
    # Iris 469 is right of its centre in the picture; its mirror image is left of the other's.
    assert {int(mirror[k]) for k in IRISES} == set(IRISES)
    assert mirror[468] == 473
    assert mirror[469] == 476


# ---- lifting


@pytest.fixture(scope="module")
def seen(model: HeadModel) -> list[EmbedView]:
    return list(views(model, 1, 6))


def test_a_projected_point_is_lifted_to_where_it_came_from(model: HeadModel, seen: list[EmbedView]) -> None:
    """With a detector that sees the head's own points exactly."""
    own, kind = _own_points(model), surface_places.kinds(model)
    lifted = []
    for view in seen:
        # Pictures show another person; a place is known by its triangle, so the detector looks there.
        view_points = _exact(model, view)
        lifted.append(surface_places.lift(model, view, view_points, kind))
    points, _, weights = (np.stack(part) for part in zip(*lifted, strict=True))
    mean, _ = surface_places.robust_mean(points, weights)
    known = weights.sum(0) > 0
    assert known.mean() > 0.97
    error = np.linalg.norm(mean - own, axis=1)[known]
    # Pixels are 0.7 mm on the face. 0.21 and 0.66 mm were measured.
    assert np.median(error) < 0.0004
    assert np.percentile(error, 90) < 0.0015


def _exact(model: HeadModel, view: EmbedView) -> np.ndarray:
    """(478, 2) pixels of the model's own points in a view of whoever was rendered."""
    at = model.landmarks478
    order = np.argsort(at.indices.numpy())
    triangles = model.triangles.numpy()[at.faces.numpy()[order]]
    points = (view.vertices_head_m[triangles] * at.bary.numpy()[order][..., None]).sum(1)
    cam = points @ view.view.R.T + view.view.t
    camera = view.view.intrinsics
    return np.asarray(camera.focal_px * cam[:, :2] / cam[:, 2:] + [camera.cx_px, camera.cy_px])


def test_a_point_that_turns_away_says_nothing(model: HeadModel, seen: list[EmbedView]) -> None:
    kind = surface_places.kinds(model)
    # 234 and 454 lie before the ears, on the subject's right and left.
    weights = {k: [surface_places.lift(model, v, _exact(model, v), kind)[2][k] for v in seen] for k in (234, 454)}
    turned = [v.view.R[2, 0] for v in seen]
    most, least = int(np.argmax(turned)), int(np.argmin(turned))
    assert weights[454][most] == 0 or weights[454][least] == 0
    assert max(weights[454]) > 0
    assert max(weights[234]) > 0


def test_inner_lips_need_an_open_mouth(model: HeadModel, seen: list[EmbedView]) -> None:
    kind = surface_places.kinds(model)
    for view in seen:
        weights = surface_places.lift(model, view, _exact(model, view), kind)[2]
        if not view.mouth_open:
            assert weights[13] == weights[14] == 0
    assert {view.mouth_open for view in seen} == {True, False}


def test_the_same_seed_gives_the_same_pictures(model: HeadModel, seen: list[EmbedView]) -> None:
    again = next(iter(views(model, 1, 6)))
    np.testing.assert_array_equal(again.image, seen[0].image)
    other = next(iter(views(model, 2, 6)))
    assert (other.image != seen[0].image).mean() > 0.5


# ---- painting


def test_features_are_where_the_landmarks_are(model: HeadModel) -> None:
    colours = draw_complexion(np.random.default_rng(0))
    ids = np.arange(model.vertex_count)
    points = model.template.numpy().astype(np.float64)
    albedo = paint(model, points, np.repeat(ids[:, None], 3, 1), np.tile([1.0, 0, 0], (len(ids), 1)), colours)
    np.testing.assert_allclose(albedo[50], colours.skin, atol=1e-6)
    # Between the outer and the inner border of the upper lip.
    assert np.abs(albedo[12] - colours.lips).max() < 0.05
    assert albedo[model.regions["left_eyeball"].numpy()].max() > 0.8
    pupil = int(model.regions["iris_left"][0])
    assert albedo[pupil].max() < 0.1


def test_folds_see_less_than_the_forehead(model: HeadModel) -> None:
    seen = openness(model)
    assert seen.min() >= 0.25
    assert seen.max() <= 1
    assert seen[151] > 0.95
    inside = seen[model.regions["inner_mouth"].numpy()]
    assert np.median(inside) < 0.5


# ---- the whole


@pytest.fixture(scope="module")
def found(model: HeadModel) -> embed.FoundEmbedding:
    return embed.find_embedding(model, people=3, view_count=5)


def test_the_generic_head_gets_its_points(model: HeadModel, found: embed.FoundEmbedding) -> None:
    """A detector's points and the head's own differ by 1.8 mm in the median and 4.9 mm at 95 %."""
    assert len(found.indices) > 470
    error = np.linalg.norm(_points(model, found.faces, found.bary) - _own_points(model)[found.indices], axis=1)
    assert np.median(error) < 0.003
    assert np.percentile(error, 95) < 0.010
    kind = surface_places.kinds(model)[found.faces]
    np.testing.assert_array_equal(kind, np.isin(found.indices, IRISES).astype(int))
    # 1.15 mm with three people.
    assert np.nanmedian(found.repeat_m) < 0.0025


def test_a_head_without_texture_coordinates_is_painted_by_vertex(model: HeadModel) -> None:
    bare = replace(model, uv=torch.zeros(0, 2), uv_triangles=torch.zeros(0, 3, dtype=torch.int64))
    found = embed.find_embedding(bare, people=2, view_count=3)
    points = _points(model, found.faces, found.bary)
    error = np.linalg.norm(points - _own_points(model)[found.indices], axis=1)
    assert np.median(error) < 0.004


def test_a_model_in_millimetres_is_named(model: HeadModel) -> None:
    away = replace(model, template=1000 * model.template)
    with pytest.raises(InputError, match="units metres"):
        embed.find_embedding(away, people=2, view_count=2)


def test_the_file_has_the_fields_layout(model: HeadModel, found: embed.FoundEmbedding, tmp_path: Path) -> None:
    path = tmp_path / "mediapipe_landmark_embedding.npz"
    found.save(path)
    with np.load(path) as data:
        assert sorted(data.files) == ["landmark_indices", "lmk_b_coords", "lmk_face_idx"]
        assert data["lmk_face_idx"].dtype == np.uint32
        np.testing.assert_array_equal(data["landmark_indices"], found.indices)
    given = embed.embedded(model, found).landmarks478
    assert torch.equal(given.faces, torch.from_numpy(found.faces))
    assert torch.equal(given.indices, torch.from_numpy(found.indices))


def test_flames_loader_reads_the_file(shared_dir: Path, tmp_path: Path, found: embed.FoundEmbedding) -> None:
    name = "mediapipe_landmark_embedding.npz"
    for file in (shared_dir / "flame_like").iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    # Any triangles will do: the counts are what differs from the published file's 105 points.
    replace(found, faces=found.faces % 9976).save(tmp_path / name)
    model = load_flame(tmp_path / "generic_model.npz")
    assert torch.equal(model.landmarks478.indices, torch.from_numpy(found.indices))
    np.testing.assert_allclose(model.landmarks478.bary.numpy(), found.bary, atol=1e-6)


def test_the_command_writes_and_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: embed.FoundEmbedding, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embed, "find_embedding", lambda *_: found)
    target = tmp_path / "folder" / "points.npz"
    assert embed.main(["generic", "--out", str(target), "--each"]) == 0
    said = capsys.readouterr().out
    assert "repeatability" in said
    assert " mm" in said
    assert len(said.splitlines()) == 3 + len(found.indices)
    assert list(target.parent.iterdir()) == [target]


def test_no_such_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed.main([str(tmp_path / "none.npz")]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "none.npz" in said


def test_a_file_that_is_there_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: embed.FoundEmbedding, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(embed, "find_embedding", lambda *_: calls.append(0) or found)
    monkeypatch.chdir(tmp_path)
    usual = Path("generic_mediapipe_landmark_embedding.npz")
    usual.write_bytes(b"published")
    assert embed.main(["generic"]) == 1
    assert "is there already; name another file" in capsys.readouterr().err
    assert usual.read_bytes() == b"published"
    # Nor is anything rendered for a place that cannot be written.
    for target in ("/proc/x/y.npz", str(usual / "y.npz"), "."):
        assert embed.main(["generic", "--out", target]) == 1
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert "cannot be written" in said or "is a folder" in said
    assert not calls
    assert embed.main(["generic", "--out", str(usual)]) == 0
    assert usual.read_bytes() != b"published"


def test_models_are_those_that_the_tracker_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tracker.head import flame

    monkeypatch.chdir(tmp_path)
    model = Path("assets/FLAME2023/flame2023.pkl")
    model.parent.mkdir(parents=True)
    model.write_bytes(b"x")
    monkeypatch.setattr(flame, "load_flame", lambda path: path)
    loaded, place = embed.load_any("flame")
    assert loaded == model
    assert place.parent == model.parent
    with pytest.raises(InputError, match="no FaceXModel folder of ICT-FaceKit"):
        embed.load_any("ict")


@pytest.mark.parametrize("arguments", [[], ["generic", "--peop", "3"], ["generic", "--people", "1"]])
def test_usage_errors_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert embed.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("see --help")


def test_a_flame_format_model_is_embedded(shared_dir: Path) -> None:
    model, place = embed.load_any(str(shared_dir / "flame_like" / "generic_model.npz"))
    assert place.name == "mediapipe_landmark_embedding.npz"
    found = embed.find_embedding(model, people=2, view_count=4)
    published = model.landmarks478
    at = at_points(published.faces, published.bary, model.triangles, model.template).double().numpy()
    ours = {int(n): p for n, p in zip(found.indices, _points(model, found.faces, found.bary), strict=True)}
    error = [np.linalg.norm(ours[int(n)] - p) for n, p in zip(published.indices, at, strict=True) if int(n) in ours]
    assert len(error) >= 100
    # The published points of the 105 that FLAME's embedding has.
    assert np.median(error) < 0.006
