"""Reading mica.tar: what a trainer leaves in it neither stops the reader nor runs; what is missing is named."""

import functools
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import mica_weights
import numpy as np
import pytest
import torch

from tracker.errors import InputError
from tracker.mica import checkpoint
from tracker.mica.checkpoint import load_head_buffers, load_network

SMALL = {"a.weight": (4, 3), "a.bias": (4,), "a.num_batches_tracked": ()}


class Trainer:
    """An object of a class that a reader does not have, as configs, schedulers and validators are."""

    def __init__(self) -> None:
        self.values = [1, 2]
        self.function = functools.partial(int, base=2)


class Evil:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class EvilList(list):
    """The same by its items."""


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, torch.Tensor]]:
    return mica_weights.state_dicts()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, torch.Tensor]]:
    """A network of one layer in place of the 65 million weights, and its checkpoint."""

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.arcface = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
            self.regressor = torch.nn.Linear(4, 2)

    def on_meta() -> torch.nn.Module:
        with torch.device("meta"):
            return Tiny().eval()

    monkeypatch.setattr(checkpoint, "on_meta", on_meta)
    full = Tiny().state_dict()
    face = {key.removeprefix("arcface."): value for key, value in full.items() if key.startswith("arcface.")}
    return {"arcface": face, "flameModel": {key: value for key, value in full.items() if key.startswith("regressor.")}}


def _equal(path: Path, parts: dict[str, dict[str, torch.Tensor]]) -> bool:
    found = load_network(path).state_dict()
    expected = {f"arcface.{key}": value for key, value in parts["arcface"].items()} | parts["flameModel"]
    return all(torch.equal(found[key], value) for key, value in expected.items() if key in found)


@pytest.mark.parametrize("new_format", [True, False])
def test_whole_network_in_both_formats(
    parts: dict[str, dict[str, torch.Tensor]], tmp_path: Path, new_format: bool
) -> None:
    torch.save(parts, tmp_path / "mica.tar", _use_new_zipfile_serialization=new_format)
    assert _equal(tmp_path / "mica.tar", parts)


@pytest.mark.parametrize("new_format", [True, False])
def test_foreign_objects_are_passed_over_and_run_nothing(small: Any, tmp_path: Path, new_format: bool) -> None:
    touched = tmp_path / "touched"
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, functools.partial(max, 1.0))
    evil_items = EvilList([Evil(touched)])
    content = {
        "opt": optimiser.state_dict(),
        "scheduler": scheduler.state_dict(),
        "validator": Trainer(),
        "numpy": np.float64(3.0),
        "array": np.arange(3),
        "path": Path("x"),
        "set": {1, 2},
        "evil": Evil(touched),
        "items": evil_items,
        "epoch": 3,
        **small,
    }
    torch.save(content, tmp_path / "mica.tar", _use_new_zipfile_serialization=new_format)
    assert _equal(tmp_path / "mica.tar", small)
    assert not touched.exists()
    # The same file does run the command in the hands of a reader that trusts it.
    torch.load(tmp_path / "mica.tar", weights_only=False)
    assert touched.exists()


@pytest.mark.parametrize("new_format", [True, False])
def test_weights_of_a_gpu_are_read_without_one(
    small: Any, tmp_path: Path, new_format: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # torch writes what the storages say of where they lie.
        patched.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:0")
        torch.save(small, tmp_path / "mica.tar", _use_new_zipfile_serialization=new_format)
    assert b"cuda:0" in (tmp_path / "mica.tar").read_bytes()
    assert _equal(tmp_path / "mica.tar", small)


def test_names_of_data_parallel_half_precision_and_missing_counters(small: Any, tmp_path: Path) -> None:
    renamed = {
        "arcface": {f"module.{key}": value for key, value in small["arcface"].items() if "num_batches" not in key},
        "flameModel": {
            key.replace("regressor.", "regressor.module."): v.half() for key, v in small["flameModel"].items()
        },
    }
    path = mica_weights.write(tmp_path / "mica.tar", renamed)
    network = load_network(path)
    assert network.state_dict()["arcface.1.num_batches_tracked"] == 0
    found = network.regressor.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, small["flameModel"]["regressor.weight"], atol=1e-3, rtol=1e-3)


def test_what_is_missing_or_misshapen_is_named(small: Any, tmp_path: Path) -> None:
    def message(**change: Any) -> str:
        with pytest.raises(InputError) as caught:
            load_network(mica_weights.write(tmp_path / "mica.tar", {**small, **change}))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    face = small["arcface"]
    missing = {key: value for key, value in face.items() if key != "1.running_var"}
    assert "mica.tar: lacks arcface.1.running_var; get MICA's mica.tar again" in message(arcface=missing)
    assert "arcface.1.bias has shape (5,), expected (4,)" in message(arcface={**face, "1.bias": torch.zeros(5)})
    assert "arcface.1.bias holds NaN" in message(arcface={**face, "1.bias": torch.full((4,), torch.nan)})
    assert "lacks flameModel.regressor.weight" in message(flameModel={})
    assert "lacks flameModel (it holds arcface, flameModel)" in message(flameModel=Trainer())
    # A name that holds no tensor is missing.
    assert "lacks flameModel.regressor.bias" in message(flameModel={**small["flameModel"], "regressor.bias": [1.0]})


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither a zip file nor a pickle"),
        (b"<html>Not found</html>", "neither a zip file nor a pickle"),
        (_tar(), "neither a zip file nor a pickle"),
        (_zip({"a.txt": b"text"}), "not a readable torch checkpoint"),
        (_zip({"mica/constants.pkl": b"", "mica/data.pkl": pickle.dumps({})}), "a TorchScript program"),
        (pickle.dumps({"arcface": 1}, 2), "Invalid magic number"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "mica.tar").write_bytes(data)
    with pytest.raises(
        InputError, match=r"mica\.tar: not a readable torch checkpoint .*get MICA's mica\.tar again"
    ) as e:
        load_network(tmp_path / "mica.tar")
    assert words in str(e.value)


def test_other_contents_and_no_file_are_named(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "mica.tar")
    with pytest.raises(InputError, match=r"mica\.tar: holds a list, expected a dict with arcface and flameModel"):
        load_network(tmp_path / "mica.tar")
    torch.save(Trainer(), tmp_path / "mica.tar")
    with pytest.raises(InputError, match="holds an object of another program"):
        load_network(tmp_path / "mica.tar")
    with pytest.raises(InputError, match=r"none\.tar: no such file; MICA's weights come from"):
        load_network(tmp_path / "none.tar")


@pytest.mark.parametrize("new_format", [True, False])
def test_damage_is_said_in_one_line(small: Any, tmp_path: Path, new_format: bool) -> None:
    torch.save(small, tmp_path / "whole.tar", _use_new_zipfile_serialization=new_format)
    data = (tmp_path / "whole.tar").read_bytes()
    random = np.random.RandomState(0)
    refused: list[str] = []
    for trial in range(60):
        changed = bytearray(data)
        if trial % 3:
            for place in random.randint(0, len(data), 20):
                changed[place] ^= random.randint(1, 256)
        else:
            changed = changed[: random.randint(0, len(data))]
        (tmp_path / "mica.tar").write_bytes(changed)
        try:
            load_network(tmp_path / "mica.tar")
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all("mica.tar: " in text and "\n" not in text for text in refused)


def test_head_buffers_are_read_where_they_are(small: Any, tmp_path: Path) -> None:
    path = mica_weights.write(tmp_path / "mica.tar", small)
    assert load_head_buffers(path) is None
    buffers = mica_weights.head_buffers()
    found = load_head_buffers(mica_weights.write(path, {**small, "flameModel": {**small["flameModel"], **buffers}}))
    assert found is not None
    assert found.shape_basis.shape == (30, 3, 300)
    np.testing.assert_array_equal(found.template, buffers["generator.v_template"])
    assert found.landmark_triangles.shape == (68,)
    assert found.landmark_weights.shape == (68, 3)
    buffers["generator.shapedirs"] = torch.zeros(29, 3, 400)
    with pytest.raises(InputError, match=r"generator\.shapedirs has shape \(29, 3, 400\), expected \(30, 3, 300\)"):
        load_head_buffers(mica_weights.write(path, {**small, "flameModel": {**small["flameModel"], **buffers}}))
