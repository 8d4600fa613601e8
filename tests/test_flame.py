"""The FLAME loader and skinning against numbers of the original implementation (parity/golden)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker.errors import InputError
from tracker.head.flame import load_flame
from tracker.head.model import HeadModel, HeadParams, embed
from tracker.rotations import matrix_from_6d
from tracker.safe_pickle import load_pickle


@pytest.fixture(scope="module")
def flame(shared_dir: Path) -> HeadModel:
    return load_flame(shared_dir / "flame_like")


def _golden_params(case: dict[str, np.ndarray], lids: bool) -> HeadParams:
    def tensor(key: str) -> torch.Tensor:
        return torch.from_numpy(case[key]).double()

    eyes = tensor("eyes_6d").reshape(-1, 2, 6)
    return HeadParams(
        shape=tensor("shape"),
        expression=tensor("exp"),
        jaw=matrix_from_6d(tensor("jaw_6d")),
        eyes=matrix_from_6d(eyes),
        eyelids=tensor("eyelids") if lids else torch.zeros(1, 2, dtype=torch.float64),
    )


@pytest.mark.parametrize("case_name", ["metrical_4101", "metrical_4102", "metrical_4103"])
def test_vertices_equal_the_original(flame: HeadModel, shared_dir: Path, case_name: str) -> None:
    with np.load(shared_dir / f"parity/golden/flame/{case_name}.npz") as archive:
        case = {key: archive[key] for key in archive.files}
    lids = [1e-3 * np.random.RandomState(seed).standard_normal((flame.vertex_count, 3)) for seed in (7001, 7002)]
    model = replace(flame, eyelid_basis=torch.from_numpy(np.stack(lids, -1)))
    vertices = model.vertices(_golden_params(case, lids=True))
    # Measured 2.4e-7 m, the rounding of the float32 original.
    assert np.abs(vertices.numpy() - case["vertices_jaw_eyes_lids"]).max() < 1e-6
    points = embed(model.landmarks478.faces, model.landmarks478.bary, model.triangles, vertices[0])
    expected = case["lmkMP_jaw_eyes_lids_real"][0]
    assert np.abs(points.numpy() - expected).max() < 1e-6


@pytest.mark.parametrize(
    "name",
    ["mini_flame_2023style_py3_protocol5", "mini_flame_chumpy070_py3_protocol2", "mini_flame_py2style_protocol2"],
)
def test_pickles_of_every_age_give_equal_arrays(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "parity/golden/pickles"
    data = load_pickle(folder / f"{name}.pkl")
    with np.load(folder / "mini_flame_arrays.npz") as expected:
        keys = [
            key for key in ("f", "v_template", "shapedirs", "posedirs", "J_regressor", "weights") if key in expected
        ]
        assert len(keys) == 6
        for key in keys:
            assert np.array_equal(np.asarray(data[key]), expected[key]), key


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


def test_a_pickle_with_code_is_refused_by_name(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"f": _Evil()}))
    with pytest.raises(InputError, match=r"model\.pkl.*builtins\.eval"):
        load_pickle(path)


def test_a_truncated_pickle_names_the_file(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps({"f": np.zeros((4, 3))})[:-20])
    with pytest.raises(InputError, match=r"generic_model\.pkl"):
        load_flame(path)


def test_damaged_parts_of_a_flame_folder_are_named(shared_dir: Path, tmp_path: Path) -> None:
    for source in (shared_dir / "flame_like").iterdir():
        (tmp_path / source.name).symlink_to(source)

    def replaced(name: str, content: bytes) -> None:
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(content)

    for name in ("l_eyelid.npy", "mediapipe_landmark_embedding.npz", "generic_model.npz"):
        good = (shared_dir / "flame_like" / name).read_bytes()
        replaced(name, good[: len(good) // 2])
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_flame(tmp_path)
        replaced(name, good)
    load_flame(tmp_path)
