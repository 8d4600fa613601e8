"""Stage calibration: identity, camera, landmark offsets, light and appearance of the clip, from a few frames."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger

from stages import files
from stages.camera_prior import camera_files, camera_prior, prior_config
from stages.clip_files import (
    OBSERVED_LOG_STD,
    CalibrationRecord,
    calibrated_landmarks,
    frame_input,
    has_sparse,
    picture_inputs,
)
from stages.context import StageContext
from stages.subject import Subject
from tracker.calibrate import (
    Calibration,
    first_states,
    refine,
    solve_appearance,
    solve_geometry,
)
from tracker.camera import Intrinsics
from tracker.clip import FrameInput, held_unknowns
from tracker.config import Config
from tracker.detectors.segmentation import PersonMatte
from tracker.errors import InputError, SubjectError
from tracker.frame_solver import FrameSolver
from tracker.head.model import HeadModel
from tracker.head_choice import head_name, load_head_model, model_files
from tracker.image import pyramid
from tracker.joint_problem import CalibrationTask, CameraPrior
from tracker.landmark_set import COUNT, LandmarkSet, apertures, is_detected
from tracker.mesh_files import canonical_vertices, obj_text
from tracker.overlay import draw_landmarks
from tracker.pose import rough_direction, spread_frames
from tracker.residuals.projection import project_state
from tracker.shut_lids import shut_frames
from tracker.state import FrameState
from tracker.texture import bake_texture
from tracker.threads import on_threads
from tracker.track import Past, track_frame

NAME = "calibration"
RESUMES = False

# With at least this many calibration frames, two of them are the blink and the widest mouth.
_WITH_EXTREMES = 6


def config_part(config: Config) -> dict[str, Any]:
    """Head model, keyframes, camera, energy without flow, calibration, sampling."""
    return {
        "head": head_name(config),
        "num_shape_params": config.num_shape_params,
        "num_exp_params": config.num_exp_params,
        "begin_frames": config.begin_frames,
        "end_frames": config.end_frames,
        "keyframes": list(config.keyframes),
        "optimize_shape": config.optimize_shape,
        "optimize_jaw": config.optimize_jaw,
        **prior_config(config),
        "energy": config.energy.model_dump(exclude={"flow_weight", "flow_always"}),
        "calibration": config.calibration.model_dump(),
        "tracking": config.tracking.model_dump(exclude={"batch"}),
    }


def inputs(subject: Subject, config: Config) -> list[Path]:
    """Pictures, landmarks, crop, identity, the camera's file if it is there, and the head model's files."""
    return [
        *picture_inputs(subject),
        subject.identity_record_path,
        *camera_files(config),
        *model_files(config),
    ]


def outputs(subject: Subject, config: Config) -> list[Path]:
    """The record, the appearance, the canonical head and the pictures of the solve."""
    return [
        subject.calibration_path,
        subject.appearance_path,
        subject.canonical_path,
        subject.camera_dir,
        subject.initialization_dir,
        subject.pyramid_dir,
    ]


def run(subject: Subject, config: Config, context: StageContext) -> None:
    """Calibrates the clip.

    Raises:
        InputError: a keyframe beyond the clip, or a damaged file, the camera's included.
        SubjectError: no frame with a face is left after begin_frames and end_frames.
    """
    model = load_head_model(config)
    logger.info(
        f"calibration: head model {model.name} ({model_files(config)[0]}), {model.shape_count} identity and "
        f"{model.expression_count} expression modes, {len(model.landmarks478)} landmarks"
    )
    for note in model.notes:
        logger.warning(f"head model: {note}")
    landmarks = calibrated_landmarks(subject, config, model)
    camera = camera_prior(subject, config)
    clip = _overview(subject, landmarks, camera)
    chosen = _choose_frames(subject, config, clip, config.calibration.frames)
    frames = _frames(subject, config, chosen)
    task = _task(subject, config, (model, landmarks), frames, camera)
    pictures = _Pictures(subject, landmarks, frames, chosen)
    rest = landmarks.template.with_shape(_start_shape(task)).moved(landmarks.offset_mean_m)
    pictures.show(0, rest, first_states(task, rest.rest), camera.intrinsics)
    geometry = solve_geometry(task)
    state = geometry.state
    points = landmarks.template.with_shape(state.shape).moved(geometry.offsets_m)
    pictures.show(1, points, state.frames, state.intrinsics)
    calibration = solve_appearance(task, geometry)
    if config.calibration.refine_frames:
        wanted = len(chosen) + config.calibration.refine_frames
        further = [index for index in _choose_frames(subject, config, clip, wanted) if index not in chosen]
        more = _frames(subject, config, further)
        calibration = refine(task, calibration, more)
        chosen, frames = chosen + further, frames + more
    if len(calibration.kept) < len(chosen):
        dropped = sorted(set(chosen) - {chosen[place] for place in calibration.kept})
        logger.info(f"calibration: frames {dropped} left out, the others' appearance does not explain them")
    if calibration.kept != tuple(range(len(task.frames))):
        chosen = [chosen[place] for place in calibration.kept]
        frames = tuple(frames[place] for place in calibration.kept)
        task, pictures = replace(task, frames=frames), _Pictures(subject, landmarks, frames, chosen)
    pictures.show(2, points, calibration.states, state.intrinsics, keyframes=True)
    for level, picture in enumerate(pyramid(frames[0].image, config.tracking.levels)):
        rounded = (picture.pixels.numpy() * 255).round().astype(np.uint8)
        files.write_image(subject.pyramid_dir / f"{level}.png", rounded)
    shut = _shut_lids(subject, config, task, calibration, shut_frames(clip.eyes, chosen))
    _write(subject, config, task, calibration, chosen, shut)
    _report(subject, calibration, task, context)


@dataclass(frozen=True, eq=False)
class _Overview:
    """What the landmarks say of all N frames.

    Attributes:
        usable: (N,) bool, a face was found.
        directions: (N, 2) yaw and pitch of the face, radians; zero without one.
        eyes: (N,) opening of the eyes in inter-ocular distances, infinite without a face.
        mouth: (N,) opening of the lips, negative infinity without a face.
    """

    usable: np.ndarray
    directions: np.ndarray
    eyes: np.ndarray
    mouth: np.ndarray


def _overview(subject: Subject, landmarks: LandmarkSet, camera: CameraPrior) -> _Overview:
    rest = landmarks.template.points.rest[: len(landmarks.dense)].numpy()
    points = landmarks.dense.numpy()

    def look(index: int) -> tuple[bool, tuple[float, float], float, float]:
        dense = subject.load_kpt_dense(index)
        if not is_detected(dense):
            return False, (0.0, 0.0), np.inf, -np.inf
        return True, rough_direction(rest, dense[points], camera.intrinsics), *apertures(dense)

    columns = zip(*on_threads(look, subject.frame_indices()), strict=True)
    return _Overview(*(np.array(column) for column in columns))


def _choose_frames(subject: Subject, config: Config, clip: _Overview, count: int) -> list[int]:
    """The calibration frames: the configured keyframes, filled up with others spread in yaw and pitch.

    Raises:
        InputError: a keyframe beyond the clip.
        SubjectError: no face in any frame.
    """
    last = len(clip.usable) - 1
    beyond = [index for index in config.keyframes if index > last]
    if beyond:
        raise InputError(f"keyframes: {beyond[0]} is beyond the last frame {last} of {subject.images_dir}")
    if not clip.usable.any():
        raise SubjectError(
            f"{subject.kpt_dense_dir}: no face in the frames that are left; lower begin_frames, end_frames"
        )
    dropped = [index for index in config.keyframes if not clip.usable[index]]
    if dropped:
        logger.warning(f"keyframes: no face in {dropped}; left out of the calibration")
    first = list(config.keyframes)
    if config.calibration.frames >= _WITH_EXTREMES:
        # Closed lids and an open mouth show skin that no other frame shows.
        first += [index for index in (int(clip.eyes.argmin()), int(clip.mouth.argmax())) if index not in first]
    return spread_frames(clip.directions, clip.usable, first, count)


def _shut_lids(
    subject: Subject, config: Config, task: CalibrationTask, calibration: Calibration, further: list[int]
) -> list[tuple[FrameInput, FrameState]]:
    """Further frames, which have shut lids, and their states, each solved on its own; for the appearance alone."""
    solver = FrameSolver(calibration.clip, config.energy, config.tracking, task.held)
    found = []
    for index in further:
        frame = frame_input(subject, index, has_sparse(subject))
        tracked = track_frame(solver, frame, Past(None, None, ""))
        if tracked.status == "ok":
            found.append((frame, tracked.state))
    return found


def _frames(subject: Subject, config: Config, indices: list[int]) -> tuple[FrameInput, ...]:
    """Pictures and landmarks of some frames, with mattes where the outline counts."""
    frames = tuple(frame_input(subject, index, has_sparse(subject)) for index in indices)
    if config.calibration.contour_weight == 0:
        return frames
    with PersonMatte() as segmentation:
        return tuple(replace(frame, matte=segmentation.matte(frame.image)) for frame in frames)


def _task(
    subject: Subject,
    config: Config,
    head: tuple[HeadModel, LandmarkSet],
    frames: tuple[FrameInput, ...],
    camera: CameraPrior,
) -> CalibrationTask:
    model, landmarks = head
    record = files.read_json(subject.identity_record_path)
    given = record["shape"]
    shape = None if given is None else _given_shape(given, model.shape_count)
    return CalibrationTask(
        model=model,
        landmarks=landmarks,
        frames=frames,
        camera=camera,
        shape=shape,
        # Without a given code there is nothing to keep: the identity is fitted whatever the config says.
        optimize_shape=config.optimize_shape or shape is None,
        held=held_unknowns(model, config.optimize_jaw),
        energy=config.energy,
        settings=config.calibration,
        tracking=config.tracking,
    )


def _given_shape(given: list[float], modes: int) -> torch.Tensor:
    """The part of an identity code that a model with fewer modes takes, and a log line of what it leaves."""
    if len(given) > modes:
        logger.info(f"calibration: {modes} of the {len(given)} values of the identity code apply")
    return torch.tensor(given[:modes], dtype=torch.float64)


def _start_shape(task: CalibrationTask) -> torch.Tensor:
    zero = torch.zeros(task.model.shape_count, dtype=torch.float64)
    return zero if task.shape is None else task.shape


class _Pictures:
    """camera/ and initialization/: fitted landmarks over the calibration frames as the solve goes on."""

    def __init__(
        self, subject: Subject, landmarks: LandmarkSet, frames: tuple[FrameInput, ...], chosen: list[int]
    ) -> None:
        self._subject = subject
        self._dense = landmarks.dense.numpy()
        self._frames = frames
        self._chosen = chosen

    def show(
        self, step: int, points: Any, states: tuple[FrameState, ...], intrinsics: Intrinsics, keyframes: bool = False
    ) -> None:
        """Draws the first frame of a step, and with `keyframes` every calibration frame."""
        for place, (frame, state) in enumerate(zip(self._frames, states, strict=True)):
            if place and not keyframes:
                break
            fitted = np.full((COUNT, 2), np.nan)
            fitted[self._dense] = project_state(points, state, intrinsics)[: len(self._dense)].numpy()
            picture = draw_landmarks(frame.image, frame.dense_px, fitted)
            if place == 0:
                files.write_image(self._subject.camera_dir / f"{step:05d}.jpg", picture)
            if keyframes:
                files.write_image(self._subject.initialization_dir / f"{self._chosen[place]:05d}.jpg", picture)


def _write(
    subject: Subject,
    config: Config,
    task: CalibrationTask,
    calibration: Calibration,
    chosen: list[int],
    shut: list[tuple[FrameInput, FrameState]],
) -> None:
    clip, geometry = calibration.clip, calibration.geometry
    camera = clip.intrinsics
    pictures, states = (*task.frames, *(one for one, _ in shut)), (*calibration.states, *(state for _, state in shut))
    texture = bake_texture(clip, pictures, states, config.calibration.texture_size)
    arrays = {"albedo": texture.albedo, "valid": texture.valid}
    if texture.shut is not None:
        arrays |= {"shut_albedo": texture.shut.albedo, "shut_mask": texture.shut.mask}

    def write_texture(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **{name: values.astype(np.float16) for name, values in arrays.items()})

    files.write_atomic(subject.appearance_path, write_texture)
    vertices = canonical_vertices(clip.model, clip.shape.float()).numpy()
    files.write_text(subject.canonical_path, obj_text(clip.model, vertices))
    CalibrationRecord(
        shape=clip.shape.numpy(),
        camera=np.array([camera.focal_px, camera.cx_px, camera.cy_px]),
        camera_prior=np.array([task.camera.focal_px, task.camera.focal_log_std]),
        log_focal_std=np.array(calibration.log_focal_std),
        offsets_m=calibration.offsets_m.numpy(),
        contrast=clip.contrast.numpy(),
        albedo=clip.albedo.numpy(),
        seen=clip.seen.numpy(),
        light=clip.light.numpy(),
        depth_m=np.array(clip.depth_m),
        light_own=np.zeros((0, 8), np.float32) if clip.response is None else clip.response.own.numpy(),
        light_around=np.zeros((0, 8), np.float32) if clip.response is None else clip.response.around.numpy(),
        frames=np.array(chosen),
        reprojection_px=np.array(geometry.reprojection_px),
        photometric_l1=np.array(calibration.photometric_l1),
    ).save(subject.calibration_path)


def _report(subject: Subject, calibration: Calibration, task: CalibrationTask, context: StageContext) -> None:
    """Log lines, TensorBoard scalars and notes of the solve."""
    geometry, camera = calibration.geometry, calibration.clip.intrinsics
    full = subject.load_crop().full_frame_intrinsics(camera)
    spread = calibration.log_focal_std
    logger.info(
        f"calibration: {len(task.frames)} frames, landmark solve {geometry.outcome.status} after "
        f"{geometry.outcome.steps} steps, median error {geometry.reprojection_px:.2f} px, "
        f"colour L1 {calibration.photometric_l1:.4f}"
    )
    if task.camera.focal_log_std == 0:
        logger.info(f"calibration: focal length {full.focal_px:.0f} px of the full picture, as given")
    else:
        low, high = full.focal_px * np.exp(-2 * spread), full.focal_px * np.exp(2 * spread)
        said = "" if spread < OBSERVED_LOG_STD else "; the clip hardly tells it"
        logger.info(f"calibration: focal length {full.focal_px:.0f} px (95 %: {low:.0f} to {high:.0f}){said}")
    with context.scalars() as writer:
        for step, cost in enumerate(geometry.outcome.costs):
            writer.add_scalar("calibration/cost", cost, step)
        writer.add_scalar("calibration/reprojection_px", geometry.reprojection_px, 0)
        writer.add_scalar("calibration/photometric_l1", calibration.photometric_l1, 0)
        writer.add_scalar("calibration/focal_px", full.focal_px, 0)
    context.notes.update(frames=len(task.frames), reprojection_px=round(geometry.reprojection_px, 3))
