"""Reads and writes `torch.save` files of numpy arrays without torch, which takes a second to import.

Such a file is a zip archive with a pickle in it, `<name>/data.pkl`; arrays lie in the pickle itself, only tensors have
records of their own. Reading makes numpy arrays and plain Python values and nothing else, like
`tracker.safe_pickle`; a file that holds anything more is left to torch.
"""

import collections
import importlib
import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tracker.npz import DAMAGE

_PICKLE, _ORDER, _VERSION = "data.pkl", "byteorder", "version"
# What torch.save writes there; its reader refuses files without the version.
_VERSION_3 = b"3\n"
# As torch.save: Python 2's reader knows it, and metrical-tracker's files are of it.
_PROTOCOL = 2
# A zip file has dates; results repeat bit by bit.
_DATE = (1980, 1, 1, 0, 0, 0)


def latin1_bytes(text: str, encoding: str) -> bytes:
    """codecs.encode as Python 3 pickles call it for Python 2's strings, and for no other codec.

    Raises:
        pickle.UnpicklingError: another codec is asked for.
    """
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


_core = "numpy.core" if np.__version__.startswith("1.") else "numpy._core"
_multiarray = importlib.import_module(f"{_core}.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): latin1_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[(_module, "_reconstruct")] = _multiarray._reconstruct
    _ALLOWED[(_module, "scalar")] = _multiarray.scalar

# What reading a damaged file raises, or one with more than arrays: that of `tracker.safe_pickle`, and the archive's.
NOT_READ = (pickle.UnpicklingError, *DAMAGE)


class _Unpickler(pickle.Unpickler):
    """Numpy arrays and plain values; a tensor (a persistent id) and any other class are refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}") from None


def save(path: Path, value: Any) -> None:
    """Writes a file that `torch.load` reads.

    Args:
        path: the file; its name without suffix names the archive's folder, as in torch's own files.
        value: numpy arrays, numbers and strings, in dicts and lists.
    """
    records = {_PICKLE: pickle.dumps(value, _PROTOCOL), _ORDER: sys.byteorder.encode(), _VERSION: _VERSION_3}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"{path.name.split('.')[0]}/{name}", _DATE), data)
    path.write_bytes(whole.getvalue())


def load(path: Path) -> Any:
    """Reads such a file.

    Raises:
        FileNotFoundError: there is none.
        pickle.UnpicklingError: it holds tensors or other classes; torch may know them.
        Exception: it is damaged: one of `NOT_READ`.
    """
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(f"/{_PICKLE}")]
        return _Unpickler(io.BytesIO(archive.read(name))).load()
