"""Faces and their five points by insightface's SCRFD, where one of its packs already lies on the machine.

Source: Guo et al., Sample and Computation Redistribution for Efficient Face Detection, ICLR 2022.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tracker.camera import from_cv2_pixels
from tracker.errors import InputError
from tracker.onnx_errors import onnx_errors

NAME = "insightface"
_REMEDY = "get the pack again, remove it, or set providers.boxes: facemesh"
# The packs whose detector gives five points, best first: pack, file of the detector. MICA was made with the first.
PACKS = (("antelopev2", "scrfd_10g_bnkps.onnx"), ("buffalo_l", "det_10g.onnx"))
# Side of the picture that the detector sees, pixels: insightface's own, for faces of any size in whole frames.
WHOLE_FRAME_PX = 640
_CONFIDENCE = 0.5


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """One face in one picture.

    Attributes:
        box_px: (4,) float64 xmin, ymin, xmax, ymax, continuous pixels.
        score: 0 to 1.
        five_px: (5, 2) float64 continuous pixels, in ArcFace's order (`tracker.mica.align`); None from a detector
            without points.
    """

    box_px: np.ndarray
    score: float
    five_px: np.ndarray | None


def models_dir() -> Path:
    """Where insightface keeps its packs."""
    return Path("~/.insightface/models").expanduser()


def candidates() -> list[Path]:
    """Every place where a pack's detector may lie; antelopev2's archive has a folder of its name inside."""
    return [folder / file for pack, file in PACKS for folder in (models_dir() / pack, models_dir() / pack / pack)]


def find_scrfd() -> Path | None:
    """The detector's file, or None."""
    return next((path for path in candidates() if path.is_file()), None)


class Scrfd:
    """insightface's detector on single pictures."""

    name = NAME

    def __init__(self, path: Path, side_px: int = WHOLE_FRAME_PX, device: str = "cpu") -> None:
        """Loads the detector.

        Args:
            path: its .onnx file.
            side_px: pictures are shrunk to this square first, unless the file fixes its size.
            device: 'cuda' asks for it; the CPU takes over where onnxruntime has none.

        Raises:
            InputError: the file is no detector, or damaged.
        """
        # It says on the console which providers it applies.
        with contextlib.redirect_stdout(io.StringIO()):
            import onnxruntime
            from insightface.model_zoo import get_model

            damage: tuple[type[Exception], ...] = (*onnx_errors(), AssertionError)
            wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
            providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
            try:
                model = get_model(str(path), providers=[*providers, "CPUExecutionProvider"])
            except damage as error:
                reason = " ".join(str(error).split())[:200] or "not a model of its own"
                raise InputError(f"{path}: not readable by insightface ({reason}); {_REMEDY}") from error
            if getattr(model, "taskname", "") != "detection":
                raise InputError(f"{path}: insightface finds no face detector in it; {_REMEDY}")
            model.prepare(0 if providers else -1, input_size=(side_px, side_px), det_thresh=_CONFIDENCE)
        self._model = model

    def faces(self, image: np.ndarray) -> list[DetectedFace]:
        """All faces of a picture, in no particular order.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        boxes, points = self._model.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        boxes = np.asarray(boxes, np.float64)
        fives = [None] * len(boxes) if points is None else from_cv2_pixels(np.asarray(points, np.float64))
        return [
            DetectedFace(from_cv2_pixels(box[:4]), float(box[4]), five) for box, five in zip(boxes, fives, strict=True)
        ]

    def boxes(self, image: np.ndarray) -> list[np.ndarray]:
        """Boxes (4,) xmin, ymin, xmax, ymax of all faces, largest first."""
        return sorted((face.box_px for face in self.faces(image)), key=lambda box: box[0] - box[2])
