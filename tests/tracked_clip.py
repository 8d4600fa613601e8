"""A short, small demo clip with a config that calibrates and tracks it in seconds."""

from pathlib import Path

from stages.config_file import load_config
from stages.demo import make
from stages.files import write_text
from stages.subject import Subject
from tracker.config import Config
from tracker.demo.spec import DemoSpec

SPEC = DemoSpec(frame_count=7, size=(320, 320), texture_size=512, blink_seconds=0.3)
# Two pictures are left out at the start, so that indices and numbers differ by three.
BEGIN_FRAMES = 2
TRACKED = SPEC.frame_count - BEGIN_FRAMES
_CONFIG = """actor: input/anna
save_folder: output
head: generic
providers: {landmarks: facemesh478}
begin_frames: 2
image_size: 256
keyframes: [0, 3]
calibration: {frames: 3, rounds: 1, joint_steps: 1, texture_size: 128}
tracking: {samples: 400, levels: 2, steps: 2}
"""


def write_clip(home: Path) -> None:
    """home/input/anna/video.mp4 and home/anna.yml."""
    make(home / "input/anna", SPEC)
    write_text(home / "anna.yml", _CONFIG)


def load_subject(home: Path, *overrides: str) -> tuple[Subject, Config]:
    """Subject and config, with paths that hold from any working directory."""
    paths = (f"actor={home / 'input/anna'}", f"save_folder={home / 'output'}")
    config, _ = load_config(home / "anna.yml", (*paths, *overrides))
    return Subject.of(config), config
