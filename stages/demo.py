"""Clips with known truth: `python -m stages.demo make input/demo`, `… score input/demo output/demo`, `… list`.

A tool beside the stages, not one of them. `make` renders a clip from the generic head and NASA's public-domain portrait
of Eileen Collins, which scikit-image carries, and writes video.mp4 and truth.npz. `score` compares a track with it.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from loguru import logger

from stages import logs
from stages.demo_score import GENERIC_HEAD, score, table, truth_path
from stages.encode import encode_frames
from tracker.command_line import OneLineParser
from tracker.demo.build import build_scene
from tracker.demo.scene import Scene
from tracker.demo.spec import DemoSpec
from tracker.demo.truth import Truth, load_truth, truth_of
from tracker.demo.variants import VARIANTS, variant
from tracker.errors import InputError, TrackerError
from tracker.file_hash import sha256
from tracker.head.store import load_head

_THREADS = 2


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
    truth = truth_of(spec, scene.motion, model.name, sha256(head))
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
    parser = OneLineParser(prog="python -m stages.demo", description=__doc__.splitlines()[0])
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
    logs.log_to_console()
    try:
        given = parser.parse_args(arguments)
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
