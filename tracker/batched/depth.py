"""Depth buffers of B posed meshes, without a loop over triangles.

Triangles are sorted by the size of their box in pixels. All of one size are tested at once against every pixel centre
of a window of that size, and the nearest wins by a scattered minimum, which does not depend on the order.
"""

import torch
from torch import Tensor

from tracker.camera import Intrinsics, project
from tracker.rasterizer import NEAR_M

# Sides of the windows, pixels; the last one is the picture's longer side.
_WINDOWS = (2, 4, 8, 32)
# Candidates (triangle times pixel) that are tested at once; bounds the memory.
_AT_ONCE = 1 << 22
# A pixel centre may lie so far outside an edge, as a share of the triangle: rounding of float32.
_EDGE = 1e-5


def depth_buffers(points_cam_m: Tensor, triangles: Tensor, lens: Intrinsics, size: tuple[int, int]) -> Tensor:
    """Distance of the nearest surface along the optical axis, at each pixel centre.

    The host waits once, for the number of triangles of each size.

    Args:
        points_cam_m: (B, V, 3) metres, camera frame.
        triangles: (F, 3).
        lens: camera of the buffers.
        size: (height, width).

    Returns:
        (B, H, W) metres, infinite where nothing is seen. A triangle that comes nearer than a centimetre is left out.
    """
    batch, (height, width) = len(points_cam_m), size
    pixels = project(points_cam_m, lens.focal_px, lens.cx_px, lens.cy_px)
    corners = torch.cat([pixels, 1 / points_cam_m[..., 2:]], 2)[:, triangles].flatten(0, 1)
    low, high = corners[..., :2].amin(1), corners[..., :2].amax(1)
    edge = torch.tensor([width, height], device=low.device)
    # A margin against rounding: a centre that the weights accept may miss the box.
    first = (low - 1e-3 - 0.5).ceil().clamp_min(0)
    last = torch.minimum((high + 1e-3 - 0.5).floor(), edge - 1.0)
    extent = (last - first + 1).amin(1), (last - first + 1).amax(1)
    drawn = (extent[0] >= 1) & (corners[..., 2] > 0).all(1) & (corners[..., 2] < 1 / NEAR_M).all(1)
    windows = (*(side for side in _WINDOWS if side < max(size)), max(size))
    kind = torch.bucketize(extent[1], torch.tensor(windows, device=low.device, dtype=low.dtype))
    kind = torch.where(drawn, kind, len(windows))
    order = kind.argsort(stable=True)
    counts = kind.bincount(minlength=len(windows) + 1).tolist()
    buffer = torch.full((batch * height * width,), torch.inf, device=low.device)
    start = 0
    for side, count in zip(windows, counts, strict=False):
        for ids in order[start : start + count].split(max(_AT_ONCE // side**2, 1)):
            pictures = ids.div(len(triangles), rounding_mode="floor")
            _draw(buffer, size, (corners[ids], first[ids], last[ids], pictures), side)
        start += count
    return buffer.reshape(batch, height, width)


def _draw(buffer: Tensor, size: tuple[int, int], batch: tuple[Tensor, Tensor, Tensor, Tensor], side: int) -> None:
    """Draws K triangles into flat buffers.

    Args:
        buffer: (B H W,) lowered in place.
        size: (height, width).
        batch: corners (K, 3, 3) as x, y, 1 / z; first and last pixel (K, 2) of the box; picture (K,) of each.
        side: of the window that starts at the first pixel and holds the box.
    """
    corners, first, last, pictures = batch
    steps = torch.arange(side, device=buffer.device)
    offsets = torch.stack([steps.repeat(side), steps.repeat_interleave(side)], 1)
    at = first[:, None] + offsets
    # Counted from the first corner, so that float32 keeps its digits.
    place = at + 0.5 - corners[:, None, 0, :2]
    u, v = (corners[:, k, :2] - corners[:, 0, :2] for k in (1, 2))
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    b = (place[..., 0] * v[:, None, 1] - place[..., 1] * v[:, None, 0]) / area[:, None]
    c = (u[:, None, 0] * place[..., 1] - u[:, None, 1] * place[..., 0]) / area[:, None]
    inverse = corners[:, :, 2, None]
    flat = inverse[:, 0] + b * (inverse[:, 1] - inverse[:, 0]) + c * (inverse[:, 2] - inverse[:, 0])
    inside = (b >= -_EDGE) & (c >= -_EDGE) & (b + c <= 1 + _EDGE) & (at <= last[:, None]).all(2)
    depth = torch.where(inside, 1 / flat, torch.inf)
    height, width = size
    x, y = at[..., 0].clamp_max(width - 1).long(), at[..., 1].clamp_max(height - 1).long()
    buffer.scatter_reduce_(0, (pictures[:, None] * (height * width) + y * width + x).flatten(), depth.flatten(), "amin")
