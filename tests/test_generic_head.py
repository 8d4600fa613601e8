"""The committed generic head: its surface, sizes, eyes, mouth, skinning and embeddings."""

from collections import Counter

import numpy as np
import pytest
import torch
from generic_head_parts import (
    LOWER_INNER_LIP,
    LOWER_LIDS,
    UPPER_INNER_LIP,
    UPPER_LIDS,
    distance_to_line,
    expression_code,
    eyeball,
    eyeball_clearance_mm,
    jaw_opened,
    posed_mm,
    random_shapes,
    shape_code,
)
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from tracker.errors import InputError
from tracker.head.generic import GENERIC_HEAD_PATH, load_generic
from tracker.head.model import HeadModel, embed
from tracker.texels import Texels


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_generic()


@pytest.fixture(scope="module")
def mean_mm(model: HeadModel) -> np.ndarray:
    return 1000 * model.template.numpy()


def components(model: HeadModel) -> list[np.ndarray]:
    """Triangles of each connected part, largest first."""
    triangles = model.triangles.numpy()
    ends = (triangles.ravel(), np.roll(triangles, 1, 1).ravel())
    edges = sparse.coo_matrix((np.ones(triangles.size), ends), (model.vertex_count, model.vertex_count))
    _, part = connected_components(edges, directed=False)
    label = part[triangles[:, 0]]
    return sorted((triangles[label == k] for k in np.unique(label)), key=len, reverse=True)


def volume(vertices: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_file_is_small_and_a_missing_one_is_named(tmp_path) -> None:
    assert GENERIC_HEAD_PATH.stat().st_size < 6e6
    with pytest.raises(InputError, match=r"absent\.npz"):
        load_generic(tmp_path / "absent.npz")


def test_every_part_is_a_closed_oriented_manifold(model: HeadModel, mean_mm: np.ndarray) -> None:
    triangles = model.triangles.numpy()
    directed = Counter((int(a), int(b)) for tri in triangles for a, b in zip(tri, np.roll(tri, -1), strict=True))
    assert max(directed.values()) == 1
    assert all((b, a) in directed for a, b in directed)
    parts = components(model)
    assert len(parts) == 5  # skin with its pockets, two eyeballs, two rows of teeth
    for part in parts:
        edge_count = len(part) * 3 // 2
        assert len(np.unique(part)) - edge_count + len(part) == 2
        assert volume(mean_mm, part) > 0
    assert len(np.unique(triangles)) == model.vertex_count
    assert volume(mean_mm, parts[0]) / 1e6 == pytest.approx(4.7, abs=0.7)  # litres, head and neck


def test_template_is_symmetric(model: HeadModel, mean_mm: np.ndarray) -> None:
    distance, partner = cKDTree(mean_mm).query(mean_mm * [-1, 1, 1])
    assert distance.max() < 0.01
    uneven = 1000 * model.shape_basis[..., -6:].numpy()
    even = 1000 * model.shape_basis[..., :-6].numpy()
    reflected = even[partner] * np.array([-1, 1, 1])[:, None]
    assert np.abs(even - reflected).max() < 0.02
    assert np.abs(uneven + uneven[partner] * np.array([-1, 1, 1])[:, None]).max() < 0.02


def test_sizes_are_human(model: HeadModel, mean_mm: np.ndarray) -> None:
    joints = (model.joint_regressor.numpy() @ mean_mm)[3:]
    assert joints[0, 0] - joints[1, 0] == pytest.approx(63.0, abs=0.1)
    outer = np.concatenate([model.regions["scalp"].numpy(), model.regions["face"].numpy()])
    head = mean_mm[outer]
    assert head[:, 1].max() - mean_mm[152, 1] == pytest.approx(225, abs=6)
    assert np.ptp(head[head[:, 1] > 30, 0]) == pytest.approx(152, abs=4)
    assert mean_mm[9, 2] - head[:, 2].min() == pytest.approx(190, abs=5)
    ear = mean_mm[model.regions["left_ear"].numpy()]
    assert np.ptp(ear[:, 1]) == pytest.approx(61, abs=5)
    brow, nose_base = mean_mm[105, 1], mean_mm[2, 1]
    assert nose_base - 12 < ear[:, 1].min() < nose_base + 12
    assert brow - 12 < ear[:, 1].max() < brow + 12


def test_shape_space_has_human_spread(model: HeadModel) -> None:
    basis = 1000 * model.shape_basis.numpy()
    assert 60 <= model.shape_count <= 80
    skin = np.intersect1d(model.regions["face"].numpy(), model.regions["skin"].numpy())
    assert 3.0 < np.sqrt((basis[skin] ** 2).sum((1, 2)).mean()) < 4.5
    joints = np.einsum("jv,vks->jks", model.joint_regressor.numpy(), basis)
    assert np.linalg.norm(joints[3, 0] - joints[4, 0]) == pytest.approx(3.5, abs=0.3)
    strength = (basis[skin] ** 2).sum((0, 1))[: model.shape_count - 6]
    assert strength[0] > 3 * strength[5] > 9 * strength[20]


def test_eyes_stay_in_place_for_every_shape(model: HeadModel) -> None:
    shapes = [shape_code(model, mode, sigma) for mode in range(model.shape_count) for sigma in (-2.0, 2.0)]
    for code in [torch.zeros(model.shape_count), *shapes, *random_shapes(model, 10)]:
        vertices = posed_mm(model, shape=code)
        assert eyeball_clearance_mm(model, vertices) > 0.25  # 0.34 measured
        for side in ("left", "right"):
            centre, radii = eyeball(model, vertices, side)
            assert radii.std() < 0.02
            lids = vertices[UPPER_LIDS[side] + LOWER_LIDS[side]]
            middle = [4, 13]
            assert (np.linalg.norm(lids[middle] - centre, axis=1) - radii.max()).max() < 2.0


def test_lids_slide_over_the_eyeball_and_meet(model: HeadModel) -> None:
    for closure in np.linspace(0, 1, 9):
        lids = torch.tensor([closure, closure], dtype=torch.float32)
        assert eyeball_clearance_mm(model, posed_mm(model, eyelids=lids)) > 0.0
    closed = posed_mm(model, eyelids=torch.ones(2))
    opened = posed_mm(model)
    for side in ("left", "right"):
        upper, lower = UPPER_LIDS[side], LOWER_LIDS[side]
        assert distance_to_line(closed[upper], closed[lower]).max() < 0.5
        assert distance_to_line(opened[upper], opened[lower]).max() > 7.0
    left_only = posed_mm(model, eyelids=torch.tensor([1.0, 0.0]))
    assert np.abs(left_only - opened)[opened[:, 0] < 0].max() < 1e-3


def test_lips_are_closed_for_every_shape(model: HeadModel) -> None:
    codes = [shape_code(model, mode, sigma) for mode in range(model.shape_count) for sigma in (-2.0, 2.0)]
    for code in [torch.zeros(model.shape_count), *codes]:
        vertices = posed_mm(model, shape=code)
        gap = vertices[UPPER_INNER_LIP] - vertices[LOWER_INNER_LIP]
        assert np.abs(gap).max() < 0.2


def test_jaw_opens_the_mouth_and_nothing_else(model: HeadModel) -> None:
    rest, opened = posed_mm(model), posed_mm(model, jaw=jaw_opened(0.25))
    moved = np.linalg.norm(opened - rest, axis=1)
    assert 15 < rest[14, 1] - opened[14, 1] < 30
    assert moved[[13, 0, 2, 4, 9]].max() < 0.3
    assert moved[model.regions["scalp"].numpy()].max() < 5.0
    assert moved[np.concatenate([model.regions[f"{side}_eyeball"].numpy() for side in ("left", "right")])].max() < 1e-3
    assert 0.3 < moved[61] / moved[17] < 0.6
    assert opened[152, 1] < rest[152, 1] - 12


def test_gaze_turns_the_eyeballs_about_their_centres(model: HeadModel) -> None:
    turn = jaw_opened(0.3)
    vertices = posed_mm(model, shape=random_shapes(model, 1)[0], eyes=torch.stack([turn, turn]))
    rest = posed_mm(model, shape=random_shapes(model, 1)[0])
    for side in ("left", "right"):
        assert np.abs(eyeball(model, vertices, side)[0] - eyeball(model, rest, side)[0]).max() < 0.02
        first = model.regions[f"iris_{side}"].numpy()[0]
        assert vertices[first, 1] < rest[first, 1] - 3  # positive about x looks down


def test_expressions_are_named_bounded_and_of_human_size(model: HeadModel) -> None:
    names = model.expression_names
    assert 45 <= len(names) == len(set(names)) <= 60
    assert {"browInnerUp", "mouthSmileLeft", "mouthFunnel", "jawForward", "noseSneerRight", "cheekPuff"} <= set(names)
    assert not {"eyeBlinkLeft", "jawOpen"} & set(names)
    assert ((model.expression_std >= 0.15) & (model.expression_std <= 0.5)).all()
    assert (model.expression_bounds[:, 0] < 0).all()
    assert (model.expression_bounds[:, 1] >= 1).all()
    basis = 1000 * model.expression_basis.numpy()
    largest = np.linalg.norm(basis, axis=1).max(0)
    assert largest.min() > 1.0
    assert largest.max() < 10.0
    balls = np.concatenate([model.regions[f"{side}_eyeball"].numpy() for side in ("left", "right")])
    assert np.abs(basis[balls]).max() == 0.0
    assert np.abs(basis[model.regions["teeth"].numpy()]).max() == 0.0


def test_expressions_do_not_press_into_the_eyes_nor_tear_the_skin(model: HeadModel, mean_mm: np.ndarray) -> None:
    skin = np.zeros(model.vertex_count, bool)
    skin[model.regions["skin"].numpy()] = True
    triangles = model.triangles.numpy()
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    edges = edges[skin[edges].all(1)]
    rest = np.linalg.norm(mean_mm[edges[:, 0]] - mean_mm[edges[:, 1]], axis=1)
    for name in model.expression_names:
        vertices = posed_mm(model, expression=expression_code(model, {name: 1.0}))
        assert eyeball_clearance_mm(model, vertices) > 0.1
        stretched = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
        assert (stretched - rest).max() < 6.0


def test_smile_moves_its_own_corner_up_and_out(model: HeadModel) -> None:
    rest = posed_mm(model)
    smiling = posed_mm(model, expression=expression_code(model, {"mouthSmileLeft": 1.0}))
    assert smiling[291, 0] > rest[291, 0] + 3
    assert smiling[291, 1] > rest[291, 1] + 3
    assert np.linalg.norm(smiling[61] - rest[61]) < 1.0
    funnel = posed_mm(model, expression=expression_code(model, {"mouthFunnel": 1.0}))
    assert funnel[13, 1] - funnel[14, 1] > 3


def test_weights_and_joints(model: HeadModel, mean_mm: np.ndarray) -> None:
    torch.testing.assert_close(model.skin_weights.sum(1), torch.ones(model.vertex_count), atol=1e-5, rtol=0)
    assert model.skin_weights.min() >= -1e-6
    torch.testing.assert_close(model.joint_regressor.sum(1), torch.ones(5), atol=1e-4, rtol=0)
    root, neck, jaw, left, right = model.joint_regressor.numpy() @ mean_mm
    assert left[0] > 0 > right[0]
    assert root[1] < neck[1] < jaw[1] < left[1]
    ear_front = mean_mm[model.regions["left_ear"].numpy(), 2].max()
    assert ear_front < jaw[2] < left[2]
    assert np.abs([root[0], neck[0], jaw[0]]).max() < 0.1


def test_facemesh_points_are_vertices_with_irises(model: HeadModel, mean_mm: np.ndarray) -> None:
    points = model.landmarks478
    assert points.indices.tolist() == list(range(478))
    places = embed(points.faces, points.bary, model.triangles, 1000 * model.template).numpy()
    np.testing.assert_allclose(places[:468], mean_mm[:468], atol=1e-4)
    for centre, side in ((468, "right"), (473, "left")):
        ids = model.regions[f"{side}_eyeball"].numpy()
        np.testing.assert_allclose(places[centre], mean_mm[ids[0]], atol=1e-4)
        # FaceMesh's order round the iris: image right (head +x), up, image left, down.
        expected = 5.85 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
        np.testing.assert_allclose(places[centre + 1 : centre + 5, :2] - places[centre, :2], expected, atol=0.05)
    assert places[468, 0] < 0 < places[473, 0]


def test_ibug_points_lie_where_their_names_say(model: HeadModel) -> None:
    points = model.landmarks68
    places = embed(points.faces, points.bary, model.triangles, 1000 * model.template).numpy()
    assert (points.bary >= 0).all()
    assert places[:8, 0].max() < 0 < places[9:17, 0].min()
    assert places[8, 1] == places[:, 1].min()
    assert places[30, 2] == places[:, 2].max()
    assert places[36:42, 0].max() < 0 < places[42:48, 0].min()
    assert places[48, 0] < places[60, 0] < places[64, 0] < places[54, 0]


def test_contour_slides_on_the_side_that_turns_away(model: HeadModel) -> None:
    assert model.contour is not None
    triangles, template = model.triangles, 1000 * model.template

    def row(index: int) -> np.ndarray:
        assert model.contour is not None
        return embed(model.contour.faces[index], model.contour.bary[index], triangles, template).numpy()

    static = embed(model.landmarks68.faces[:17], model.landmarks68.bary[:17], triangles, template).numpy()
    np.testing.assert_allclose(row(0), static, atol=1e-4)
    np.testing.assert_allclose(row(39)[:8], static[:8], atol=1e-4)
    np.testing.assert_allclose(row(78)[9:], static[9:], atol=1e-4)
    assert (row(39)[12:, 2] > static[12:, 2] + 20).all()
    assert (row(78)[:5, 2] > static[:5, 2] + 20).all()
    face = template.numpy()[model.regions["face"].numpy()]
    for index in (20, 39):
        angle = np.deg2rad(index)
        across = lambda points, turn=angle: points[:, 0] * np.cos(turn) + points[:, 2] * np.sin(turn)  # noqa: E731
        for point in row(index)[13:]:
            level = face[(np.abs(face[:, 1] - point[1]) < 2) & (face[:, 0] > 20)]
            assert across(level).max() < across(point[None])[0] + 2.5


def test_atlas_does_not_overlap_and_is_symmetric(model: HeadModel) -> None:
    uv = model.uv.numpy()
    assert uv.min() >= 0
    assert uv.max() <= 1
    a, b, c = (uv[model.uv_triangles[:, k].numpy()] for k in range(3))
    u, v = b - a, c - a
    areas = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2
    assert areas.min() > 0
    covered = Texels.of(model, 1024).fragments.covered.mean()
    assert areas.sum() == pytest.approx(covered, abs=0.002)  # overlaps would make the sum of areas larger
    distance, _ = cKDTree(uv).query(uv[np.abs(uv[:, 1] - 0.6) < 0.3] * [-1, 1] + [1, 0])
    assert distance.max() < 1e-4
    face = np.isin(model.triangles.numpy(), model.regions["face"].numpy()).all(1)
    assert areas[face].sum() > 0.22


def test_regions_have_flame_names_and_cover_the_head(model: HeadModel) -> None:
    names = {
        *("face", "scalp", "neck", "nose", "lips", "forehead", "left_ear", "right_ear", "eye_region", "boundary"),
        *("left_eye_region", "right_eye_region", "left_eyeball", "right_eyeball", "inner_mouth", "skin"),
        *("iris_left", "iris_right"),
    }
    assert names <= set(model.regions)
    covered = np.zeros(model.vertex_count, bool)
    for name in ("face", "scalp", "neck", "left_ear", "right_ear", "left_eyeball", "right_eyeball", "inner_mouth"):
        covered[model.regions[name].numpy()] = True
    assert covered.all()
    assert {0, 17, 13, 14, 61, 291} <= set(model.regions["lips"].tolist())
    assert 4 in model.regions["nose"].tolist()
    assert 151 in model.regions["forehead"].tolist()
