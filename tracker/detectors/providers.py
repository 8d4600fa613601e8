"""Which detectors `providers: auto` stands for on this machine, and where they were looked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tracker.detectors import fan, fan_boxes, scrfd
from tracker.detectors.finder import BoxDetector
from tracker.detectors.hub import checkpoints_dir
from tracker.errors import InputError

Found = TypeVar("Found")

AUTO = "auto"
LANDMARKS_478, BOXES_FACEMESH = "facemesh478", "facemesh"
FAN = "fan"


@dataclass(frozen=True)
class Provider:
    """A detector that was chosen.

    Attributes:
        name: as the config names it.
        reason: what was found where, or what was missing where; for the log.
        weights: the file that it loads; None where the weights come with mediapipe.
    """

    name: str
    reason: str
    weights: Path | None = None

    @property
    def files(self) -> list[Path]:
        """Its weights, or nothing: what a stage that uses it depends on."""
        return [] if self.weights is None else [self.weights]


def landmarks_provider(wanted: str) -> Provider:
    """The source of the 68 points.

    Args:
        wanted: `providers.landmarks`.

    Raises:
        InputError: one is named whose weights are not there.
    """
    path = fan.weights_path()
    if wanted == LANDMARKS_478:
        return Provider(LANDMARKS_478, "as configured")
    if path.is_file():
        return Provider(FAN, f"found {path}", path)
    if wanted == FAN:
        raise InputError(
            f"providers.landmarks: fan: {path} is missing; put face-alignment's weights there, or set auto"
        )
    return Provider(LANDMARKS_478, f"no {path.name} in {path.parent}")


def boxes_provider(wanted: str) -> Provider:
    """The detector of faces that FaceMesh does not find by itself.

    Args:
        wanted: `providers.boxes`.

    Raises:
        InputError: one is named whose weights are not there.
    """
    if wanted == BOXES_FACEMESH:
        return Provider(BOXES_FACEMESH, "as configured")
    missing = []
    for name, (find, looked_for, folder) in _FINDERS.items():
        if wanted not in (AUTO, name):
            continue
        path = find()
        if path is not None:
            return Provider(name, f"found {path}", path)
        missing.append(f"no {looked_for} in {folder()}")
    if wanted != AUTO:
        raise InputError(f"providers.boxes: {wanted}: {missing[0]}; put it there, or set auto")
    return Provider(BOXES_FACEMESH, "; ".join(missing))


def five_points_provider(wanted: str) -> Provider:
    """Who finds MICA's five points: 'insightface' where its detector is there and not excluded, else FaceMesh.

    Args:
        wanted: `providers.boxes`.

    Raises:
        InputError: insightface is named and not there.
    """
    if wanted not in (AUTO, scrfd.NAME):
        return Provider(LANDMARKS_478, f"providers.boxes: {wanted}")
    boxes = boxes_provider(wanted)
    return boxes if boxes.name == scrfd.NAME else Provider(LANDMARKS_478, boxes.reason)


def box_opener(provider: Provider, device: str) -> Callable[[], BoxDetector] | None:
    """Starts a provider's detector when it is called; None for mediapipe's own, which `FaceFinder` has.

    What is started raises InputError where the weights are damaged.
    """
    if provider.name == scrfd.NAME:
        return lambda: scrfd.Scrfd(_there(scrfd.find_scrfd()), device=device)
    if provider.name == fan_boxes.NAME:
        return lambda: fan_boxes.FanBoxes(_there(fan_boxes.find_detector()), device)
    return None


def _fan_detector() -> Path | None:
    found = fan_boxes.find_detector()
    return None if found is None else found.path


def _there(found: Found | None) -> Found:
    """What was there when the provider was chosen."""
    if found is None:
        raise InputError("providers.boxes: the detector's weights have gone; run again")
    return found


# Best first: how each is found, what it is called and where it was looked for.
_FINDERS: dict[str, tuple[Callable[[], Path | None], str, Callable[[], Path]]] = {
    scrfd.NAME: (scrfd.find_scrfd, " or ".join(pack for pack, _ in scrfd.PACKS), scrfd.models_dir),
    fan_boxes.NAME: (_fan_detector, " or ".join(file for _, file in fan_boxes.DETECTORS), checkpoints_dir),
}
