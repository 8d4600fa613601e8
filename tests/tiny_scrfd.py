"""A detector of a few kilobytes in SCRFD's form, nine outputs at three strides, whose answers are known."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
# The stride that answers.
LAST = STRIDES[-1]
ANCHORS = 2
SIDE = 640
_NEVER, _SURE = -9.0, 9.0


def write(path: Path, face: tuple[np.ndarray, np.ndarray] | None = None) -> Path:
    """Writes the detector.

    Args:
        path: the .onnx file.
        face: box (4,) and five points (5, 2) that it always answers with, in pixels of its 640 x 640 picture; None: it
            answers where the picture is red, with a box from 2 cells left of and 1 above the cell's corner to 3 right
            of and 4 below, and five points at (0, 0), (1, 0), (2, 0), (3, 0), (4, 0) cells from it, all at stride 32.
    """
    nodes, values, outputs = [], {f"rows{width}": np.array([-1, width]) for width in (1, 4, 10)}, []
    for stride in STRIDES:
        colour, logits, box, points = _answer(stride, face)
        kinds = {"score": (colour, np.zeros(ANCHORS)), "box": _constant(box), "kps": _constant(points.reshape(-1))}
        pool = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        nodes.append(helper.make_node("AveragePool", ["input"], [f"pool{stride}"], **pool))
        values[f"logits{stride}"] = logits
        for kind, (weights, bias) in kinds.items():
            name, width = f"{kind}{stride}", len(bias) // ANCHORS
            values |= {f"{name}w": weights, f"{name}b": bias}
            nodes.append(helper.make_node("Conv", [f"pool{stride}", f"{name}w", f"{name}b"], [f"{name}c"]))
            last = f"{name}c"
            if kind == "score":
                nodes.append(helper.make_node("Add", [last, f"logits{stride}"], [f"{name}s"]))
                last = f"{name}p"
                nodes.append(helper.make_node("Sigmoid", [f"{name}s"], [last]))
            nodes.append(helper.make_node("Transpose", [last], [f"{name}t"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"{name}t", f"rows{width}"], [name]))
    for kind, width in (("score", 1), ("box", 4), ("kps", 10)):
        outputs += [helper.make_tensor_value_info(f"{kind}{s}", TensorProto.FLOAT, ["n", width]) for s in STRIDES]
    size = ["height", "width"] if face is None else [SIDE, SIDE]
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])
    given = [
        numpy_helper.from_array(value.astype(np.int64 if name.startswith("rows") else np.float32), name)
        for name, value in values.items()
    ]
    opset = helper.make_opsetid("", 13)
    graph = helper.make_graph(nodes, "tiny", [picture], outputs, given)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def _constant(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias that give the same values in every cell."""
    return np.zeros((ANCHORS * len(values), 3, 1, 1)), np.tile(values, ANCHORS)


def _answer(
    stride: int, face: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the colours, what is added to the score, box and points from the cell's corner in strides."""
    colour, logits = np.zeros((ANCHORS, 3, 1, 1)), np.full((1, 1, 1, 1), _NEVER)
    if face is None:
        if stride == LAST:
            # RGB in [-1, 1]: red beyond blue.
            colour[:, 0], colour[:, 2], logits = 6.0, -6.0, logits + 3
        return colour, logits, np.array([2.0, 1, 3, 4]), np.array([[float(i), 0] for i in range(5)])
    box, points = face
    cell = (box[:2] // stride).astype(int)
    if stride == LAST:
        logits = np.full((1, ANCHORS, SIDE // stride, SIDE // stride), _NEVER)
        logits[0, :, cell[1], cell[0]] = _SURE
    corner = cell * stride
    return colour, logits, np.concatenate([corner - box[:2], box[2:] - corner]) / stride, (points - corner) / stride
