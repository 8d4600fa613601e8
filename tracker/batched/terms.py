"""The data terms of B frames: landmarks with closure, and local contrast.

Batched twins of `tracker.residuals.landmark` and `tracker.residuals.photometric`; a frame without a face, and a sample
that is not seen, have no confidence.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracker.batched.equations import BatchEquations, of_rows
from tracker.batched.pictures import BatchLevel, local_contrast
from tracker.batched.points import BatchPoints
from tracker.batched.state import BatchState
from tracker.camera import Intrinsics
from tracker.robust import geman_mcclure, huber


@dataclass(frozen=True, eq=False)
class BatchLandmarks:
    """Landmark terms of B frames.

    Attributes:
        points: N model points.
        targets_px: (B, N, 2) detected points; anything finite where there is no face.
        sigma_px: (B,) standard deviation of a detected point.
        confidence: (B, N).
        pairs: (K, 2) ids into the points.
        pair_sigma_px: (B,) standard deviation of a pair's vector.
        pair_confidence: (B, K).
    """

    points: BatchPoints
    targets_px: Tensor
    sigma_px: Tensor
    confidence: Tensor
    pairs: Tensor
    pair_sigma_px: Tensor
    pair_confidence: Tensor

    def cost(self, state: BatchState, lens: Intrinsics) -> Tensor:
        """(B,) half the robust, confidence-weighted sums of squares."""
        rho, _ = huber(self._residual(self.points.project(state, lens)).square().sum(-1))
        return 0.5 * (rho * self._confidence).sum(1)

    def linearise(self, state: BatchState, lens: Intrinsics) -> BatchEquations:
        """The terms' share of the normal equations."""
        pixels, jacobian = self.points.linearise(state, lens)
        residual = self._residual(pixels)
        rho, weight = huber(residual.square().sum(-1))
        between = jacobian[:, self.pairs[:, 0]] - jacobian[:, self.pairs[:, 1]]
        root = (weight * self._confidence).sqrt()
        rows = torch.cat([jacobian, between], 1) * (root / self._sigma)[..., None, None]
        right = residual * root[..., None]
        return of_rows(rows.flatten(1, 2), right.flatten(1), 0.5 * (rho * self._confidence).sum(1))

    def _residual(self, pixels: Tensor) -> Tensor:
        """Whitened residuals (B, N + K, 2): points, then pairs."""
        error = pixels - self.targets_px
        closure = error[:, self.pairs[:, 0]] - error[:, self.pairs[:, 1]]
        return torch.cat([error, closure], 1) / self._sigma[..., None]

    @property
    def _sigma(self) -> Tensor:
        counts = self.confidence.shape[1], self.pair_confidence.shape[1]
        both = zip((self.sigma_px, self.pair_sigma_px), counts, strict=True)
        return torch.cat([sigma[:, None].expand(-1, count) for sigma, count in both], 1)

    @property
    def _confidence(self) -> Tensor:
        return torch.cat([self.confidence, self.pair_confidence], 1)


@dataclass(frozen=True, eq=False)
class BatchContrast:
    """Photometric terms of B frames at one pyramid level.

    Attributes:
        points: M samples.
        target: (M, 3) contrast, or (B, M, 3) where each frame has its own.
        level: the pictures.
        sigma: (B,) standard deviation of a channel's residual.
        confidence: (B, M), 0 where a sample is not seen.
        axes: (B, M, 2, 2) discs of the local mean.
        window: see `tracker.batched.pictures.window_on`.
    """

    points: BatchPoints
    target: Tensor
    level: BatchLevel
    sigma: Tensor
    confidence: Tensor
    axes: Tensor
    window: Tensor

    def values(self, state: BatchState, lens: Intrinsics) -> Tensor:
        """(B, M, 3) contrast of the pictures at the samples."""
        pixels = self.points.project(state, lens.scaled(self.level.scale))
        return local_contrast(self.level.pixels, pixels, self.axes, self.window)[0]

    def cost(self, state: BatchState, lens: Intrinsics) -> Tensor:
        """(B,) half the robust, confidence-weighted sums of squares."""
        residual = self.values(state, lens) - self.target
        rho, _ = geman_mcclure((residual / self.sigma[:, None, None]).square().mean(-1))
        return 0.5 * (rho * self.confidence).sum(1)

    def linearise(self, state: BatchState, lens: Intrinsics) -> BatchEquations:
        """The terms' share of the normal equations, two rows a sample as in `tracker.kernels.contrast`."""
        pixels, jacobian = self.points.linearise(state, lens.scaled(self.level.scale))
        values, slope = local_contrast(self.level.pixels, pixels, self.axes, self.window)
        residual = values - self.target
        rho, shrink = geman_mcclure((residual / self.sigma[:, None, None]).square().mean(-1))
        weight = shrink * self.confidence / (3 * self.sigma.square()[:, None])
        gram = (slope.mT @ slope) * weight[..., None, None]
        a, b, c = gram[..., 0, 0], gram[..., 0, 1], gram[..., 1, 1]
        l00 = a.clamp_min(1e-30).sqrt()
        l10 = b / l00
        l11 = (c - l10 * l10).clamp_min(0).sqrt()
        first, second = jacobian.unbind(2)
        rows = torch.cat([torch.addcmul(l00[..., None] * first, l10[..., None], second), l11[..., None] * second], 1)
        by_pixel = (slope.mT @ residual[..., None]) * weight[..., None, None]
        gradient = (jacobian.flatten(1, 2).mT @ by_pixel.flatten(1, 3)[..., None])[..., 0]
        return BatchEquations(rows.mT @ rows, gradient, 0.5 * (rho * self.confidence).sum(1))

    def correlation(self, state: BatchState, lens: Intrinsics, seen: Tensor) -> Tensor:
        """(B,) normalised cross-correlation of picture and appearance over the seen samples (B, M) bool."""
        count = seen.sum(1).clamp_min(1)[:, None, None]
        parts = []
        for values in (self.values(state, lens), self.target.expand(len(seen), -1, -1)):
            masked = torch.where(seen[..., None], values, 0)
            parts.append(torch.where(seen[..., None], values - masked.sum(1, keepdim=True) / count, 0))
        scale = (parts[0].square().sum((1, 2)) * parts[1].square().sum((1, 2))).sqrt()
        return (parts[0] * parts[1]).sum((1, 2)) / scale.clamp_min(1e-12)


def masked_median(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) lower median over the values (B, K) of a mask, as torch.median gives it; infinite where it is empty."""
    ordered = torch.where(mask, values, torch.inf).sort(1).values
    middle = ((mask.sum(1) - 1).clamp_min(0) // 2)[:, None]
    return ordered.gather(1, middle)[:, 0]
