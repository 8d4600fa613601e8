"""BFM to FLAME: colours against the public converter's numbers, meshes against FLAME heads that are known."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from flame_files import arrays, write_folder, write_npy

from tracker.bfm_albedo import read_bfm_colour
from tracker.bfm_mesh import corresponding_vertices, fit_flame, read_mesh_correspondence
from tracker.errors import InputError
from tracker.head import bfm
from tracker.head.flame import load_flame
from tracker.head.flame_arrays import read_flame_arrays
from tracker.head.flame_params import params_from_axis_angle
from tracker.rotations import exp_so3
from tracker.texture_space import open_texture_space, texture_image

h5py = pytest.importorskip("h5py", reason="h5py is not installed (the extra bfm)")
TEXELS = ("w", "h", "ids", "x_coords", "y_coords", "valid_BFM_faces", "valid_BFM_b_coords")


def _write_h5(path: Path, colours: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for key, values in colours.items():
            file[f"color/model/{key}"] = values


@pytest.mark.parametrize("seed", [8101, 8102])
def test_colours_equal_the_converters(
    shared_dir: Path, tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = shared_dir / "parity/golden/bfm_to_flame"
    with np.load(golden / f"col_to_tex_{seed}.npz") as archive:
        case = {key: archive[key] for key in archive.files}
    write_npy(tmp_path / "cached_data.npy", {key: case[key] for key in TEXELS})
    output = tmp_path / "new/FLAME_albedo_from_BFM.npz"
    command = ["albedo", str(golden / f"tiny_bfm2017_{seed}.h5"), "--output", str(output)]
    command += ["--correspondence", str(tmp_path / "cached_data.npy")]
    if "inpaint_MU" in case:
        np.savez(tmp_path / "mask_inpainting.npz", MU=case["inpaint_MU"], PC=case["inpaint_PC"])
        command += ["--inpainting", str(tmp_path / "mask_inpainting.npz")]
    assert bfm.main(command) == 0
    assert "16 x 16, 7 components, 70% of the texels" in capsys.readouterr().out
    with np.load(output) as found:
        assert (found["MU"].dtype, found["PC"].dtype) == (np.float64, np.float64)
        # 1e-16 and 1.1e-8 measured: the converter takes the square root in float32.
        np.testing.assert_allclose(found["MU"], case["MU"], atol=1e-12)
        np.testing.assert_allclose(found["PC"], case["PC"], atol=3e-8)
    space = open_texture_space(output)
    assert (space.kind, space.side, space.modes) == ("bfm", 16, 7)
    np.testing.assert_allclose(
        texture_image(space, np.eye(7)[2])[..., ::-1].ravel(), case["MU"] + case["PC"][:, 2], atol=1e-6
    )
    assert {path.name for path in output.parent.iterdir()} == {output.name}


COLOURS = {"mean": np.full(30, 0.5), "pcaBasis": np.eye(30)[:, :4], "pcaVariance": np.arange(4.0) ** 2}


def test_a_component_is_one_standard_deviation(tmp_path: Path) -> None:
    _write_h5(tmp_path / "bfm.h5", COLOURS)
    colour = read_bfm_colour(tmp_path / "bfm.h5")
    assert colour.basis.shape == (10, 3, 4)
    np.testing.assert_allclose(colour.basis.reshape(30, 4)[3, 3], 3.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"pcaBasis": None}, "no Basel Face Model"), ({"pcaVariance": np.ones(5)}, "do not fit together")],
)
def test_other_models_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    _write_h5(tmp_path / "bfm.h5", {k: v for k, v in (COLOURS | change).items() if v is not None})
    with pytest.raises(InputError, match=rf"bfm\.h5: .*{said}"):
        read_bfm_colour(tmp_path / "bfm.h5")
    for content in (b"", b"no h5 file"):
        (tmp_path / "bfm.h5").write_bytes(content)
        with pytest.raises(InputError, match=r"bfm\.h5"):
            read_bfm_colour(tmp_path / "bfm.h5")
    with pytest.raises(InputError, match=r"none\.h5"):
        read_bfm_colour(tmp_path / "none.h5")


def test_bad_correspondences_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_h5(tmp_path / "bfm.h5", COLOURS)
    path = tmp_path / "cached_data.npy"
    good = {
        "w": 4,
        "h": 4,
        "ids": np.arange(3),
        "x_coords": np.full(16, 0.5),
        "y_coords": np.arange(16) + 0.5,
        "valid_BFM_faces": np.zeros((3, 3), int),
        "valid_BFM_b_coords": np.full((3, 3), 1 / 3),
    }
    changes = [
        {"w": None},
        {"valid_BFM_faces": np.full((3, 3), 10)},
        {"ids": np.array([5])},
        {"ids": np.array([5, 6, 7])},
        {"ids": np.array([0, 1, 16])},
    ]
    said = ["lacks w", "names BFM vertex 10, the model has 10", "do not fit together", "do not fit together"]
    said.append("ids name texels beyond the 16 given")
    for change, words in zip(changes, said, strict=True):
        write_npy(path, {key: value for key, value in (good | change).items() if value is not None})
        output = tmp_path / "out.npz"
        code = bfm.main(["albedo", str(tmp_path / "bfm.h5"), "--correspondence", str(path), "--output", str(output)])
        told = capsys.readouterr().err
        assert (code, told.count("\n")) == (1, 1)
        assert words in told
        assert not output.exists()
    write_npy(path, good)
    np.savez(tmp_path / "mask.npz", MU=np.zeros(12), PC=np.zeros((12, 9)))
    command = ["albedo", str(tmp_path / "bfm.h5"), "--correspondence", str(path), "--output", str(tmp_path / "o.npz")]
    assert bfm.main([*command, "--inpainting", str(tmp_path / "mask.npz")]) == 1
    assert "expected square pictures of 4 components" in capsys.readouterr().err
    assert bfm.main(command) == 0
    capsys.readouterr()
    (tmp_path / "folder").mkdir()
    for output, words in (("folder", "is a folder"), ("mask.npz/new/o.npz", "cannot be written")):
        assert bfm.main([*command[:-1], str(tmp_path / output)]) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert words in told
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("setup", [{"f_in": [0]}, {"mtx": np.zeros((3, 4))}, {"mtx": np.zeros(3), "f_in": [0]}])
def test_a_topology_that_lacks_its_parts_is_refused(tmp_path: Path, setup: dict[str, Any]) -> None:
    _write_corr(tmp_path / "corr.npz", BFM2017_corr=setup, FLAME_mask_ids=np.arange(3))
    with pytest.raises(InputError, match=r"corr\.npz: lacks BFM2017_corr"):
        read_mesh_correspondence(tmp_path / "corr.npz", 2, 1)


def _write_corr(path: Path, **setups: Any) -> None:
    """BFM_to_FLAME_corr.npz: dicts as objects without dimensions."""
    objects = {key: np.array(value, dtype=object) for key, value in setups.items() if isinstance(value, dict)}
    np.savez(path, allow_pickle=True, **objects, **{key: v for key, v in setups.items() if not isinstance(v, dict)})


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csc_matrix, scipy.sparse.csr_matrix])
def test_vertices_equal_the_converters(shared_dir: Path, tmp_path: Path, kind: Any) -> None:
    with np.load(shared_dir / "parity/golden/bfm_to_flame/col_to_tex_8101.npz") as case:
        matrix, vertices, expected = case["mesh_mtx_dense"], case["mesh_v_in"], case["mesh_v_out"]
    wanted = {"mtx": kind(matrix), "f_in": np.zeros((70, 3), int), "f_out": np.zeros((9, 3), int)}
    other = {"mtx": kind(np.zeros((80, 60))), "f_in": np.zeros((70, 3), int), "f_out": np.zeros((9, 3), int)}
    path = tmp_path / "BFM_to_FLAME_corr.npz"
    _write_corr(path, BFM2017_corr=other, BFM2009_corr=wanted, FLAME_mask_ids=np.arange(12))
    found = read_mesh_correspondence(path, len(vertices), 70)
    assert found.name == "BFM2009_corr"
    np.testing.assert_allclose(corresponding_vertices(found, vertices), expected, atol=1e-12)
    for counts in ((len(vertices), 71), (49, 70)):
        with pytest.raises(InputError, match="knows meshes of 30 and 70, 50 and 70 vertices and triangles"):
            read_mesh_correspondence(path, *counts)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


def test_code_in_a_correspondence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BFM_to_FLAME_corr.npz"
    _write_corr(path, BFM2017_corr={"mtx": _Evil()})
    with pytest.raises(InputError, match=r"BFM_to_FLAME_corr\.npz: refused: it holds builtins\.eval"):
        read_mesh_correspondence(path, 3, 3)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match="lacks BFM2017_corr"):
        read_mesh_correspondence(path, 3, 3)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match=r"BFM_to_FLAME_corr\.npz: damaged"):
        read_mesh_correspondence(path, 3, 3)


MODES = {"shapes": 6, "expressions": 4}


@pytest.fixture
def flame(tmp_path: Path) -> Path:
    """A folder with a model of few modes that move by centimetres."""
    data = arrays(**MODES)
    write_folder(tmp_path / "flame", shapedirs=3 * data["shapedirs"], shape_count=np.array(MODES["shapes"]))
    return tmp_path / "flame"


def _head(flame: Path) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    rng = np.random.RandomState(4)
    values = {
        "shape": torch.from_numpy(rng.standard_normal(MODES["shapes"])),
        "exp": torch.from_numpy(rng.standard_normal(MODES["expressions"])),
        "pose": torch.tensor([0, 0, 0, 0.2, 0.03, -0.02], dtype=torch.float64),
    }
    model = load_flame(flame)
    return model.vertices(params_from_axis_angle(model, values)).numpy(), values


def test_a_known_head_comes_back(flame: Path) -> None:
    """Face vertices turned, shifted, in millimetres, and the rest of the head unknown."""
    head, values = _head(flame)
    face = np.flatnonzero(head[:, 2] > 0)
    R = exp_so3(torch.tensor([0.4, -0.8, 0.3], dtype=torch.float64)).numpy()
    own = 1000 * head @ R.T + [30.0, -20.0, 500.0]
    target = np.where(np.isin(np.arange(len(own)), face)[:, None], own, 0)
    found = fit_flame(read_flame_arrays(flame / "generic_model.npz", []), target, face)
    # The regularisers pull a little: 4 micrometres measured, over all of the head.
    assert np.abs(found.vertices - own).max() < 0.01
    np.testing.assert_allclose(found.shape, values["shape"], atol=0.01)
    np.testing.assert_allclose(found.expression, values["exp"], atol=0.01)
    np.testing.assert_allclose(found.metres, 1e-3, rtol=1e-4)
    assert found.error_m.max() < 1e-5
    mirrored = fit_flame(read_flame_arrays(flame / "generic_model.npz", []), target * [-1, 1, 1], face)
    assert np.median(mirrored.error_m) > 1e-3
    assert np.linalg.det(mirrored.jaw) > 0


def test_the_command_converts_a_mesh(flame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A BFM mesh that has the FLAME head's vertices in another order, and others between them."""
    head, _ = _head(flame)
    count, rng = len(head), np.random.RandomState(0)
    place = rng.permutation(2 * count)[:count]
    vertices = rng.standard_normal((2 * count, 3))
    vertices[place] = 1000 * head
    triangles = rng.randint(0, 2 * count, (90, 3))
    lines = [f"v {x} {y} {z} 0.5 0.5 0.5" for x, y, z in vertices] + ["vt 0 0", "vt 1 1"]
    lines += [f"f {a}/1 {b}/2 {c}/{1 + i % 2}" for i, (a, b, c) in enumerate(triangles + 1)]
    (tmp_path / "bfm.obj").write_text("\n".join(lines) + "\n")
    matrix = scipy.sparse.csc_matrix((np.ones(count), (np.arange(count), place)), shape=(count, 4 * count))
    setup = {"mtx": matrix, "f_in": triangles, "f_out": arrays()["f"]}
    _write_corr(tmp_path / "corr.npz", BFM2017_corr=setup, FLAME_mask_ids=np.flatnonzero(head[:, 2] > 0))
    output = tmp_path / "new/flame.obj"
    command = ["mesh", str(tmp_path / "bfm.obj"), "--correspondence", str(tmp_path / "corr.npz")]
    command += ["--flame", str(flame), "--output", str(output)]
    assert bfm.main(command) == 0
    assert "BFM2017, the face fits to 0.00 mm" in capsys.readouterr().out
    written = [line.split() for line in output.read_text().splitlines()]
    found = np.array([[float(x) for x in line[1:]] for line in written if line[0] == "v"])
    assert np.abs(found - 1000 * head).max() < 0.01
    faces = np.array([[int(x) for x in line[1:]] for line in written if line[0] == "f"])
    np.testing.assert_array_equal(faces - 1, arrays()["f"])


def test_bad_meshes_are_one_line(flame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_corr(tmp_path / "corr.npz", BFM2017_corr={"mtx": np.zeros((3, 4)), "f_in": [0]}, FLAME_mask_ids=np.arange(3))
    for name, content in (
        ("none.obj", None),
        ("empty.obj", ""),
        ("text.ply", "ply?"),
        ("two.obj", "v 0 0 0\nv 1 1 1\n"),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        command = ["mesh", str(tmp_path / name), "--correspondence", str(tmp_path / "corr.npz")]
        assert bfm.main([*command, "--flame", str(flame), "--output", str(tmp_path / "out.obj")]) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert name in told
