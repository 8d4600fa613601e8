"""The demo clip with known truth: `python -m stages.demo make input/demo`, `… score input/demo output/demo`.

A tool beside the stages, not one of them. `make` renders a clip from the generic head and NASA's public-domain portrait
of Eileen Collins, which scikit-image carries, and writes video.mp4 and truth.npz. `score` compares a track with it.
"""

import argparse
import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from loguru import logger

from stages import files, logs
from stages.encode import encode_frames
from stages.manifest import ROOT
from stages.subject import Subject
from tracker.camera import Intrinsics
from tracker.demo.motion import make_motion
from tracker.demo.paint import paint_head
from tracker.demo.portrait import Portrait, unwrap
from tracker.demo.scene import Scene, make_scene
from tracker.demo.score import Estimate, relative_rotation_degrees, score_frame
from tracker.demo.spec import DemoSpec
from tracker.demo.truth import Truth, load_truth, truth_of
from tracker.detectors.facemesh import FaceMesh
from tracker.errors import InputError, TrackerError
from tracker.frame_file import extrinsics, head_params, load_frame
from tracker.head.model import HeadModel
from tracker.head.store import load_head
from tracker.texels import Texels

GENERIC_HEAD = ROOT / "assets" / "generic_head.npz"
# Nearly lossless, so that compression is not what a track is measured against.
_CRF = 12
# The part of the portrait with the face, enlarged so that FaceMesh sees it well: rows, columns, factor.
_FACE_ROWS, _FACE_COLUMNS, _FACE_SCALE = slice(0, 280), slice(90, 370), 4
_THREADS = 2


def truth_path(clip: Path) -> Path:
    """Where a clip's truth lies."""
    return clip / "truth.npz"


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
    texture = paint_head(model, texels, unwrap(model, texels, demo_portrait()), spec.seed)
    photograph = skimage.data.rocket().astype(np.float32) / 255
    return make_scene(spec, model, make_motion(spec, model), texture, photograph)


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
    clip.mkdir(parents=True, exist_ok=True)
    frames = logs.progress(render_all(scene), "demo", spec.frame_count)
    encode_frames(frames, spec.size, spec.fps, clip / "video.mp4", _CRF)
    temporary = clip / ("truth.tmp.npz")
    truth.save(temporary)
    os.replace(temporary, truth_path(clip))
    return truth


def render_all(scene: Scene) -> Iterator[np.ndarray]:
    """The clip's frames in order, a few rendered ahead; numba and OpenCV release the interpreter lock."""
    with ThreadPoolExecutor(_THREADS) as pool:
        count = scene.spec.frame_count
        waiting = [pool.submit(scene.picture, frame) for frame in range(min(2 * _THREADS, count))]
        for frame in range(count):
            yield waiting.pop(0).result()
            if frame + 2 * _THREADS < count:
                waiting.append(pool.submit(scene.picture, frame + 2 * _THREADS))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def estimates_of(subject: Subject, model: HeadModel) -> list[Estimate]:
    """What a subject's checkpoints say, carried from the crop to the uncropped video."""
    crop = subject.load_crop()
    found = []
    for index in subject.frame_indices():
        frame = load_frame(subject.checkpoint_path(index))
        R, t, lens = extrinsics(frame)
        detected = subject.load_kpt_dense(index)
        centre = crop.to_source(np.array([[lens.cx_px, lens.cy_px]]))[0]
        found.append(
            Estimate(
                frame=subject.number_of(index) - 1,
                params=head_params(frame, model),
                R=R,
                t=t,
                intrinsics=Intrinsics(lens.focal_px / crop.scale, float(centre[0]), float(centre[1])),
                detected478_px=crop.to_source(detected) if detected.any() else None,
            )
        )
    return found


def score(clip: Path, output: Path, head: Path = GENERIC_HEAD) -> dict[str, float]:
    """Measures a track of a demo clip and writes output/score.json.

    Args:
        clip: the input folder, with truth.npz, crop.json and landmarks.
        output: the output folder, with checkpoint/.
        head: the head model that both the clip and the track were made with.

    Returns:
        The clip's figures: medians and 95th percentiles over frames.

    Raises:
        InputError: another head model, or files that are missing.
    """
    truth = load_truth(truth_path(clip))
    if truth.model_digest != file_digest(head):
        raise InputError(f"{truth_path(clip)}: made with another version of {head.name}; make the clip again")
    model = load_head(head)
    begin, end = _skipped_frames(output)
    estimates = estimates_of(Subject(clip, output, begin, end), model)
    frames = [asdict(score_frame(model, truth, estimate)) for estimate in estimates]
    relative = relative_rotation_degrees(truth, estimates)
    for record, value in zip(frames, relative, strict=True):
        record["relative_rotation_degrees"] = float(value)
    summary = _summary(truth, estimates, frames)
    clean = [{key: value if math.isfinite(value) else None for key, value in record.items()} for record in frames]
    files.write_json(output / "score.json", {"summary": summary, "frames": clean})
    return summary


def _skipped_frames(output: Path) -> tuple[int, int]:
    """begin_frames and end_frames of the run that made the track, from its saved config."""
    from stages.config_file import load_config

    path = Subject(output, output).config_path
    if not path.exists():
        raise InputError(f"{path}: missing; track the demo first: python run_tracking.py --cfg configs/demo.yml")
    config, _ = load_config(path)
    return config.begin_frames, config.end_frames


def _summary(truth: Truth, estimates: Sequence[Estimate], frames: Sequence[dict[str, float]]) -> dict[str, float]:
    summary: dict[str, float] = {"frames_true": len(truth), "frames_tracked": len(frames)}
    for key in (key for key in frames[0] if key != "frame"):
        values = np.array([record[key] for record in frames])
        values = values[np.isfinite(values)]
        if len(values):
            summary[f"{key}_median"] = float(np.median(values))
            summary[f"{key}_p95"] = float(np.percentile(values, 95))
    focal = float(np.median([estimate.intrinsics.focal_px for estimate in estimates]))
    summary["focal_px"] = focal
    summary["focal_error_percent"] = 100 * abs(focal / truth.intrinsics.focal_px - 1)
    return summary


def table(summary: dict[str, float]) -> str:
    """The figures as a table for people."""
    rows = (
        ("vertices, rigidly aligned", "vertex_mm", "mm"),
        ("vertices in camera space", "camera_mm", "mm"),
        ("rotation", "rotation_degrees", "degrees"),
        ("rotation, relative", "relative_rotation_degrees", "degrees"),
        ("landmarks, fitted", "landmark_px", "px"),
        ("landmarks, detected", "detection_px", "px"),
        ("jaw", "jaw_degrees", "degrees"),
        ("gaze", "gaze_degrees", "degrees"),
        ("eyelids", "eyelid", ""),
    )
    lines = [f"{'error against the truth':<28}{'median':>9}{'95 %':>9}"]
    for label, key, unit in rows:
        if f"{key}_median" in summary:
            lines.append(f"{label:<28}{summary[f'{key}_median']:9.2f}{summary[f'{key}_p95']:9.2f} {unit}".rstrip())
    lines.append(f"{'focal length':<28}{summary['focal_error_percent']:9.2f}{'':>9} % ({summary['focal_px']:.0f} px)")
    lines.append(f"{'frames tracked':<28}{summary['frames_tracked']:9.0f}{'':>9} of {summary['frames_true']:.0f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stages.demo", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="render a clip with known truth")
    maker.add_argument("clip", type=Path, help="folder that receives video.mp4 and truth.npz")
    maker.add_argument("--frames", type=int, default=DemoSpec.frame_count, help="length of the clip")
    maker.add_argument("--seed", type=int, default=DemoSpec.seed, help="of identity, motion and noise")
    scorer = commands.add_parser("score", help="compare a track with the truth")
    scorer.add_argument("clip", type=Path, help="input folder of the clip")
    scorer.add_argument("output", type=Path, help="output folder of the track")
    given = parser.parse_args(arguments)
    logs.log_to_console()
    try:
        if given.command == "make":
            make(given.clip, DemoSpec(frame_count=given.frames, seed=given.seed))
            logger.info(f"{given.clip / 'video.mp4'} and {truth_path(given.clip)} written")
        else:
            sys.stdout.write(table(score(given.clip, given.output)) + "\n")
    except TrackerError as error:
        logger.error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
