"""The record of a demo clip's true parameters, and the measures of a track against it."""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracker.camera import Intrinsics
from tracker.demo.motion import Motion
from tracker.demo.spec import DemoSpec
from tracker.errors import InputError
from tracker.head.model import HeadModel, HeadParams, embed
from tracker.npz import DAMAGE, arrays_of, one_line


@dataclass(frozen=True, eq=False)
class Truth:
    """True parameters of N frames of the uncropped video. Vertices follow from them and the head model.

    Attributes:
        model_name: the head model's name.
        model_digest: SHA-256 of the head model's file; vertices of another file would be other vertices.
        fps: frames a second.
        size: (2,) height and width of the video.
        K: (3, 3) calibration matrix, pixels of the video.
        R: (N, 3, 3) head to camera, OpenCV axes.
        t: (N, 3) metres.
        shape: (S,).
        expression: (N, E).
        jaw: (N, 3, 3).
        eyes: (N, 2, 3, 3).
        eyelids: (N, 2).
        sh: (N, 9, 3) light in head space.
        hidden: (N,) share of the face's pixels that something else hides; empty where nothing can.
        spec: the clip's `DemoSpec` as JSON, from which `tracker.demo.scene` makes the masks again; empty in old files.
    """

    model_name: str
    model_digest: str
    fps: float
    size: np.ndarray
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    eyes: np.ndarray
    eyelids: np.ndarray
    sh: np.ndarray
    hidden: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    spec: str = ""

    def __len__(self) -> int:
        return len(self.R)

    @property
    def intrinsics(self) -> Intrinsics:
        """Camera of the video."""
        return Intrinsics(float(self.K[0, 0]), float(self.K[0, 2]), float(self.K[1, 2]))

    def head_params(self, frame: int) -> HeadParams:
        """Head parameters of a frame, float32."""
        per_frame = (self.expression[frame], self.jaw[frame], self.eyes[frame], self.eyelids[frame])
        return HeadParams(*(torch.from_numpy(np.asarray(value, np.float32)) for value in (self.shape, *per_frame)))

    def landmarks478_px(self, model: HeadModel, frame: int) -> np.ndarray:
        """(478, 2) true landmarks in pixels of the video; NaN where the model has no such point."""
        vertices = model.vertices(self.head_params(frame))
        points = embed(model.landmarks478.faces, model.landmarks478.bary, model.triangles, vertices).numpy()
        camera = points @ self.R[frame].T + self.t[frame]
        pixels = np.full((478, 2), np.nan)
        centre = [self.K[0, 2], self.K[1, 2]]
        pixels[model.landmarks478.indices.numpy()] = self.K[0, 0] * camera[:, :2] / camera[:, 2:] + centre
        return pixels

    def inside(self, model: HeadModel) -> np.ndarray:
        """(N,) share of the face's vertices that fall into the picture, whatever hides them."""
        face = model.regions["face"] if "face" in model.regions else torch.arange(model.vertex_count)
        shares = []
        for frame in range(len(self)):
            vertices = model.vertices(self.head_params(frame))[face].numpy()
            camera = vertices @ self.R[frame].T + self.t[frame]
            pixels = camera[:, :2] / camera[:, 2:] * self.K[0, 0] + self.K[:2, 2]
            shares.append(((pixels >= 0) & (pixels < self.size[::-1])).all(1).mean())
        return np.array(shares)

    def save(self, path: Path) -> None:
        """Writes the npz."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})


def truth_of(spec: DemoSpec, motion: Motion, model_name: str, model_digest: str) -> Truth:
    """The record of a clip about to be rendered."""
    height, width = spec.size
    count = spec.frame_count
    params = [motion.head_params(frame) for frame in range(count)]
    return Truth(
        model_name=model_name,
        model_digest=model_digest,
        fps=spec.fps,
        size=np.array(spec.size),
        K=Intrinsics(spec.focal_px, width / 2, height / 2).matrix(),
        R=motion.R.numpy(),
        t=motion.t.numpy(),
        shape=motion.shape.numpy().astype(np.float32),
        expression=torch.stack([p.expression for p in params]).numpy(),
        jaw=torch.stack([p.jaw for p in params]).numpy(),
        eyes=torch.stack([p.eyes for p in params]).numpy(),
        eyelids=torch.stack([p.eyelids for p in params]).numpy(),
        sh=torch.stack([motion.light_head(frame) for frame in range(count)]).numpy().astype(np.float32),
        spec=spec.to_json(),
    )


def load_truth(path: Path) -> Truth:
    """Reads a record.

    Raises:
        InputError: missing or damaged.
    """
    try:
        found = arrays_of(path)
        # Clips made before a field with a default was thought of lack it.
        needed = [f.name for f in fields(Truth) if f.name in found or f.default_factory is f.default is MISSING]
        data: dict[str, Any] = {name: found[name] for name in needed}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no truth; make the clip with `python -m stages.demo make`") from error
    except DAMAGE as error:
        raise InputError(f"{path}: not a demo clip's truth ({one_line(error)}); make the clip again") from error
    data |= {
        "model_name": str(data["model_name"]),
        "model_digest": str(data["model_digest"]),
        "fps": float(data["fps"]),
        "spec": str(data.get("spec", "")),
    }
    return Truth(**data)
