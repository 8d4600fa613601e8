"""Expression basis: the handles' motions spread over the skin, mirrored, split into sides, kept off the eyeballs."""

from dataclasses import dataclass

import numpy as np

from tracker.head.build.assemble import HeadMesh
from tracker.head.build.canonical import smoothstep
from tracker.head.build.fields import SkinFields
from tracker.head.build.follow import follow_openings, keep_lids_outside
from tracker.head.build.handles import Unit, read_units

_MIRROR_X = np.array([-1.0, 1.0, 1.0])
# Names of the two sides of shapes that move the whole mouth or jaw sideways: ARKit has jawLeft, mouthLeft.
_SIDEWAYS = {"jawSideways": "jawLeft", "mouthSideways": "mouthLeft"}
# ARKit's activations stay in [0, 1]; a little slack keeps a solver's gradient alive at rest.
_BOUNDS_ONE_SIDED = (-0.2, 1.2)
_BOUNDS_TWO_SIDED = (-1.0, 1.0)
# Width of the blend between the left and right shape of a middle point, mm.
_SIDE_BLEND_MM = 9.0


@dataclass(frozen=True)
class Expressions:
    """The expression space.

    Attributes:
        names: E names, ARKit's where they exist.
        basis: (V, 3, E) mm at activation 1.
        std: (E,) prior standard deviations.
        bounds: (E, 2).
    """

    names: tuple[str, ...]
    basis: np.ndarray
    std: np.ndarray
    bounds: np.ndarray


def build_expressions(mesh: HeadMesh, fields: SkinFields) -> Expressions:
    """Every unit of the table."""
    names, shapes, std, bounds = [], [], [], []
    for unit in read_units():
        for name, shape in _shapes_of(mesh, fields, unit):
            names.append(name)
            shapes.append(keep_lids_outside(mesh, follow_openings(mesh, shape)))
            std.append(unit.std)
            bounds.append(_BOUNDS_TWO_SIDED if unit.two_sided else _BOUNDS_ONE_SIDED)
    return Expressions(tuple(names), np.stack(shapes, 2), np.array(std), np.array(bounds))


def _shapes_of(mesh: HeadMesh, fields: SkinFields, unit: Unit) -> list[tuple[str, np.ndarray]]:
    sideways = unit.sides == "sideways"
    sign = -1.0 if sideways else 1.0
    ids, values = [], []
    for point, motion in unit.motions.items():
        partner = int(mesh.mirror[point])
        ids.append(point)
        values.append(motion)
        if partner != point and partner not in unit.motions:
            ids.append(partner)
            values.append((-sign * motion[0], motion[1], motion[2]))
    whole = fields.solve(np.array(ids), np.array(values, float), unit.scale_mm)
    if sideways:
        return [(_SIDEWAYS[unit.name], whole)]
    whole = 0.5 * (whole + whole[mesh.mirror] * _MIRROR_X)
    if unit.sides == "both":
        return [(unit.name, whole)]
    left = whole * smoothstep(0.5 + mesh.vertices[:, :1] / (2 * _SIDE_BLEND_MM))
    return [(f"{unit.name}Left", left), (f"{unit.name}Right", left[mesh.mirror] * _MIRROR_X)]
