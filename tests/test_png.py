"""The project's PNG coder: any reader gets the same pixels back, in less time and not much more space."""

import io

import clips
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tracker.png import _LONGEST_CODE, _code_lengths, encode_png


def _read_by_opencv(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def _check(image: np.ndarray) -> None:
    data = encode_png(image)
    for read in (_read_by_opencv(data), np.array(Image.open(io.BytesIO(data)))):
        assert read.shape == image.shape
        np.testing.assert_array_equal(read, image)


def _pictures(dtype: type, channels: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 200)).map(lambda size: (*size, *channels))
    # Few values: runs of equal pixels, shorter and longer than the longest match.
    values = st.sampled_from([0, 1, 255, np.iinfo(dtype).max])
    return hnp.arrays(dtype, shapes, elements=values, fill=st.just(7))


@settings(max_examples=60, deadline=None)
@given(st.one_of(_pictures(np.uint8, (3,)), _pictures(np.uint8, ()), _pictures(np.uint16, ())))
def test_round_trip(image: np.ndarray) -> None:
    _check(image)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 1), (64, 257, 3), (40, 1000), (301, 5, 3)])
def test_round_trip_of_noise_and_of_nothing(shape: tuple[int, ...]) -> None:
    _check(np.random.default_rng(1).integers(0, 256, shape, np.uint8))
    _check(np.zeros(shape, np.uint8))


def test_round_trip_of_depth() -> None:
    rows, columns = np.mgrid[:300, :260]
    distance = np.hypot(rows - 150, columns - 130)
    _check(np.where(distance < 100, 600 + distance, 0).astype(np.uint16))


def test_a_view_of_a_picture() -> None:
    image = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    _check(image[::2, ::-1])
    _check(image[:, :, 1])


def test_size_is_like_zlibs_fastest() -> None:
    portrait = clips.portrait()
    _, reference = cv2.imencode(".png", portrait, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert len(encode_png(portrait)) < 1.15 * len(reference)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.float32), np.zeros(4, np.uint8)])
def test_other_pictures_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode_png(image)


@pytest.mark.parametrize("growth", [1.0, 1.05, 1.6])
def test_code_is_complete_and_short(growth: float) -> None:
    # Growth 1.6 is nearly Fibonacci's: without a limit the tree would be 60 deep.
    counts = np.maximum(np.minimum(growth ** np.arange(286), 1e12), 1).astype(np.int64)
    lengths = _code_lengths(counts)
    assert lengths.min() >= 1
    assert lengths.max() <= _LONGEST_CODE
    assert np.sum(2.0**-lengths) == 1
    assert (np.diff(lengths) <= 0)[np.diff(counts) > 0].all()  # what is more frequent is not longer
