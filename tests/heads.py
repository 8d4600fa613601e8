"""Small synthetic head models for tests: no file, every part of the interface in use."""

import numpy as np
import torch

from tracker.head.model import Embedding, HeadModel
from tracker.state import FrameState, neutral_state


def random_head(seed: int = 0, vertices: int = 60, shapes: int = 5, expressions: int = 7) -> HeadModel:
    """A random blob with all features of the interface (pose correctives, eyelids, skinning with all joints)."""
    rng = np.random.RandomState(seed)

    def real(*size: int, scale: float) -> torch.Tensor:
        return torch.from_numpy((scale * rng.standard_normal(size)).astype(np.float32))

    weights = torch.from_numpy(rng.dirichlet(np.ones(5), vertices).astype(np.float32))
    regressor = torch.from_numpy(rng.dirichlet(np.ones(vertices), 5).astype(np.float32))
    triangles = torch.from_numpy(np.stack([rng.permutation(vertices)[:3] for _ in range(2 * vertices)])).long()
    bary = torch.from_numpy(rng.dirichlet(np.ones(3), 40).astype(np.float32))
    faces = torch.from_numpy(rng.randint(0, 2 * vertices, 40)).long()
    return HeadModel(
        name="random",
        template=real(vertices, 3, scale=0.06),
        shape_basis=real(vertices, 3, shapes, scale=0.003),
        expression_basis=real(vertices, 3, expressions, scale=0.003),
        expression_names=tuple(f"e{i}" for i in range(expressions)),
        expression_std=torch.ones(expressions),
        expression_bounds=torch.tensor([[-np.inf, np.inf]]).repeat(expressions, 1),
        eyelid_basis=real(vertices, 3, 2, scale=0.003),
        joint_regressor=regressor,
        skin_weights=weights,
        triangles=triangles,
        uv=torch.from_numpy(rng.rand(vertices, 2).astype(np.float32)),
        uv_triangles=triangles,
        landmarks68=Embedding(faces, bary, torch.arange(40)),
        landmarks478=Embedding(faces, bary, torch.arange(40)),
        pose_correctives=real(vertices, 3, 36, scale=0.002),
    )


def random_state(model: HeadModel, seed: int = 0, spread: float = 0.2) -> FrameState:
    """A state away from every special point."""
    generator = torch.Generator().manual_seed(seed)
    state = neutral_state(model)
    step = spread * torch.randn(15 + model.expression_count, generator=generator, dtype=torch.float64)
    step[3:6] *= 0.1
    state = state.retract(step)
    light = state.light + 0.1 * torch.randn(9, 3, generator=generator, dtype=torch.float64)
    return FrameState(**{**state.tensors, "light": light})
