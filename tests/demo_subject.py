"""A short demo clip, prepared by the first stages, with checkpoints that hold its truth: a perfect track."""

from pathlib import Path

import cv2
import numpy as np
import torch

from stages import files
from stages.demo import make
from stages.pipeline import run_stages
from stages.subject import Subject
from tracker.config import Config
from tracker.demo.build import build_scene
from tracker.demo.spec import DemoSpec
from tracker.demo.truth import Truth
from tracker.frame_file import TrackRecord, encode_frame
from tracker.head.generic import load_generic
from tracker.head.model import HeadModel
from tracker.shading import rotate_sh
from tracker.state import FrameState, eye_angles

SPEC = DemoSpec(frame_count=8, size=(480, 480), texture_size=1024, blink_seconds=0.3)


def demo_config(folder: Path) -> Config:
    """A config for a demo clip in folder/input."""
    return Config(
        actor=str(folder / "input"),
        save_folder=str(folder / "output"),
        config_name="demo",
        head="generic",
        begin_frames=1,
    )


def demo_subject(folder: Path, spec: DemoSpec = SPEC) -> tuple[Subject, Config, Truth]:
    """Makes the clip and runs the stages frames, crop and landmarks."""
    config = demo_config(folder)
    subject = Subject.of(config)
    truth = make(subject.input_dir, spec)
    run_stages(subject, config, ("frames", "crop", "landmarks"), "cpu", False)
    return subject, config, truth


def true_state(truth: Truth, frame: int, model: HeadModel) -> FrameState:
    """The truth of a frame as the solver would hold it, light in camera axes."""
    params = truth.head_params(frame)
    R = torch.from_numpy(truth.R[frame])
    return FrameState(
        R=R,
        t=torch.from_numpy(truth.t[frame]),
        jaw=params.jaw.double(),
        eyes=eye_angles(params.eyes.double()),
        eyelids=params.eyelids.double(),
        expression=params.expression.double(),
        light=rotate_sh(torch.from_numpy(truth.sh[frame]).double(), R),
    )


def write_true_track(subject: Subject, truth: Truth, spec: DemoSpec = SPEC) -> None:
    """Writes checkpoints, explained pictures and the appearance of a perfect track."""
    model = load_generic()
    crop = subject.load_crop()
    camera = crop.crop_intrinsics(truth.intrinsics)
    for index in subject.frame_indices():
        number = subject.number_of(index) - 1
        state = true_state(truth, number, model)
        frame = encode_frame(model, torch.from_numpy(truth.shape).double(), state, camera, crop.crop_size, index)
        fitted = crop.to_crop(truth.landmarks478_px(model, number))
        detected = subject.load_kpt_dense(index)
        error = float(np.nanmedian(np.linalg.norm(fitted - detected, axis=1)))
        frame["track"] = TrackRecord("ok", error, 0.01, 1.0, fitted, 5, "converged").as_dict()
        files.save_torch(subject.checkpoint_path(index), frame)
        files.write_image(subject.explained_path(index), subject.load_image(index))
    albedo = build_scene(spec, model).atlas[:, : spec.texture_size, :3]
    small = cv2.resize(albedo, (512, 512), interpolation=cv2.INTER_AREA).astype(np.float16)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, albedo=small, valid=np.ones((512, 512), np.float16))

    files.write_atomic(subject.appearance_path, write)
