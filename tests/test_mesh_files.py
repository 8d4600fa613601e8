"""Depth pictures, PLY and OBJ files read back by other programs' readers."""

import io

import numpy as np
import torch
import trimesh

from tracker.head.model import Embedding, HeadModel
from tracker.mesh_files import canonical_vertices, depth_png, obj_text, ply_bytes
from tracker.rasterizer import Fragments


def tetrahedron() -> HeadModel:
    """Four vertices; the last hangs on the jaw."""
    vertices = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    triangles = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    weights = torch.zeros(4, 5)
    weights[:, 0] = 1
    weights[3] = torch.tensor([0.0, 0, 1, 0, 0])
    regressor = torch.zeros(5, 4)
    regressor[:, 0] = 1
    nothing = Embedding(torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    return HeadModel(
        name="tetrahedron",
        template=vertices,
        shape_basis=torch.zeros(4, 3, 1),
        expression_basis=torch.zeros(4, 3, 1),
        expression_names=("none",),
        expression_std=torch.ones(1),
        expression_bounds=torch.tensor([[-1.0, 1.0]]),
        eyelid_basis=torch.zeros(4, 3, 2),
        joint_regressor=regressor,
        skin_weights=weights,
        triangles=triangles,
        uv=torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.25, 0.75]]),
        uv_triangles=torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 4], [1, 2, 3]]),
        landmarks68=nothing,
        landmarks478=nothing,
    )


def test_depth_is_rounded_millimetres_with_zero_background() -> None:
    depth = np.array([[0, 0.5004, 0.5006], [1.2345, 65.535, 90.0]], np.float32)
    picture = depth_png(Fragments(np.where(depth > 0, 0, -1).astype(np.int32), np.zeros((2, 3, 3), np.float32), depth))
    assert picture.dtype == np.uint16
    np.testing.assert_array_equal(picture, [[0, 500, 501], [1234, 65535, 65535]])


def test_ply_keeps_the_order_of_vertices_even_when_they_coincide() -> None:
    vertices = np.array([[0.3, 0, 0], [0, 0, 0], [0, 0.1, 0], [0, 0, 0]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 3, 2]])
    mesh = trimesh.load(io.BytesIO(ply_bytes(vertices, triangles)), file_type="ply", process=False)
    np.testing.assert_array_equal(np.asarray(mesh.vertices, np.float32), vertices)
    np.testing.assert_array_equal(mesh.faces, triangles)


def test_canonical_opens_the_jaw_by_twelve_degrees_downwards() -> None:
    model = tetrahedron()
    moved = canonical_vertices(model, torch.zeros(1))
    np.testing.assert_allclose(moved[:3], model.template[:3], atol=1e-7)
    chin = moved[3].numpy()
    # Head y is up and z out of the face: an opening jaw takes the chin down.
    np.testing.assert_allclose(chin, [0, -0.1 * np.sin(np.deg2rad(12)), 0.1 * np.cos(np.deg2rad(12))], atol=1e-6)


def test_obj_has_vertices_texture_coordinates_and_their_pairs() -> None:
    model = tetrahedron()
    lines = obj_text(model, model.template.numpy()).splitlines()
    vertices = [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("v ")]
    texture = [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("vt ")]
    faces = [line.split()[1:] for line in lines if line.startswith("f ")]
    np.testing.assert_allclose(vertices, model.template, atol=1e-6)
    np.testing.assert_allclose(texture, model.uv, atol=1e-6)
    assert faces[2] == ["1/1", "4/4", "3/5"]
