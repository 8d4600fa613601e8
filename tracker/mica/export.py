"""Writes both networks as one ONNX graph: pictures to embedding and shape code."""

import warnings
from pathlib import Path

from tracker.atomic_write import check_writable, write_atomic
from tracker.file_hash import content_hash
from tracker.mica.checkpoint import load_network
from tracker.mica.encoder import EMBEDDING, MADE_FROM, PICTURES, SHAPE
from tracker.mica.networks import PICTURE_PX, MicaNetwork

# PRelu and BatchNormalization have had their present form since; any onnxruntime from 1.14 on reads it.
_OPSET = 17


def export_onnx(weights: Path, target: Path) -> None:
    """Exports mica.tar's networks.

    Args:
        weights: mica.tar.
        target: the .onnx file; appears when it is whole, 260 MB. Input `pictures` (N, 3, 112, 112) float32, outputs
            `embedding` (N, 512) and `shape` (N, 300); its metadata name the weights by their hash.

    Raises:
        InputError: the weights are missing or damaged, or the target cannot be written.
    """
    import onnx

    check_writable(target)
    network = load_network(weights)

    def write(temporary: Path) -> None:
        _trace(network, temporary)
        graph = onnx.load(str(temporary))
        onnx.checker.check_model(graph)
        onnx.helper.set_model_props(graph, {MADE_FROM: content_hash(weights)})
        onnx.save(graph, str(temporary))

    write_atomic(target, write)


def _trace(network: MicaNetwork, path: Path) -> None:
    """The graph as torch writes it."""
    import torch

    example = torch.zeros(1, 3, PICTURE_PX, PICTURE_PX)
    with warnings.catch_warnings():
        # The exporter by tracing is called legacy; the newer one needs a package more for the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=[PICTURES],
            output_names=[EMBEDDING, SHAPE],
            dynamic_axes={name: {0: "count"} for name in (PICTURES, EMBEDDING, SHAPE)},
            opset_version=_OPSET,
            dynamo=False,
        )
