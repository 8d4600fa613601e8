"""ICT-FaceKit for tests: unpacked once into a folder that all test runs share."""

import os
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).resolve().parent.parent.parent / "shared" / "ict_facekit" / "FaceXModel.tar.xz"
SHARED_PLACE = Path(tempfile.gettempdir()) / "ict_facekit"


@cache
def ict_folder() -> Path:
    """The unpacked FaceXModel folder; skips where the archive is absent."""
    if not ARCHIVE.is_file():
        pytest.skip(f"needs ICT-FaceKit's archive {ARCHIVE}")
    folder = SHARED_PLACE / "FaceXModel"
    if not (folder / "vertex_indices.json").is_file():
        SHARED_PLACE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SHARED_PLACE) as temporary, tarfile.open(ARCHIVE) as archive:
            archive.extractall(temporary, filter="data")
            if not folder.exists():
                os.replace(Path(temporary) / "FaceXModel", folder)
    return folder


@cache
def ict_arrays():
    """The folder's arrays, read once a test run."""
    from tracker.head.ict_files import read_folder

    return read_folder(ict_folder())


@cache
def ict_head():
    """The head model without FaceMesh points."""
    from tracker.head.ict import build_ict

    return build_ict(ict_arrays())
