"""Surface samples: even over the face, away from eyes and mouth, the same each time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tracker.head.generic import load_generic
from tracker.head.model import HeadModel, embed
from tracker.landmark_lines import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from tracker.samples import face_samples, face_triangles, steady_triangles


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_generic()


def _areas(model: HeadModel) -> np.ndarray:
    corners = model.template.numpy()[model.triangles.numpy()]
    return 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)


def test_samples_are_even_by_area(model: HeadModel) -> None:
    count = 6000
    samples = face_samples(model, count)
    triangles = steady_triangles(model)
    expected = np.zeros(len(model.triangles))
    expected[triangles] = _areas(model)[triangles] / _areas(model)[triangles].sum() * count
    found = np.bincount(samples.faces.numpy(), minlength=len(model.triangles))
    # One sample in each equal part of the cumulative area: no triangle is off by two.
    assert np.abs(found - expected).max() < 2
    assert np.abs(np.cumsum(found - expected)).max() < 1.001
    # Inside the triangles too: the mean weight of each corner is a third, its mean square a sixth.
    bary = samples.bary.numpy()
    np.testing.assert_allclose(bary.mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((bary**2).mean(0), 1 / 6, atol=0.01)


def test_weights_are_barycentric(model: HeadModel) -> None:
    bary = face_samples(model, 1000).bary
    assert bool((bary >= 0).all())
    assert torch.allclose(bary.sum(1), torch.ones(1000), atol=1e-6)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("region", ["left_eyeball", "right_eyeball", "inner_mouth"])
def test_no_sample_lies_where_colours_are_not_skin(model: HeadModel, region: str, whole: bool) -> None:
    if whole:
        # A model whose face region holds eyeballs and mouth, as FLAME's does in part.
        model = replace(model, regions={**model.regions, "face": torch.arange(model.vertex_count)})
    samples = face_samples(model, 5000)
    ids = set(model.regions[region].tolist())
    assert ids
    corners = model.triangles[samples.faces]
    assert not any(int(vertex) in ids for vertex in corners.reshape(-1).unique())


def test_no_sample_lies_beside_what_opens_and_closes(model: HeadModel) -> None:
    """Samples there held lids and lips open; cheeks, nose and brows keep theirs."""
    at = model.landmarks478
    points = embed(at.faces, at.bary, model.triangles, model.template)
    place = {int(number): row for row, number in enumerate(at.indices)}
    for line in (LEFT_EYE, RIGHT_EYE, INNER_LIPS):
        border = points[[place[number] for number in line.points]]
        samples = face_samples(model, 3000)
        # A triangle's centre is 8 mm away, its corners may be nearer: 5.0 mm measured.
        assert torch.cdist(samples.at(model, model.template), border).min() > 0.0045
    dropped = set(face_triangles(model).tolist()) - set(steady_triangles(model).tolist())
    assert 0.05 < _areas(model)[sorted(dropped)].sum() / _areas(model)[face_triangles(model)].sum() < 0.2
    unknown = replace(model, landmarks478=replace(at, indices=at.indices + 1000))
    assert len(steady_triangles(unknown)) == len(face_triangles(unknown))


def test_samples_lie_on_the_face(model: HeadModel) -> None:
    samples = face_samples(model, 2000)
    face = set(model.regions["face"].tolist())
    assert all(int(vertex) in face for vertex in model.triangles[samples.faces].reshape(-1).unique())
    points = samples.at(model, model.template).numpy()
    cheek = model.template[model.regions["face"]].numpy()
    assert (points.min(0) >= cheek.min(0)).all()
    assert (points.max(0) <= cheek.max(0)).all()
    assert np.ptp(points[:, 1]) > 0.8 * np.ptp(cheek[:, 1])


def test_the_draw_repeats_with_its_seed(model: HeadModel) -> None:
    first, again, other = face_samples(model, 500), face_samples(model, 500), face_samples(model, 500, seed=1)
    assert torch.equal(first.faces, again.faces)
    assert torch.equal(first.bary, again.bary)
    assert not torch.equal(first.bary, other.bary)
    assert len(first) == 500


def test_a_model_without_regions_is_sampled_whole() -> None:
    from heads import random_head

    model = random_head()
    assert len(face_triangles(model)) == len(model.triangles)
    values = model.template
    samples = face_samples(model, 50)
    corners = values[model.triangles[samples.faces]]
    assert torch.allclose(samples.at(model, values), (corners * samples.bary[..., None]).sum(1))
