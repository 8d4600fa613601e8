"""The head's outline is found where the rendered head ends, and follows a matte; what is not the head's is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coverage_share import coverage
from rendered_clip import RenderedClip, calibration_task, rendered_clip

from tracker.calibrate import Calibration, solve_appearance, solve_geometry
from tracker.contour import find_outline
from tracker.points import point_template
from tracker.render import Surface, View, draw
from tracker.residuals.projection import project_state
from tracker.surface import surface_view

FRAMES = [0, 14, 28, 40, 52, 66]


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return rendered_clip()


def _matte(clip: RenderedClip, frame: int) -> np.ndarray:
    """Share of each pixel that the true head covers, shifted outwards as the network's matte is."""
    state = clip.state(frame)
    shape = torch.from_numpy(clip.truth.shape).double()
    vertices = clip.model.vertices(state.head_params(shape)).float().numpy()
    height, width = clip.frame(frame).image.shape[:2]
    drawing = draw(
        Surface.of(clip.model), vertices, View(state.R.numpy(), state.t.numpy(), clip.camera, (height, width))
    )
    return coverage(drawing)


def _distances(clip: RenderedClip, frame: int, matte: np.ndarray, shape: torch.Tensor | None = None):
    """Outline of the true head, or of one with another shape, and signed distances of the matte's edge to it."""
    shape = torch.from_numpy(clip.truth.shape).double() if shape is None else shape
    outline = find_outline(clip.model, shape, clip.state(frame), clip.camera, matte)
    points = point_template(clip.model, outline.faces, outline.bary).with_shape(shape)
    pixels = project_state(points, clip.state(frame), clip.camera)
    return outline, ((outline.targets_px - pixels) * outline.normals_px).sum(1).numpy()


@pytest.mark.parametrize("frame", FRAMES[:4])
def test_outline_of_the_truth_is_the_matte_edge(clip: RenderedClip, frame: int) -> None:
    outline, distance = _distances(clip, frame, _matte(clip, frame))
    assert len(outline) >= 15
    # The offset of the network's mattes is taken off ones that have none: 0.2 px of 256.
    assert abs(np.median(distance)) < 0.35
    assert np.mean(np.abs(distance) < 0.8) > 0.85
    assert np.allclose(outline.normals_px.norm(dim=1), 1)
    corners = clip.model.triangles[outline.faces].reshape(-1)
    scalp = set(clip.model.regions["scalp"].tolist())
    on_edge = corners[outline.bary.reshape(-1) > 0].tolist()
    assert not scalp & set(on_edge)
    # Where the surface turns away from the camera.
    view = surface_view(clip.model, torch.from_numpy(clip.truth.shape).double(), clip.state(frame))
    normals = view.normals_head @ clip.state(frame).R.float().T
    towards = view.vertices_cam_m(clip.state(frame))
    cosine = (torch.nn.functional.normalize(normals, dim=1) * torch.nn.functional.normalize(towards, dim=1)).sum(1)
    assert float(cosine[on_edge].abs().median()) < 0.35


def test_outline_moves_with_the_matte(clip: RenderedClip) -> None:
    """The person three pixels to the right: both sides say so, with opposite signs along their normals."""
    matte = _matte(clip, 0)
    outline, distance = _distances(clip, 0, np.roll(matte, 3, axis=1))
    across = outline.normals_px[:, 0].abs().numpy() > 0.9
    assert {-1, 1} == set(np.sign(outline.normals_px[across, 0].numpy()))
    moved = (distance / outline.normals_px[:, 0].numpy())[across]
    assert np.median(moved) == pytest.approx(3, abs=0.6)


def test_hair_and_shoulders_are_left_out(clip: RenderedClip) -> None:
    """A matte whose edge is out of reach, or that never ends along the normal, gives no target."""
    matte = _matte(clip, 0)
    everywhere = np.ones_like(matte)
    assert len(_distances(clip, 0, everywhere)[0]) == 0
    assert len(_distances(clip, 0, np.zeros_like(matte))[0]) == 0
    left_shoulder = matte.copy()
    left_shoulder[:, : matte.shape[1] // 2] = 1
    outline, _ = _distances(clip, 0, left_shoulder)
    assert len(outline) >= 5
    assert bool((outline.targets_px[:, 0] > matte.shape[1] // 2 - 2).all())


def test_outline_widens_a_narrow_head(clip: RenderedClip) -> None:
    """The joint solve with mattes finds the head's width better than the same without."""

    def solved(weight: float) -> Calibration:
        task = calibration_task(clip, FRAMES)
        frames = tuple(replace(one, matte=_matte(clip, n)) for one, n in zip(task.frames, FRAMES, strict=True))
        settings = task.settings.model_copy(update={"contour_weight": weight})
        task = replace(task, frames=frames, settings=settings)
        return solve_appearance(task, solve_geometry(task))

    def off_px(found: Calibration) -> float:
        clips = [
            find_outline(clip.model, found.clip.shape, state, found.clip.intrinsics, _matte(clip, frame))
            for state, frame in zip(found.states, FRAMES, strict=True)
        ]
        distances = []
        for outline, state in zip(clips, found.states, strict=True):
            points = point_template(clip.model, outline.faces, outline.bary).with_shape(found.clip.shape)
            pixels = project_state(points, state, found.clip.intrinsics)
            distances.append(((outline.targets_px - pixels) * outline.normals_px).sum(1))
        return float(torch.cat(distances).abs().mean())

    without, with_ = off_px(solved(0.0)), off_px(solved(1.0))
    # 0.85 and 0.24 px measured.
    assert with_ < 0.6 * without
    assert with_ < 0.5
