"""MICA on a subject: chooses good frames, encodes them, and writes the common code and what belongs to it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from stages import files
from stages.camera_prior import camera_prior
from stages.subject import Subject
from tracker.config import Config
from tracker.detectors.providers import five_points_provider
from tracker.mica.align import aligned, five_points, network_input
from tracker.mica.checkpoint import load_head_buffers
from tracker.mica.choose import FrameLook, choose_frames, face_sharpness, rate_frames
from tracker.mica.encoder import load_encoder
from tracker.mica.five import FivePointFinder, FivePoints
from tracker.mica.results import head_files, picture_files
from tracker.mica.robust_mean import RobustMean, robust_mean

# Pictures of the chosen frames, in the folder that MICA's demo calls so.
_PICTURES = "arcface"


@dataclass(frozen=True, eq=False)
class MicaResult:
    """What MICA says of a clip.

    Attributes:
        code: (300,) float32 FLAME shape coefficients.
        record: JSON values for identity.json: weights, runtime, frames with pose, points and distance, spread.
    """

    code: np.ndarray
    record: dict[str, Any]


def run_mica(subject: Subject, config: Config, device: str) -> MicaResult | None:
    """Encodes the clip's good frames; None where no frame has a face.

    Writes output/<name>/mica/; the caller writes identity.npy.

    Raises:
        InputError: the weights, a picture or `camera_file` are damaged.
    """
    chosen = _choose(subject, config)
    if not chosen:
        return None
    weights = Path(config.mica_path)
    encoder, note = load_encoder(weights, device)
    if note:
        logger.warning(f"identity: {note}")
    images, fives = [], []
    with FivePointFinder(five_points_provider(config.providers.boxes).weights, device) as finder:
        for look, _ in chosen:
            images.append(subject.load_image(look.index))
            fives.append(finder.of_face(images[-1], subject.load_kpt_dense(look.index)))
    faces = [aligned(image, five.points_px) for image, five in zip(images, fives, strict=True)]
    encodings = encoder.encode([network_input(face) for face in faces])
    mean = robust_mean(np.stack([encoding.shape for encoding in encodings]))
    code = mean.code.astype(np.float32)
    _write(subject, weights, code, [look for look, _ in chosen], (images, fives))
    record = {
        "weights": str(weights),
        "runtime": encoder.runtime,
        "spread": float(np.median(mean.distances)),
        "frames": _frame_records(subject, chosen, fives, mean),
    }
    _report(subject, record)
    return MicaResult(code, record)


def _choose(subject: Subject, config: Config) -> list[tuple[FrameLook, float]]:
    """The frames that MICA is asked about, with their sharpness."""
    points = {index: subject.load_kpt_dense(index) for index in subject.frame_indices()}
    points = {index: found for index, found in points.items() if found.any()}
    # The calibration warns of a bending lens.
    camera = camera_prior(subject, config, warn=False).intrinsics

    def sharpness(index: int) -> float:
        return face_sharpness(aligned(subject.load_image(index), five_points(points[index])))

    return choose_frames(rate_frames(points, camera), config.mica_frames, sharpness)


def _write(
    subject: Subject,
    weights: Path,
    code: np.ndarray,
    looks: list[FrameLook],
    seen: tuple[list[np.ndarray], list[FivePoints]],
) -> None:
    """Writes output/<name>/mica/."""
    head = load_head_buffers(weights)
    if head is None:
        logger.warning(f"identity: {weights} carries no FLAME head; mica/ gets no mesh and no landmarks")
    for name, data in head_files(code, head).items():
        files.write_bytes(subject.mica_dir / name, data)
    for look, image, five in zip(looks, *seen, strict=True):
        for name, data in picture_files(
            subject.image_path(subject.number_of(look.index)).stem, image, five.points_px
        ).items():
            files.write_bytes(subject.mica_dir / _PICTURES / name, data)


def _frame_records(
    subject: Subject, chosen: list[tuple[FrameLook, float]], fives: list[FivePoints], mean: RobustMean
) -> list[dict[str, Any]]:
    """A dict a frame: picture number, look, sharpness, source of its points, distance from the others, left out."""
    return [
        {
            **asdict(look),
            "picture": subject.image_path(subject.number_of(look.index)).name,
            "sharpness": sharpness,
            "points": five.source,
            "distance": float(distance),
            "left_out": bool(outlier),
        }
        for (look, sharpness), five, distance, outlier in zip(chosen, fives, mean.distances, mean.outliers, strict=True)
    ]


def _report(subject: Subject, record: dict[str, Any]) -> None:
    """Says which frames were taken and which of them stood apart."""
    frames = record["frames"]
    sources = sorted({frame["points"] for frame in frames})
    listed = ", ".join(f"{one['picture']} (yaw {one['yaw_deg']:.0f}, pitch {one['pitch_deg']:.0f})" for one in frames)
    logger.info(
        f"identity: MICA by {record['runtime']} on {len(frames)} frames, points by {', '.join(sources)}: {listed}; "
        f"their codes lie {record['spread']:.3f} from the common one"
    )
    apart = [f"{frame['picture']} ({frame['distance']:.3f})" for frame in frames if frame["left_out"]]
    if apart:
        logger.warning(
            f"identity: the codes of {', '.join(apart)} stand apart and were left out; look at {subject.mica_dir}"
        )
