"""Records that stages hand on through the subject directory: the crop's geometry, the landmarks' providers."""

from dataclasses import dataclass

import numpy as np

from tracker.camera import Intrinsics


@dataclass(frozen=True)
class Crop:
    """How images/ were cut from source/.

    Attributes:
        box_px: (xmin, xmax, ymin, ymax) in source pixels, as bbox.pt holds them; None for the whole frame.
        box_from: 'landmarks', 'user' or 'whole frame'.
        source_to_crop: (2, 3) affine map of continuous source pixels to continuous crop pixels.
        source_size: (height, width) of source/ pictures.
        crop_size: (height, width) of images/ pictures.
    """

    box_px: tuple[int, int, int, int] | None
    box_from: str
    source_to_crop: np.ndarray
    source_size: tuple[int, int]
    crop_size: tuple[int, int]

    def __post_init__(self) -> None:
        """Checks the affine map's shape."""
        if self.source_to_crop.shape != (2, 3):
            raise ValueError(f"source_to_crop: expected (2, 3), found {self.source_to_crop.shape}")

    @property
    def scale(self) -> float:
        """Crop pixels per source pixel."""
        return float(self.source_to_crop[0, 0])

    def to_crop(self, points_source_px: np.ndarray) -> np.ndarray:
        """(N, 2) continuous source pixels to continuous crop pixels."""
        return points_source_px @ self.source_to_crop[:, :2].T + self.source_to_crop[:, 2]

    def to_source(self, points_crop_px: np.ndarray) -> np.ndarray:
        """(N, 2) continuous crop pixels to continuous source pixels."""
        return (points_crop_px - self.source_to_crop[:, 2]) @ np.linalg.inv(self.source_to_crop[:, :2]).T

    def full_frame_intrinsics(self, crop: Intrinsics) -> Intrinsics:
        """The camera of the uncropped source picture, from that of the crop; R and t are the same for both."""
        centre = self.to_source(np.array([[crop.cx_px, crop.cy_px]]))[0]
        return Intrinsics(crop.focal_px / self.scale, float(centre[0]), float(centre[1]))

    def crop_intrinsics(self, full_frame: Intrinsics) -> Intrinsics:
        """Inverse of `full_frame_intrinsics`."""
        centre = self.to_crop(np.array([[full_frame.cx_px, full_frame.cy_px]]))[0]
        return Intrinsics(full_frame.focal_px * self.scale, float(centre[0]), float(centre[1]))


@dataclass(frozen=True)
class Providers:
    """Where the landmarks came from.

    Attributes:
        dense: name of the 478-point detector.
        sparse: 'fan' or 'facemesh478', the source of the 68 points.
        present: for each picture, in order of number, whether a face was found.
        found_by: for each picture the way the face was found: 'tracking', 'near', 'mesh', 'insightface',
            'face-alignment', 'detector', 'tiles', '' for none.
    """

    dense: str
    sparse: str
    present: tuple[bool, ...]
    found_by: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Number of pictures without a face."""
        return self.present.count(False)
