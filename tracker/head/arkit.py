"""ARKit's 52 blendshape names, and how the tracker's head models name the same units.

Source of the names and their meaning: Apple, ARFaceAnchor.BlendShapeLocation. ICT-FaceKit has 53: the same with `_L`
and `_R` for Left and Right, browInnerUp and cheekPuff in two halves each, cheekRaiser and pupil shapes apart, and no
tongue (ICT-FaceKit's README, "Expression Shapes").
"""

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


def arkit_name(name: str) -> str:
    """ARKit's name of an expression: mouthSmile_L is mouthSmileLeft, browInnerUp_L is browInnerUp; others stay."""
    for ending, side in _SIDES.items():
        if name.endswith(ending):
            stem = name.removesuffix(ending)
            return stem if stem in _WHOLE else stem + side
    return name
