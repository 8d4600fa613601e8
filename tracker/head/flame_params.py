"""FLAME's parameters as other programs write them, as `HeadParams`.

Two layouts are in use: 6-D rotations (metrical-tracker, and the `.frame` files) and axis-angle vectors (FLAME_PyTorch,
DECA, MICA). Both count two eyeballs, left (+x, joint 3) first.
"""

from torch import Tensor, nn

from tracker.errors import InputError
from tracker.head.model import HeadModel, HeadParams
from tracker.rotations import exp_so3, matrix_from_6d


def params_from_6d(model: HeadModel, values: dict[str, Tensor]) -> HeadParams:
    """metrical-tracker's parameters.

    Args:
        model: the head model; coefficients are cut or padded with zeros to its counts.
        values: `shape` (..., S), `exp` (..., E), `jaw` (..., 6), `eyes` (..., 12), and optionally `neck`, `root`
            (..., 6), `eyelids` (..., 2), `translation` (..., 3) metres. 6-D rotations are the first two rows of the
            matrix; other than unit, perpendicular rows go through Gram-Schmidt, as PyTorch3D's do.

    Returns:
        Rotations as matrices.

    Raises:
        InputError: a key that is needed is missing.
    """
    _check_keys(values, ("shape", "exp", "jaw", "eyes"))
    eyes = values["eyes"].reshape(*values["eyes"].shape[:-1], 2, 6)
    optional: dict[str, Tensor] = {name: matrix_from_6d(values[name]) for name in ("neck", "root") if name in values}
    return _params(model, values, matrix_from_6d(values["jaw"]), matrix_from_6d(eyes), optional)


def params_from_axis_angle(model: HeadModel, values: dict[str, Tensor]) -> HeadParams:
    """Parameters of FLAME_PyTorch, DECA and MICA.

    Args:
        model: the head model; coefficients are cut or padded with zeros to its counts.
        values: `shape` (..., S), `exp` (..., E), `pose` (..., 6) the root's and the jaw's rotation vector in radians,
            and optionally `neck` (..., 3), `eyes` (..., 6), `eyelids` (..., 2), `translation` (..., 3) metres.

    Returns:
        Rotations as matrices; neck and eyes straight where they are not given.

    Raises:
        InputError: a key that is needed is missing.
    """
    _check_keys(values, ("shape", "exp", "pose"))
    pose = values["pose"]
    eyes = values["eyes"] if "eyes" in values else pose.new_zeros(*pose.shape[:-1], 6)
    optional = {"root": exp_so3(pose[..., :3])}
    if "neck" in values:
        optional["neck"] = exp_so3(values["neck"])
    return _params(model, values, exp_so3(pose[..., 3:]), exp_so3(eyes.reshape(*eyes.shape[:-1], 2, 3)), optional)


def _params(
    model: HeadModel, values: dict[str, Tensor], jaw: Tensor, eyes: Tensor, optional: dict[str, Tensor]
) -> HeadParams:
    eyelids = values["eyelids"] if "eyelids" in values else jaw.new_zeros(*jaw.shape[:-2], 2)
    return HeadParams(
        shape=_of_length(values["shape"], model.shape_count),
        expression=_of_length(values["exp"], model.expression_count),
        jaw=jaw,
        eyes=eyes,
        eyelids=eyelids,
        translation=values.get("translation"),
        **optional,
    )


def _of_length(values: Tensor, count: int) -> Tensor:
    return nn.functional.pad(values, (0, count - values.shape[-1]))


def _check_keys(values: dict[str, Tensor], needed: tuple[str, ...]) -> None:
    missing = [key for key in needed if key not in values]
    if missing:
        raise InputError(f"FLAME parameters: {', '.join(missing)} missing; they have {', '.join(values) or 'none'}")
