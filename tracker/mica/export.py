"""Writes both networks as one ONNX graph: pictures to embedding and shape code."""

import os
import warnings
from pathlib import Path

from tracker.mica.checkpoint import load_network
from tracker.mica.encoder import EMBEDDING, MADE_FROM, PICTURES, SHAPE, digest
from tracker.mica.networks import PICTURE_PX

# PRelu and BatchNormalization have had their present form since; any onnxruntime from 1.14 on reads it.
_OPSET = 17


def export_onnx(weights: Path, target: Path) -> None:
    """Exports mica.tar's networks.

    Args:
        weights: mica.tar.
        target: the .onnx file; appears when it is whole, 260 MB. Input `pictures` (N, 3, 112, 112) float32, outputs
            `embedding` (N, 512) and `shape` (N, 300); its metadata name the weights by their hash.

    Raises:
        InputError: the weights are missing or damaged.
    """
    import onnx
    import torch

    network = load_network(weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    example = torch.zeros(1, 3, PICTURE_PX, PICTURE_PX)
    with warnings.catch_warnings():
        # The exporter by tracing is called legacy; the newer one needs a package more for the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            str(temporary),
            input_names=[PICTURES],
            output_names=[EMBEDDING, SHAPE],
            dynamic_axes={name: {0: "count"} for name in (PICTURES, EMBEDDING, SHAPE)},
            opset_version=_OPSET,
            dynamo=False,
        )
    graph = onnx.load(str(temporary))
    onnx.checker.check_model(graph)
    onnx.helper.set_model_props(graph, {MADE_FROM: digest(weights)})
    onnx.save(graph, str(temporary))
    os.replace(temporary, target)
