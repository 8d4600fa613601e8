"""Unpickling by an allow-list: FLAME files are pickles, and a pickle from the web may run anything.

Only the classes that such files are known to hold can be made; chumpy arrays are read without chumpy. Class paths are
those listed for FLAME 2017 to 2023, SMPL-family chumpy 0.70 files and FLAME's landmark embeddings.
"""

import collections
import importlib
import io
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from tracker import line_endings
from tracker.errors import InputError
from tracker.npz import DAMAGE as NPZ_DAMAGE
from tracker.npz import one_line
from tracker.torch_zip import latin1_bytes

# Values of a matrix that is made dense: J_regressor has 5 x 5023.
_LARGEST_DENSE = 1 << 26


class _Chumpy:
    """Stands in for chumpy.ch.Ch: keeps the state, gives its array."""

    def __init__(self, *_args: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        return np.asarray(_plain(self.state["x"]))


class _ChumpySelect(_Chumpy):
    """Stands in for chumpy.reordering.Select: a reshaped selection of another array."""

    def array(self) -> np.ndarray:
        source = np.asarray(_plain(self.state["a"])).ravel()
        return source[np.asarray(self.state["idxs"])].reshape(self.state["preferred_shape"])


class _Sparse:
    """Stands in for a compressed sparse matrix of scipy under its old and new module paths."""

    kind: Callable[..., Any]

    def __init__(self, *_args: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def matrix(self) -> Any:
        shape = self.state.get("_shape", self.state.get("shape"))
        parts = (self.state["data"], self.state["indices"], self.state["indptr"])
        matrix = type(self).kind(parts, shape=shape)
        # scipy's compiled code writes wherever the indices of a damaged file say.
        matrix.check_format(full_check=True)
        return matrix

    def array(self) -> np.ndarray:
        matrix = self.matrix()
        if matrix.shape[0] * matrix.shape[1] > _LARGEST_DENSE:
            raise ValueError(f"it holds a matrix of {matrix.shape}, larger than any model's")
        return np.asarray(matrix.toarray())


class _SparseColumns(_Sparse):
    """Stands in for scipy.sparse.csc_matrix (J_regressor)."""

    kind = scipy.sparse.csc_matrix


class _SparseRows(_Sparse):
    """Stands in for scipy.sparse.csr_matrix (correspondences of meshes)."""

    kind = scipy.sparse.csr_matrix


def _tensor_from_bytes(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _reconstructor(cls: type, _base: type, _state: object) -> object:
    return cls()


# numpy 2 moved its core; either module holds the functions that pickled arrays name.
_numpy_core = "numpy.core" if np.__version__.startswith("1.") else "numpy._core"
_multiarray = importlib.import_module(f"{_numpy_core}.multiarray")
_reconstruct, _scalar = _multiarray._reconstruct, _multiarray.scalar
_frombuffer = importlib.import_module(f"{_numpy_core}.numeric")._frombuffer

ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy.reordering", "Select"): _ChumpySelect,
    ("scipy.sparse.csc", "csc_matrix"): _SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): _SparseColumns,
    ("scipy.sparse.csr", "csr_matrix"): _SparseRows,
    ("scipy.sparse._csr", "csr_matrix"): _SparseRows,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): latin1_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _tensor_from_bytes,
}
for _module in ("numpy.core", "numpy._core"):
    ALLOWED[(f"{_module}.multiarray", "_reconstruct")] = _reconstruct
    ALLOWED[(f"{_module}.multiarray", "scalar")] = _scalar
    ALLOWED[(f"{_module}.numeric", "_frombuffer")] = _frombuffer


# What unpickling damaged bytes raises, in pickle's and in torch's reader (found by changing bytes at random).
DAMAGE = (pickle.UnpicklingError, *NPZ_DAMAGE)
# Guards torch's allow-list, see `numpy_allowed`.
_ALLOW_LIST = threading.Lock()


@contextmanager
def numpy_allowed() -> Iterator[None]:
    """Lets `torch.load(..., weights_only=True)` make numpy arrays and scalars, and nothing else.

    torch keeps the allow-list for the whole process and its `safe_globals` restores what it found: two threads inside
    it would take the list away from each other, so that one at a time may enter.
    """
    with _ALLOW_LIST, torch.serialization.safe_globals(_numpy_types()):
        yield


def _numpy_types() -> list[Any]:
    reconstruct = ALLOWED[("numpy.core.multiarray", "_reconstruct")]
    scalar = ALLOWED[("numpy.core.multiarray", "scalar")]
    allowed: list[Any] = [np.ndarray, np.dtype]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    return allowed + [type(np.dtype(kind)) for kind in ("i2", "i4", "i8", "u1", "?", "f2", "f4", "f8")]


class _ForeignClass(pickle.UnpicklingError):
    """A class outside the allow-list."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[(module, name)]
        except KeyError:
            raise _ForeignClass(f"it holds {module}.{name}, which no model file needs") from None


def _plain(value: Any, densify: bool = True) -> Any:
    """Arrays for the stand-ins, numpy for torch tensors, recursively through dicts."""
    if isinstance(value, _Sparse):
        return value.array() if densify else value.matrix()
    if isinstance(value, _Chumpy):
        return value.array()
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _plain(item, densify) for key, item in value.items()}
    return value


def load_pickle(path: Path, notes: list[str] | None = None) -> Any:
    """Reads a pickle of arrays.

    Args:
        path: a .pkl (latin1 strings, as Python 2 wrote them).
        notes: gets a sentence where the file had been copied as text and was repaired in memory.

    Returns:
        Its content with numpy arrays in place of chumpy, sparse and torch objects.

    Raises:
        InputError: the file is missing, damaged beyond repair or holds a class outside the allow-list, named.
    """
    return _load(path, _content, notes)


def load_object_npy(path: Path, notes: list[str] | None = None) -> Any:
    """Reads an .npy that holds one pickled object (FLAME's landmark_embedding.npy), by the same rules."""
    return _load(path, _npy_content, notes)


def load_object_npz(path: Path, dense: bool = False) -> dict[str, Any]:
    """Reads an npz whose arrays may be pickled objects (BFM_to_FLAME_corr.npz), by the same allow-list.

    Args:
        path: the file.
        dense: make sparse matrices dense, which takes gigabytes for those of BFM.

    Returns:
        Name to array or object.

    Raises:
        InputError: the file is missing, damaged or holds a class outside the allow-list, named.
    """
    return _load(path, partial(_npz_content, densify=dense), None)


def _load(path: Path, read: Callable[[io.BytesIO], Any], notes: list[str] | None) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); put the file there") from error
    instead = line_endings.placeholder(data)
    if instead:
        raise InputError(f"{path}: {instead}; get the file from its publisher again")
    foreign: _ForeignClass | None = None
    if line_endings.was_copied_as_text(data):
        # An undamaged file passes that test by chance alone and fails here: its lengths would not fit.
        with suppress(*DAMAGE):
            try:
                content = read(io.BytesIO(line_endings.repaired(data)))
            except _ForeignClass as error:
                foreign = error
                raise
            if notes is not None:
                notes.append(f"{path}: was copied as text, its line endings were changed; repaired in memory")
            return content
    try:
        return read(io.BytesIO(data))
    except DAMAGE as error:
        if foreign is not None or isinstance(error, _ForeignClass):
            # The copy's carriage returns would stand in the class's name.
            said = one_line(foreign or error)
            raise InputError(f"{path}: refused: {said}; get the file from its publisher again") from error
        kind = "archive" if path.suffix == ".npz" else "pickle"
        raise InputError(
            f"{path}: damaged {kind} ({one_line(error)}); copy or download it again, as a binary file"
        ) from error


def _content(file: io.BytesIO) -> Any:
    return _plain(_Unpickler(file, encoding="latin1").load())


def _npy_content(file: io.BytesIO) -> Any:
    dtype = _npy_type(file)
    if not dtype.hasobject:
        raise ValueError(f"it holds plain {dtype}, not a dict of arrays")
    return _item(_Unpickler(file, encoding="latin1").load(), True)


def _npy_type(file: io.BytesIO) -> np.dtype:
    """The type of an .npy's array, whose data come next."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(file)[2]


def _item(content: Any, densify: bool) -> Any:
    """The one object of an array without dimensions, anything else as it is."""
    is_item = isinstance(content, np.ndarray) and content.dtype == object and content.ndim == 0
    return _plain(content.item() if is_item else content, densify)


def _npz_content(file: io.BytesIO, densify: bool) -> dict[str, Any]:
    content = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            member = io.BytesIO(archive.read(name))
            if _npy_type(member).hasobject:
                value = _item(_Unpickler(member, encoding="latin1").load(), densify)
            else:
                member.seek(0)
                value = np.load(member, allow_pickle=False)
            content[name.removesuffix(".npy")] = value
    return content
