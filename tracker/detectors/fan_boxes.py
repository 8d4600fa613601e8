"""Face boxes by face-alignment's detectors, where the weights of one already lie on the machine.

Sources: S3FD (Zhang et al., ICCV 2017), SCRFD (Guo et al., ICLR 2022), YuNet (Wu et al., Machine Intelligence Research
2023).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.detectors.hub import checkpoints_dir
from tracker.errors import InputError
from tracker.onnx_errors import onnx_errors

NAME = "face-alignment"
# Its detectors, best first: module of face_alignment.detection, file that it loads from torch's hub folder. Not among
# them: retinaface (asks for torchvision), dlib (for dlib), blazeface (what FaceMesh itself begins with).
DETECTORS = (
    ("sfd", "s3fd-619a316812.pth"),
    ("scrfd", "scrfd_2.5g_bnkps.onnx"),
    ("yunet", "face_detection_yunet_2023mar.onnx"),
)


@dataclass(frozen=True)
class FoundDetector:
    """One of them that is there.

    Attributes:
        module: its name in face_alignment.detection.
        path: its weights.
    """

    module: str
    path: Path


def find_detector() -> FoundDetector | None:
    """The best detector whose weights are there, or None."""
    found = (FoundDetector(module, checkpoints_dir() / file) for module, file in DETECTORS)
    return next((one for one in found if one.path.is_file()), None)


class FanBoxes:
    """One of face-alignment's detectors on single pictures."""

    name = NAME

    def __init__(self, found: FoundDetector, device: str = "cpu") -> None:
        """Loads the detector from its file; nothing is downloaded.

        Raises:
            InputError: the file is damaged.
        """
        import importlib

        from tracker.safe_pickle import DAMAGE

        module = importlib.import_module(f"face_alignment.detection.{found.module}")
        damage: tuple[type[Exception], ...] = (*DAMAGE, *onnx_errors())
        try:
            self._detector = module.FaceDetector(device=device, path_to_detector=str(found.path))
        except damage as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{found.path}: not readable by face-alignment ({reason}); "
                "get it again, remove it, or set providers.boxes: facemesh"
            ) from error

    def boxes(self, image: np.ndarray) -> list[np.ndarray]:
        """Boxes (4,) xmin, ymin, xmax, ymax of all faces, largest first, as the detector counts pixels.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        found = self._detector.detect_from_image(np.ascontiguousarray(image))
        boxes = [np.asarray(box[:4], np.float64) for box in found]
        return sorted(boxes, key=lambda box: box[0] - box[2])
