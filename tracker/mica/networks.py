"""The two networks of mica.tar: ArcFace's IResNet-100 and the mapping from its embedding to FLAME's shape.

Sources: Deng et al., ArcFace, CVPR 2019 (residual units of Han et al., Deep Pyramidal Residual Networks, CVPR 2017);
Zielonka et al., MICA, ECCV 2022, section 3. Attribute names are the keys of mica.tar.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PICTURE_PX = 112
EMBEDDING_SIZE = 512
SHAPE_SIZE = 300
# (blocks, channels) of the four stages; each halves the picture.
_STAGES = ((3, 64), (13, 128), (30, 256), (3, 512))
_LAST_SIDE = PICTURE_PX // 2 ** len(_STAGES)
_HIDDEN_LAYERS = 3
_LEAK = 0.2


class _Block(nn.Module):
    """Normalise, convolve, normalise, PReLU, convolve (with the stride), normalise; added to what came in."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride > 1:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return residual + (x if self.downsample is None else self.downsample(x))


class ArcFace(nn.Module):
    """IResNet-100: (N, 3, 112, 112) RGB in [-1, 1] to (N, 512) embeddings, not normalised."""

    def __init__(self) -> None:
        """Weights as torch makes them; run it in eval mode."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STAGES[0][1], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STAGES[0][1])
        self.prelu = nn.PReLU(_STAGES[0][1])
        before = _STAGES[0][1]
        for number, (count, channels) in enumerate(_STAGES, 1):
            blocks = [_Block(before if i == 0 else channels, channels, 2 if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = channels
        self.bn2 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before * _LAST_SIDE**2, EMBEDDING_SIZE)
        self.features = nn.BatchNorm1d(EMBEDDING_SIZE)

    def forward(self, pictures: Tensor) -> Tensor:
        """The raw embeddings."""
        x = self.prelu(self.bn1(self.conv1(pictures)))
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


class Mapping(nn.Module):
    """Normalised embedding (N, 512) to FLAME's shape coefficients (N, 300)."""

    def __init__(self) -> None:
        """Weights as torch makes them."""
        super().__init__()
        hidden = [nn.Linear(SHAPE_SIZE, SHAPE_SIZE) for _ in range(_HIDDEN_LAYERS)]
        self.network = nn.ModuleList([nn.Linear(EMBEDDING_SIZE, SHAPE_SIZE), *hidden])
        self.output = nn.Linear(SHAPE_SIZE, SHAPE_SIZE)

    def forward(self, embedding: Tensor) -> Tensor:
        """The shape code."""
        for layer in self.network:
            embedding = functional.leaky_relu(layer(embedding), _LEAK)
        return self.output(embedding)


class MicaNetwork(nn.Module):
    """Both, one after the other."""

    def __init__(self) -> None:
        """Weights as torch makes them; `tracker.mica.checkpoint` reads those of a file."""
        super().__init__()
        self.arcface = ArcFace()
        self.regressor = Mapping()

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and shape codes.

        Args:
            pictures: (N, 3, 112, 112) float32 RGB in [-1, 1], aligned (`tracker.mica.align`).

        Returns:
            (N, 512) embeddings of length 1, and (N, 300) FLAME shape coefficients.
        """
        embedding = functional.normalize(self.arcface(pictures))
        return embedding, self.regressor(embedding)


def on_meta() -> MicaNetwork:
    """The networks without memory for weights, to be given those of a file."""
    with torch.device("meta"):
        return MicaNetwork().eval()
