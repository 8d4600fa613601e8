"""Clips with known truth: `python -m stages.demo make input/demo`, `… score input/demo output/demo`, `… list`.

A tool beside the stages, not one of them. `make` renders a clip from the generic head and NASA's public-domain portrait
of Eileen Collins, which scikit-image carries, and writes video.mp4 and truth.npz. `score` compares a track with it.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from loguru import logger

from stages import logs
from stages.demo_score import GENERIC_HEAD, file_digest, score, table, truth_path
from stages.encode import encode_frames
from tracker.demo.bust import CLOTH
from tracker.demo.look import draw_look, with_hair
from tracker.demo.motion import make_motion
from tracker.demo.paint import paint_head
from tracker.demo.portrait import Portrait, unwrap
from tracker.demo.scene import Paint, Scene, make_scene
from tracker.demo.spec import DemoSpec
from tracker.demo.truth import Truth, load_truth, truth_of
from tracker.demo.variants import VARIANTS, variant
from tracker.detectors.facemesh import FaceMesh
from tracker.errors import InputError, TrackerError
from tracker.head.model import HeadModel
from tracker.head.store import load_head
from tracker.texels import Texels

# The part of the portrait with the face, enlarged so that FaceMesh sees it well: rows, columns, factor.
_FACE_ROWS, _FACE_COLUMNS, _FACE_SCALE = slice(0, 280), slice(90, 370), 4
_THREADS = 2


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


def build_scene(spec: DemoSpec, model: HeadModel) -> Scene:
    """Texture, motion and background of a clip."""
    import skimage.data

    texels = Texels.of(model, spec.texture_size)
    portrait = unwrap(model, texels, demo_portrait())
    look = draw_look(spec.seed) if spec.own_look else None
    if look is None:
        paint = Paint(paint_head(model, texels, portrait, spec.seed), portrait.skin, portrait.hair, CLOTH)
    else:
        portrait = with_hair(portrait, look)
        texture = paint_head(model, texels, portrait, spec.seed, look)
        paint = Paint(texture, portrait.skin * look.skin_gain, portrait.hair, look.cloth)
    photograph = skimage.data.rocket().astype(np.float32) / 255
    return make_scene(spec, model, make_motion(spec, model), paint, photograph)


def make(clip: Path, spec: DemoSpec, head: Path = GENERIC_HEAD) -> Truth:
    """Renders a clip: clip/video.mp4 and clip/truth.npz.

    Args:
        clip: folder, made if need be.
        spec: what to show.
        head: head model in the project's npz layout.

    Returns:
        The truth that was written.
    """
    model = load_head(head)
    scene = build_scene(spec, model)
    truth = truth_of(spec, scene.motion, model.name, file_digest(head))
    if scene.parts:
        truth = replace(truth, hidden=np.array([hidden_share(scene, frame) for frame in range(spec.frame_count)]))
    clip.mkdir(parents=True, exist_ok=True)
    frames = logs.progress(render_all(scene), "demo", spec.frame_count)
    encode_frames(frames, spec.size, spec.fps, clip / "video.mp4", spec.crf)
    temporary = clip / ("truth.tmp.npz")
    truth.save(temporary)
    os.replace(temporary, truth_path(clip))
    return truth


def hidden_share(scene: Scene, frame: int) -> float:
    """Share of the face's pixels in the picture that something else hides; 0 where there is no face."""
    face, hidden = scene.covered(frame)
    return float(hidden.sum() / face.sum()) if face.any() else 0.0


def scene_of(clip: Path, head: Path = GENERIC_HEAD) -> Scene:
    """The scene that a clip was rendered from, for its masks (`Scene.covered`).

    Raises:
        InputError: no truth, or one that does not say what was rendered.
    """
    truth = load_truth(truth_path(clip))
    if not truth.spec:
        raise InputError(f"{truth_path(clip)}: does not say what was rendered; make the clip again")
    return build_scene(DemoSpec.from_json(truth.spec), load_head(head))


def render_all(scene: Scene) -> Iterator[np.ndarray]:
    """The clip's frames in order, a few rendered ahead; numba and OpenCV release the interpreter lock."""
    with ThreadPoolExecutor(_THREADS) as pool:
        count = scene.spec.frame_count
        waiting = [pool.submit(scene.picture, frame) for frame in range(min(2 * _THREADS, count))]
        for frame in range(count):
            yield waiting.pop(0).result()
            if frame + 2 * _THREADS < count:
                waiting.append(pool.submit(scene.picture, frame + 2 * _THREADS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stages.demo", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="render a clip with known truth")
    maker.add_argument("clip", type=Path, help="folder that receives video.mp4 and truth.npz")
    maker.add_argument("--frames", type=int, default=DemoSpec.frame_count, help="length of the clip")
    maker.add_argument("--seed", type=int, default=DemoSpec.seed, help="of identity, motion and noise")
    maker.add_argument("--variant", choices=VARIANTS, default="default", help="see `list`")
    scorer = commands.add_parser("score", help="compare a track with the truth")
    scorer.add_argument("clip", type=Path, help="input folder of the clip")
    scorer.add_argument("output", type=Path, help="output folder of the track")
    commands.add_parser("list", help="name the variants")
    given = parser.parse_args(arguments)
    logs.log_to_console()
    try:
        if given.command == "make":
            make(given.clip, variant(given.variant, given.seed, given.frames))
            logger.info(f"{given.clip / 'video.mp4'} and {truth_path(given.clip)} written")
        elif given.command == "list":
            sys.stdout.write("".join(f"{name:<12}{words}\n" for name, (words, _) in VARIANTS.items()))
        else:
            sys.stdout.write(table(score(given.clip, given.output)) + "\n")
    except TrackerError as error:
        logger.error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
