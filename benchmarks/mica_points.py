"""How far FaceMesh's five points align a face from where others do: `python -m benchmarks.mica_points CLIP…`.

CLIP is a folder with images/ (a subject's) or video.mp4, and maybe truth.npz (lmk68: 68 true points a frame, metres,
camera axes; ../shared/clips/truth_e). The points of `tracker.mica.align`, and those with irises for eyes, are compared
with the true eye centres, nose tip and mouth corners, with MICA's rule for 68 points on the true points, and with SCRFD
where it is on the machine. Printed are medians, in pixels of the 112 that ArcFace sees.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stages.files import list_images
from tracker.camera import to_cv2_pixels
from tracker.detectors.facemesh import FaceMesh
from tracker.detectors.scrfd import find_scrfd
from tracker.mica.align import REFERENCE_112, five_points, similarity
from tracker.mica.five import FivePointFinder

EVERY = 3
_CENTRE_112 = np.array([56.0, 72.0])
_IRISES = (468, 473)
# Eye rings, nose tip, mouth corners of the iBUG points.
_TRUE = (range(36, 42), range(42, 48), (30,), (48,), (54,))


def pictures(clip: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Number from 0 and RGB picture of every third frame: of images/ where it is there, else of video.mp4."""
    paths = list_images(clip / "images")
    for number in range(0, len(paths), EVERY):
        yield number, cv2.cvtColor(cv2.imread(str(paths[number])), cv2.COLOR_BGR2RGB)
    if paths:
        return
    capture = cv2.VideoCapture(str(clip / "video.mp4"))
    number = 0
    while (read := capture.read())[0]:
        if number % EVERY == 0:
            yield number, cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        number += 1
    capture.release()


def true_points(clip: Path) -> np.ndarray | None:
    """(frames, 68, 2) continuous pixels, or None."""
    path = clip / "truth.npz"
    if not path.is_file():
        return None
    with np.load(path) as truth:
        projected = truth["lmk68"].astype(np.float64) @ truth["K"].T
    return projected[..., :2] / projected[..., 2:]


def five_of_all(clip: Path) -> dict[str, list[np.ndarray]]:
    """Name of a rule to its five points, frame by frame."""
    truth, scrfd = true_points(clip), find_scrfd()
    found: dict[str, list[np.ndarray]] = {}
    with FaceMesh(1, tracking=True) as mesh, FivePointFinder(scrfd) as finder:
        for number, image in pictures(clip):
            faces = mesh.faces(image)
            if not faces:
                continue
            dense = faces[0].points_px
            ours = five_points(dense)
            fives = {"lids": ours, "irises": np.concatenate([dense[list(_IRISES)], ours[2:]])}
            if truth is not None:
                fives["truth"] = np.stack([truth[number][list(ids)].mean(0) for ids in _TRUE])
                fives["MICA's rule for 68"] = five_points(truth[number])
            if scrfd is not None:
                fives["SCRFD"] = finder.of_face(image, dense).points_px
            for name, five in fives.items():
                found.setdefault(name, []).append(five)
    return found


def difference(five: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How the two align: distance of the five points (5), shift at the face's centre, scale in %, turn in degrees."""
    a, b = (similarity(to_cv2_pixels(points), REFERENCE_112) for points in (five, other))
    points = np.linalg.norm((five - other) @ b[:, :2].T, axis=1)
    source = np.linalg.solve(b[:, :2], _CENTRE_112 - b[:, 2])
    shift = np.linalg.norm(a[:, :2] @ source + a[:, 2] - _CENTRE_112)
    scale = abs(np.hypot(*a[:, 0]) / np.hypot(*b[:, 0]) - 1) * 100
    turn = abs(np.degrees(np.arctan2(a[1, 0], a[0, 0]) - np.arctan2(b[1, 0], b[0, 0])))
    return np.array([*points, shift, scale, turn])


def main(arguments: list[str]) -> None:
    """Prints a line for each pair of rules."""
    for clip in map(Path, arguments):
        found = five_of_all(clip)
        for name in ("lids", "irises"):
            for other in [key for key in found if key not in ("lids", name)]:
                pairs = zip(found[name], found[other], strict=True)
                values = np.median([difference(a, b) for a, b in pairs], axis=0)
                points = " ".join(f"{value:.2f}" for value in values[:5])
                print(
                    f"{clip.name}, {len(found[name])} frames, {name} against {other}: points {points} px, "
                    f"shift {values[5]:.2f} px, scale {values[6]:.2f} %, turn {values[7]:.2f} degrees"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
