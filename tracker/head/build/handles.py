"""Expression shapes as motions of FaceMesh points (millimetres at activation 1).

Points are named on the subject's left (x > 0) and mirrored for the right. A motion is (x outwards, y up, z forward).
The amplitudes are those of posed FACS action units at full strength.
"""

from dataclasses import dataclass

Motion = tuple[float, float, float]


@dataclass(frozen=True)
class Unit:
    """One expression shape.

    Attributes:
        name: ARKit's name without side.
        motions: FaceMesh point (left or middle) to motion.
        scale_mm: fall-off length of the motion over the skin.
        std: prior standard deviation of the activation.
        two_sided: both signs are meaningful (bounds -1 to 1).
        sides: 'both' one shape moving both sides; 'each' a left and a right shape.
        antisymmetric: for 'both': the right side's x motion follows the left's (jawLeft) instead of mirroring it.
    """

    name: str
    motions: dict[int, Motion]
    scale_mm: float = 12.0
    std: float = 0.3
    two_sided: bool = False
    sides: str = "both"
    antisymmetric: bool = False
