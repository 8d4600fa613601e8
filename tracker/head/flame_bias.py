"""FaceMesh's landmark bias on a FLAME model, measured once on renderings of it and kept in the cache folder.

The points of mediapipe_landmark_embedding.npz were placed on FLAME by hand; where the detector finds them differs by
millimetres, and a fit that takes them for the same pays with pose and identity (docs/solver.md, "Landmark offsets").
"""

from collections.abc import Callable
from pathlib import Path

from tracker.atomic_write import check_writable, write_atomic
from tracker.errors import InputError
from tracker.head.cache import CACHE_VARIABLE, cache_folder, files_digest
from tracker.head.flame_places import flame_files

Progress = Callable[[str], None]

# Changes when the measurement gives other numbers.
_VERSION = 1


def flame_bias_path(model: Path) -> Path:
    """The file of a FLAME model's landmark bias, there or not; another one when one of the model's files changes.

    Args:
        model: FLAME's file or folder.
    """
    return cache_folder() / f"flame_{files_digest(_VERSION, flame_files(model))}_landmarks.npz"


def measure_flame_bias(model: Path, progress: Progress) -> None:
    """Measures the landmark bias of a FLAME model unless it is there; takes a minute or two.

    A model whose renderings the detector takes for no face is left without one.

    Args:
        model: FLAME's file or folder.
        progress: told in words how far it is.

    Raises:
        InputError: a file of the model is missing or damaged.
    """
    path = flame_bias_path(model)
    if path.is_file():
        return
    from tracker.head.flame import load_flame
    from tracker.head.measure_bias import measure_bias

    head = load_flame(model)
    without = "FLAME is tracked without a measured landmark bias"
    try:
        check_writable(path)
    except InputError as error:
        progress(f"{error} by {CACHE_VARIABLE}; {without}")
        return
    progress(f"FLAME: FaceMesh's landmark bias on {model} is measured into {path}, once; takes a minute or two")
    try:
        bias = measure_bias(head, progress=progress)
    except InputError as error:
        progress(f"{error}; {without}")
        return
    write_atomic(path, bias.save)
