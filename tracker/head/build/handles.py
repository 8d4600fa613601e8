"""Expression shapes as motions of FaceMesh points (millimetres at activation 1).

Points are named on the subject's left (x > 0) and mirrored for the right. A motion is (x outwards, y up, z forward).
The amplitudes in data/expression_units.txt are judged from posed action units at full strength (Ekman, Friesen and
Hager, Facial Action Coding System, 2002); a motion of 0 0 0 holds a point, so that a shape does not leak into the other
lip or the lids.
"""

from dataclasses import dataclass
from pathlib import Path

UNITS_FILE = Path(__file__).parent / "data" / "expression_units.txt"

Motion = tuple[float, float, float]


@dataclass(frozen=True)
class Unit:
    """One line of the table.

    Attributes:
        name: ARKit's name without side.
        scale_mm: fall-off length of the motion over the skin.
        std: prior standard deviation of the activation.
        two_sided: both signs are meaningful (bounds -1 to 1).
        sides: 'both' one shape moving both sides alike; 'each' a left and a right shape; 'sideways' one shape whose
            right side moves along with the left one instead of mirroring it.
        motions: FaceMesh point (left or middle) to motion.
    """

    name: str
    scale_mm: float
    std: float
    two_sided: bool
    sides: str
    motions: dict[int, Motion]


def read_units(path: Path = UNITS_FILE) -> list[Unit]:
    """The table of expression shapes, in order."""
    units = []
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            units.append(_unit(lines[0], " ".join(lines[1:])))
    return units


def _unit(head: str, body: str) -> Unit:
    name, *settings = head.split()
    value = dict(setting.split("=") for setting in settings)
    motions: dict[int, Motion] = {}
    for item in filter(None, (part.strip() for part in body.split(";"))):
        point, motion = item.split(":")
        x, y, z = (float(number) for number in motion.split())
        motions[int(point)] = (x, y, z)
    return Unit(name, float(value["scale"]), float(value["std"]), value["range"] == "two", value["sides"], motions)
