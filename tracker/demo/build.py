"""Scenes with known truth on any head model: a public-domain portrait's skin, motion, background."""

from functools import cache, lru_cache

import cv2
import numpy as np

from tracker.demo.bust import CLOTH
from tracker.demo.look import draw_look, with_hair
from tracker.demo.motion import make_motion
from tracker.demo.paint import paint_head
from tracker.demo.portrait import Portrait, Unwrapped, unwrap
from tracker.demo.scene import Paint, Scene, make_scene
from tracker.demo.spec import DemoSpec
from tracker.detectors.facemesh import FaceMesh
from tracker.errors import InputError
from tracker.head.model import HeadModel
from tracker.texels import Texels

# The part of the portrait with the face, enlarged so that FaceMesh sees it well: rows, columns, factor.
_FACE_ROWS, _FACE_COLUMNS, _FACE_SCALE = slice(0, 280), slice(90, 370), 4


@cache
def demo_portrait() -> Portrait:
    """The portrait that scikit-image carries in its wheel, with its landmarks.

    Raises:
        InputError: FaceMesh does not find the face.
    """
    import skimage.data

    image = skimage.data.astronaut()
    part = cv2.resize(
        image[_FACE_ROWS, _FACE_COLUMNS], None, fx=_FACE_SCALE, fy=_FACE_SCALE, interpolation=cv2.INTER_CUBIC
    )
    with FaceMesh(max_faces=1, tracking=False) as detector:
        faces = detector.faces(part)
    if not faces:
        raise InputError("scikit-image's astronaut picture: no face found; reinstall mediapipe and scikit-image")
    offset = np.array([_FACE_COLUMNS.start, _FACE_ROWS.start])
    return Portrait(image.astype(np.float32) / 255, faces[0].points_px / _FACE_SCALE + offset)


@lru_cache(maxsize=1)
def _unwrapped(model: HeadModel, size: int) -> tuple[Texels, Unwrapped]:
    """A head's texels and the portrait on them; kept, because clips of several seeds are often made of one head."""
    texels = Texels.of(model, size)
    return texels, unwrap(model, texels, demo_portrait())


def build_scene(spec: DemoSpec, model: HeadModel) -> Scene:
    """Texture, motion and background of a clip."""
    import skimage.data

    texels, portrait = _unwrapped(model, spec.texture_size)
    look = draw_look(spec.seed) if spec.own_look else None
    if look is None:
        paint = Paint(paint_head(model, texels, portrait, spec.seed), portrait.skin, portrait.hair, CLOTH)
    else:
        portrait = with_hair(portrait, look)
        texture = paint_head(model, texels, portrait, spec.seed, look)
        paint = Paint(texture, portrait.skin * look.skin_gain, portrait.hair, look.cloth)
    photograph = skimage.data.rocket().astype(np.float32) / 255
    return make_scene(spec, model, make_motion(spec, model), paint, photograph)
