"""Reads mica.tar (a `torch.save` file, not a tar archive) without running anything that its pickle names.

A trainer's checkpoint holds optimisers, schedulers and configs beside the weights, on the GPU that it ran on. torch's
own reader does the reading, in both of its formats, with an unpickler of ours: the few functions that tensors need are
let through, and every other class or function becomes a stand-in that takes anything and does nothing.
"""

import collections
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracker.errors import InputError
from tracker.mica.networks import SHAPE_SIZE, MicaNetwork, on_meta
from tracker.safe_pickle import DAMAGE

_REMEDY = "get MICA's mica.tar again"
# How a pickle of protocol 2 begins, torch's format before zip files.
_PICKLE_START = b"\x80\x02"
# Counters that inference does not use; weights of before torch 0.4.1 lack them.
_OPTIONAL = "num_batches_tracked"
_PARALLEL = "module"
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class _Ignored:
    """Takes the place of every other class or function: made, called, filled and restored without effect."""

    def __new__(cls, *_args: object, **_kwargs: object) -> "_Ignored":
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __call__(self, *_args: object, **_kwargs: object) -> "_Ignored":
        return self

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _item: object) -> None:
        pass

    def extend(self, _items: object) -> None:
        pass

    def add(self, _item: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), _Ignored)


# What `torch.load` asks of a pickle module.
_PICKLE_MODULE = SimpleNamespace(
    __name__="tracker.mica.checkpoint",
    Unpickler=_Unpickler,
    load=lambda file, **options: _Unpickler(file, **options).load(),
)


@dataclass(frozen=True, eq=False)
class HeadBuffers:
    """The FLAME head that a MICA checkpoint carries, as far as a neutral head needs it.

    Attributes:
        template: (V, 3) float32 metres.
        shape_basis: (V, 3, 300) float32 metres.
        triangles: (F, 3) int64.
        landmark_triangles: (68,) int64, the 'full' embedding of the iBUG points.
        landmark_weights: (68, 3) float32 barycentric weights.
    """

    template: np.ndarray
    shape_basis: np.ndarray
    triangles: np.ndarray
    landmark_triangles: np.ndarray
    landmark_weights: np.ndarray


def load_network(path: Path) -> MicaNetwork:
    """Reads the networks.

    Args:
        path: mica.tar, in either of torch's formats; weights may lie on a GPU, in half precision, or under the names
            that DataParallel gives them; what else it holds is ignored.

    Returns:
        The networks on the CPU, float32, in eval mode.

    Raises:
        InputError: missing, damaged, or without the weights; the message names the file and the key.
    """
    content = _read(path)
    found = {
        **_part(content, path, "arcface", "arcface."),
        **_part(content, path, "flameModel", ""),
    }
    network = on_meta()
    weights = {key: _weight(found, key, tuple(value.shape), path) for key, value in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False)


def load_head_buffers(path: Path) -> HeadBuffers | None:
    """Reads the checkpoint's own FLAME head, with which its meshes are made; None where it has none.

    Raises:
        InputError: as `load_network`; or the head's parts do not fit together.
    """
    found = _part(_read(path), path, "flameModel", "")
    names = ("v_template", "shapedirs", "faces_tensor", "full_lmk_faces_idx", "full_lmk_bary_coords")
    if any(f"generator.{name}" not in found for name in names):
        return None
    template, basis, triangles, faces, weights = (found[f"generator.{name}"].cpu().numpy() for name in names)
    if basis.shape[:2] != template.shape or basis.ndim != 3 or basis.shape[2] < SHAPE_SIZE:
        raise InputError(
            f"{path}: flameModel.generator.shapedirs has shape {basis.shape}, expected {(*template.shape, SHAPE_SIZE)} "
            f"or more modes; {_REMEDY}"
        )
    if triangles.max() >= len(template) or faces.max() >= len(triangles) or min(triangles.min(), faces.min()) < 0:
        raise InputError(f"{path}: flameModel.generator names vertices or triangles that it does not have; {_REMEDY}")
    return HeadBuffers(
        template=template.astype(np.float32),
        shape_basis=basis[..., :SHAPE_SIZE].astype(np.float32),
        triangles=triangles.astype(np.int64),
        landmark_triangles=faces.reshape(-1).astype(np.int64),
        landmark_weights=weights.reshape(-1, 3).astype(np.float32),
    )


def _read(path: Path) -> dict[Any, Any]:
    """The checkpoint's dict; tensors on the CPU, mapped from the file where its format allows."""
    try:
        zipped = _is_zip(path)
        content = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_PICKLE_MODULE, mmap=True if zipped else None
        )
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; MICA's weights come from github.com/Zielon/MICA") from error
    except (*DAMAGE, OSError, MemoryError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: not a readable torch checkpoint ({reason}); {_REMEDY}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {_kind(content)}, expected a dict with arcface and flameModel; {_REMEDY}")
    return content


def _is_zip(path: Path) -> bool:
    """Which of torch's two formats a file has.

    Raises:
        ValueError: neither; a program (TorchScript) is refused, too.
    """
    with path.open("rb") as file:
        start = file.read(len(_PICKLE_START))
        if not zipfile.is_zipfile(file):
            if start != _PICKLE_START:
                raise ValueError("neither a zip file nor a pickle")
            return False
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("constants.pkl") for name in archive.namelist()):
            raise ValueError("a TorchScript program, not weights")
    return True


def _part(content: dict[Any, Any], path: Path, name: str, prefix: str) -> dict[str, Tensor]:
    """The tensors of one state dict under their plain names."""
    part = content.get(name)
    if not isinstance(part, dict):
        having = ", ".join(sorted(str(key) for key in content)[:8]) or "nothing"
        raise InputError(f"{path}: lacks {name} (it holds {having}); {_REMEDY}")
    return {
        prefix + ".".join(word for word in key.split(".") if word != _PARALLEL): value
        for key, value in part.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def _weight(found: dict[str, Tensor], key: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """One weight, checked."""
    name = key if key.startswith("arcface.") else f"flameModel.{key}"
    counter = key.endswith(_OPTIONAL)
    if key not in found:
        if counter:
            return torch.zeros(shape, dtype=torch.int64)
        raise InputError(f"{path}: lacks {name}; {_REMEDY}")
    value = found[key].detach()
    if tuple(value.shape) != shape:
        raise InputError(f"{path}: {name} has shape {tuple(value.shape)}, expected {shape}; {_REMEDY}")
    if counter:
        return value
    value = value.float()
    if not torch.isfinite(value).all():
        raise InputError(f"{path}: {name} holds NaN or infinity; {_REMEDY}")
    return value


def _kind(value: object) -> str:
    return "an object of another program" if isinstance(value, _Ignored) else f"a {type(value).__name__}"
