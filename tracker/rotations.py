"""Rotations: exponential and logarithmic map of SO(3), the 6-D form of `.frame` files, axis-angle.

Inside the solver a rotation is a matrix with left increments, `R <- exp(w) R`. The 6-D form (the first two rows of
the matrix, as in PyTorch3D) and axis-angle appear only in files.

Sources: Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019 (6-D form);
Murray, Li and Sastry, A Mathematical Introduction to Robotic Manipulation, 1994, eq. 2.14 (Rodrigues).
"""

import torch
from torch import Tensor

from tracker.kernels import rotations as kernels

# Below this angle (radians) the closed forms lose digits and their Taylor series are exact to float64.
_SMALL_ANGLE = 1e-4


def skew(w: Tensor) -> Tensor:
    """Cross-product matrix.

    Args:
        w: (..., 3).

    Returns:
        (..., 3, 3) with `skew(w) @ x == cross(w, x)`.
    """
    zero = torch.zeros_like(w[..., 0])
    x, y, z = w.unbind(-1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*w.shape[:-1], 3, 3)


def exp_so3(w: Tensor) -> Tensor:
    """Rotation matrix of an axis-angle vector (Rodrigues).

    Args:
        w: (..., 3) radians.

    Returns:
        (..., 3, 3). Finite and differentiable at w = 0.
    """
    if _compiled(w):
        return torch.from_numpy(kernels.exp_so3(w.reshape(-1, 3).numpy())).reshape(*w.shape, 3)
    angle_sq = (w * w).sum(-1)[..., None, None]
    small = angle_sq < _SMALL_ANGLE**2
    safe = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe.sqrt()
    a = torch.where(small, 1 - angle_sq / 6, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - angle_sq / 24, (1 - torch.cos(angle)) / safe)
    k = skew(w)
    eye = torch.eye(3, dtype=w.dtype, device=w.device).expand(k.shape)
    return eye + a * k + b * (k @ k)


def log_so3(R: Tensor) -> Tensor:
    """Axis-angle vector of a rotation matrix, by its unit quaternion (stable from 0 to pi).

    Args:
        R: (..., 3, 3).

    Returns:
        (..., 3) radians, norm at most pi.
    """
    if _compiled(R):
        return torch.from_numpy(kernels.log_so3(R.reshape(-1, 3, 3).numpy())).reshape(R.shape[:-1])
    m = R
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # Four candidate quaternions (w, x, y, z), each scaled by twice its own largest component; take the best one.
    q = torch.stack(
        [
            torch.stack(
                [1 + trace, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1
            ),
            torch.stack(
                [
                    m[..., 2, 1] - m[..., 1, 2],
                    1 + 2 * m[..., 0, 0] - trace,
                    m[..., 0, 1] + m[..., 1, 0],
                    m[..., 0, 2] + m[..., 2, 0],
                ],
                -1,
            ),
            torch.stack(
                [
                    m[..., 0, 2] - m[..., 2, 0],
                    m[..., 0, 1] + m[..., 1, 0],
                    1 + 2 * m[..., 1, 1] - trace,
                    m[..., 1, 2] + m[..., 2, 1],
                ],
                -1,
            ),
            torch.stack(
                [
                    m[..., 1, 0] - m[..., 0, 1],
                    m[..., 0, 2] + m[..., 2, 0],
                    m[..., 1, 2] + m[..., 2, 1],
                    1 + 2 * m[..., 2, 2] - trace,
                ],
                -1,
            ),
        ],
        -2,
    )
    best = torch.diagonal(q, dim1=-2, dim2=-1).argmax(-1)
    q = torch.gather(q, -2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    q = torch.where(q[..., :1] < 0, -q, q)
    norm = q[..., 1:].norm(dim=-1, keepdim=True)
    half = torch.atan2(norm, q[..., :1])
    small = norm < _SMALL_ANGLE
    scale = torch.where(
        small, 2 / q[..., :1].clamp_min(0.5), 2 * half / torch.where(small, torch.ones_like(norm), norm)
    )
    return q[..., 1:] * scale


def _compiled(x: Tensor) -> bool:
    """Whether the solver's kernels take it: float64 on the CPU, no derivative asked for."""
    return x.dtype == torch.float64 and x.device.type == "cpu" and not x.requires_grad


def matrix_to_6d(R: Tensor) -> Tensor:
    """First two rows of the matrix, as PyTorch3D and `.frame` files hold them: (..., 3, 3) to (..., 6)."""
    return R[..., :2, :].reshape(*R.shape[:-2], 6)


def matrix_from_6d(d6: Tensor) -> Tensor:
    """Rotation matrix of a 6-D form by Gram-Schmidt; rows are the basis.

    Args:
        d6: (..., 6), not necessarily orthonormal.

    Returns:
        (..., 3, 3).
    """
    a1, a2 = d6[..., :3], d6[..., 3:]
    b1 = torch.nn.functional.normalize(a1, dim=-1)
    b2 = torch.nn.functional.normalize(a2 - (b1 * a2).sum(-1, keepdim=True) * b1, dim=-1)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2, dim=-1)], -2)


def rotation_angle(R: Tensor) -> Tensor:
    """Angle of a rotation matrix in radians: (..., 3, 3) to (...)."""
    return log_so3(R).norm(dim=-1)
