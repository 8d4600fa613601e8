"""Runs the networks on aligned faces: by torch, or by onnxruntime on what `tracker.mica.export` wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tracker.errors import InputError
from tracker.file_hash import content_hash
from tracker.onnx_errors import onnx_errors
from tracker.threads import on_threads

if TYPE_CHECKING:
    from tracker.mica.networks import MicaNetwork

PICTURES, EMBEDDING, SHAPE = "pictures", "embedding", "shape"
# The key in the export's metadata that says from which weights it was made.
MADE_FROM = "mica_weights"


@dataclass(frozen=True, eq=False)
class Encoding:
    """What MICA says of one picture.

    Attributes:
        embedding: (512,) float32 ArcFace embedding of length 1.
        shape: (300,) float32 FLAME shape coefficients.
    """

    embedding: np.ndarray
    shape: np.ndarray


class Encoder(Protocol):
    """The networks on some runtime.

    Attributes:
        runtime: its name and version, for people.
    """

    runtime: str

    def encode(self, pictures: Sequence[np.ndarray]) -> list[Encoding]:
        """Encodes (3, 112, 112) float32 pictures, see `tracker.mica.align.network_input`."""


class TorchEncoder:
    """The networks in torch."""

    def __init__(self, network: "MicaNetwork", device: str = "cpu") -> None:
        """Takes the networks of `tracker.mica.checkpoint.load_network` to a device."""
        import torch

        self._network, self._device = network.to(device), device
        self.runtime = f"torch {torch.__version__} on {device}"

    def encode(self, pictures: Sequence[np.ndarray]) -> list[Encoding]:
        """One picture a thread: torch's own threads are held at one for the solver's sake."""
        import torch

        def one(picture: np.ndarray) -> Encoding:
            with torch.inference_mode():
                embedding, shape = self._network(torch.from_numpy(picture[None]).to(self._device))
            return Encoding(embedding[0].cpu().numpy(), shape[0].cpu().numpy())

        return on_threads(one, pictures)


class OnnxEncoder:
    """The networks in onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        """Opens an export.

        Raises:
            InputError: missing or damaged, or not an export of MICA.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except onnx_errors() as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: not readable by onnxruntime ({reason}); export it again") from error
        names = ({value.name for value in self._session.get_inputs()}, {v.name for v in self._session.get_outputs()})
        if names != ({PICTURES}, {EMBEDDING, SHAPE}):
            raise InputError(f"{path}: not an export of MICA; write it with `python -m tracker.mica export`")
        self.made_from = self._session.get_modelmeta().custom_metadata_map.get(MADE_FROM, "")
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def encode(self, pictures: Sequence[np.ndarray]) -> list[Encoding]:
        """One picture a thread."""

        def one(picture: np.ndarray) -> Encoding:
            embedding, shape = self._session.run([EMBEDDING, SHAPE], {PICTURES: picture[None]})
            return Encoding(embedding[0], shape[0])

        return on_threads(one, pictures)


def export_path(weights: Path) -> Path:
    """Where the export of some weights lies: beside them."""
    return weights.with_suffix(".onnx")


def load_encoder(weights: Path, device: str = "cpu") -> tuple[Encoder, str]:
    """The fastest way to run MICA that is there.

    Args:
        weights: mica.tar.
        device: 'cuda' runs torch there; on the CPU an export beside the weights is taken, if it was made from them.

    Returns:
        The encoder, and what is to be said of an export that does not belong to the weights; empty otherwise.

    Raises:
        InputError: the weights are missing or damaged; 'cuda' where torch finds none.
    """
    if device == "cuda":
        _require_cuda()
    from tracker.mica.checkpoint import load_network

    export, note = export_path(weights), ""
    if device == "cpu" and export.is_file() and weights.is_file():
        try:
            encoder = OnnxEncoder(export)
        except InputError as error:
            note = str(error)
        else:
            if encoder.made_from == content_hash(weights):
                return encoder, ""
            note = f"{export} was not made from {weights} as it is now; export it again"
    return TorchEncoder(load_network(weights), device), note


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise InputError("device cuda: torch finds no CUDA device here; use cpu")
