"""The .npy format in memory."""

import io

import numpy as np


def array_bytes(array: np.ndarray) -> bytes:
    """An array as the content of a .npy file, without pickles."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
