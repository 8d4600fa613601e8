"""mediapipe's matte of a person, on the portrait that scikit-image carries."""

import numpy as np
import skimage.data

from tracker.detectors.segmentation import PersonMatte


def test_matte_tells_the_person_from_the_background() -> None:
    image = skimage.data.astronaut()
    with PersonMatte() as segmentation:
        matte = segmentation.matte(image)
        again = segmentation.matte(image)
    assert matte.shape == image.shape[:2]
    assert matte.dtype == np.float32
    assert 0 <= matte.min() <= matte.max() <= 1
    # Face and suit; the flag and the shuttle behind her.
    assert matte[80:160, 190:250].min() > 0.9
    assert matte[0:60, 0:60].max() < 0.1
    assert np.array_equal(matte, again)


def test_an_empty_picture_shows_nobody() -> None:
    with PersonMatte() as segmentation:
        matte = segmentation.matte(np.full((240, 320, 3), 128, np.uint8))
    assert float((matte > 0.5).mean()) < 0.05
