"""The 68 iBUG points by face-alignment's 2D FAN, where its weights already lie on the machine; nothing is downloaded.

Source: Bulat and Tzimiropoulos, How far are we from solving the 2D & 3D face alignment problem, ICCV 2017.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tracker.camera import from_cv2_pixels
from tracker.detectors.facemesh import Face
from tracker.detectors.hub import checkpoints_dir
from tracker.errors import InputError

# Name under which face-alignment 1.5 keeps its weights in torch's hub folder.
WEIGHTS_NAME = "2DFAN4-11f355bf06.pth.tar"
# FAN scales its input by the box of its usual detector (S3FD), whose mean side it calls 195.
_REFERENCE_SCALE = 195


def weights_path() -> Path:
    """Where face-alignment looks for its weights."""
    return checkpoints_dir() / WEIGHTS_NAME


class Fan:
    """2D FAN on faces that FaceMesh found."""

    def __init__(self, device: str) -> None:
        """Loads the network.

        Args:
            device: 'cpu' or 'cuda'.

        Raises:
            InputError: the weights are not on this machine, or damaged.
        """
        if not weights_path().is_file():
            raise InputError(f"{weights_path()} is missing; put face-alignment's weights there")
        from face_alignment import FaceAlignment, LandmarksType

        from tracker.safe_pickle import DAMAGE

        try:
            # The detector named here is never asked; 'folder' is the one that loads no weights of its own.
            self._net = FaceAlignment(LandmarksType.TWO_D, device=device, face_detector="folder", compile=False)
        except DAMAGE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{weights_path()}: not readable by face-alignment ({reason}); "
                "get it again, remove it, or set providers.landmarks: facemesh478"
            ) from error
        self._net.face_detector = SimpleNamespace(reference_scale=_REFERENCE_SCALE)

    def points(self, image: np.ndarray, face: Face) -> np.ndarray:
        """The 68 points of one face.

        Args:
            image: (H, W, 3) uint8 RGB.
            face: the face, by its 478 points.

        Returns:
            (68, 2) float64, continuous pixels.
        """
        found = self._net.get_landmarks_from_image(image, detected_faces=[face.box_px])
        return from_cv2_pixels(np.asarray(found[0], np.float64))
