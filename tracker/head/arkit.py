"""ARKit's 52 blendshape names and curves, and how the tracker's head models name the same units.

Source of the names and their meaning: Apple, ARFaceAnchor.BlendShapeLocation. ICT-FaceKit has 53: the same with `_L`
and `_R` for Left and Right, browInnerUp and cheekPuff in two halves each, cheekRaiser and pupil shapes apart, and no
tongue (ICT-FaceKit's README, "Expression Shapes").
"""

from dataclasses import dataclass

import numpy as np

# In the order of the columns of Live Link Face's CSV files.
ARKIT_NAMES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthRight", "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft",
    "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
# Units that ARKit does not split into sides.
_WHOLE = ("browInnerUp", "cheekPuff")
_SIDES = {"_L": "Left", "_R": "Right"}
# Expressions of the generic head that go both ways: what their negative side is called.
_OTHER_WAY = {"jawLeft": "jawRight", "mouthLeft": "mouthRight"}
# Angles that count as 1, radians. Apple does not publish them. Vertical: ICT-FaceKit's upper lid comes down by 25
# degrees about the eyeball's centre in eyeLookDown. Jaw: the turn of ICT-FaceKit's lower teeth in jawOpen.
_LOOK_SIDEWAYS, _LOOK_UP_OR_DOWN = np.deg2rad(30.0), np.deg2rad(25.0)
_JAW_OPEN = np.deg2rad(25.33)


@dataclass(frozen=True)
class FacePose:
    """What one frame says of the face, whatever the head model.

    Attributes:
        expression: (E,) coefficients.
        eyelids: (2,) closure of the left and right lids.
        gaze: (2, 2) yaw (positive to the subject's left) and pitch (positive down) of the left and right eye, radians.
        jaw_x: turn of the jaw joint about x, radians; 0 where the model has none.
    """

    expression: np.ndarray
    eyelids: np.ndarray
    gaze: np.ndarray
    jaw_x: float = 0.0


def has_arkit_names(names: tuple[str, ...]) -> bool:
    """Whether some of a head model's expressions are named as ARKit's units are."""
    return any(arkit_name(name) in ARKIT_NAMES for name in names)


def arkit_curves(names: tuple[str, ...], face: FacePose) -> np.ndarray:
    """ARKit's 52 coefficients of a frame, (52,) in [0, 1], in the order of `ARKIT_NAMES`.

    Halves of one unit are averaged. Blinks come from the eyelids, a lid that opens beyond rest adds to eyeWide; the
    eight eyeLook units from the turn of the eyeballs, as in ARKit, not from the lids that follow them. There is no
    tongue. Units that ARKit does not know (the generic head has six) are left out.

    Args:
        names: of the head model's E expressions.
        face: the frame.
    """
    found: dict[str, list[float]] = {}
    for name, value in zip(names, face.expression.tolist(), strict=True):
        unit = arkit_name(name)
        if unit in _OTHER_WAY and _OTHER_WAY[unit] not in names:
            found[_OTHER_WAY[unit]] = [-value]
        found.setdefault(unit, []).append(value)
    values = {unit: float(np.mean(halves)) for unit, halves in found.items()}
    for side, which in enumerate(("Left", "Right")):
        closure = float(face.eyelids[side])
        values[f"eyeBlink{which}"] = closure
        values[f"eyeWide{which}"] = values.get(f"eyeWide{which}", 0.0) + max(-closure, 0.0)
        values |= _look(which, *map(float, face.gaze[side]))
    values["jawOpen"] = values.get("jawOpen", 0.0) + face.jaw_x / _JAW_OPEN
    return np.clip([values.get(name, 0.0) for name in ARKIT_NAMES], 0, 1)


def _look(which: str, yaw: float, pitch: float) -> dict[str, float]:
    """The four eyeLook units of an eye; each eye's `Out` is away from the nose."""
    outwards = (yaw if which == "Left" else -yaw) / _LOOK_SIDEWAYS
    down = pitch / _LOOK_UP_OR_DOWN
    return {
        f"eyeLookOut{which}": outwards,
        f"eyeLookIn{which}": -outwards,
        f"eyeLookDown{which}": down,
        f"eyeLookUp{which}": -down,
    }


def arkit_name(name: str) -> str:
    """ARKit's name of an expression: mouthSmile_L is mouthSmileLeft, browInnerUp_L is browInnerUp; others stay."""
    for ending, side in _SIDES.items():
        if name.endswith(ending):
            stem = name.removesuffix(ending)
            return stem if stem in _WHOLE else stem + side
    return name
