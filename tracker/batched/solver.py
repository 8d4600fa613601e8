"""The solve of B frames: landmarks, then levels coarse to fine, then light; the twin of `FrameSolver.solve`.

The host waits for the device at three places of a frame, never inside a solve: for the number of triangles of each size
in a depth buffer (once; on each level where a frame has no prediction), and for the results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tracker.batched.clip import BatchClip
from tracker.batched.lighting import fit_light
from tracker.batched.minimise import BatchProblem, BatchSolution, evidence_of, minimise, outcomes
from tracker.batched.pictures import BatchLevel, pyramids
from tracker.batched.state import BatchState
from tracker.batched.surface import Seen, visible
from tracker.batched.terms import BatchContrast, BatchLandmarks, masked_median
from tracker.clip import FrameInput
from tracker.evidence import Evidence
from tracker.frame_solver import (
    MAD,
    MIN_SAMPLES,
    SIGMA_LIMITS,
    FrameSolution,
    FrameSolver,
    landmark_settings,
    sample_stride,
)
from tracker.image import inside
from tracker.landmark_set import inter_ocular_px
from tracker.light_response import response_gain
from tracker.local_contrast import window_axes_torch
from tracker.solver import Outcome, SolverSettings
from tracker.state import FrameState, Layout

_Stage = tuple[BatchSolution, Tensor]


@dataclass(frozen=True, eq=False)
class Link:
    """What time pulls a frame to.

    Attributes:
        predicted: the state.
        pose: its pose as well; else only what happens within the head.
    """

    predicted: FrameState
    pose: bool = True


@dataclass(frozen=True, eq=False)
class BatchSolver:
    """Solves frames of one calibrated clip on a device.

    Attributes:
        solver: of single frames; says what is minimised.
        device: where it is done.
    """

    solver: FrameSolver
    device: str

    @cached_property
    def on_device(self) -> BatchClip:
        """The clip on the device."""
        return BatchClip.of(self.solver, self.device)

    def solve(
        self, frames: Sequence[FrameInput], starts: Sequence[FrameState], links: Sequence["Link | None"]
    ) -> list[FrameSolution]:
        """Solves B frames; a frame's light starts at, and is pulled to, that of its start.

        Args:
            frames: pictures of one size, and detections.
            starts: first states.
            links: what time pulls each frame to, or None for a frame on its own.

        Returns:
            The solutions, one a frame, as `FrameSolver.solve` gives them.
        """
        with torch.no_grad():
            problem = self.problem(frames, starts, links)
            levels = pyramids([frame.image for frame in frames], self.solver.tracking.levels, self.device)
            faces = torch.tensor([frame.dense_px is not None for frame in frames]).to(self.device)
            far = [link is None or not link.pose for link in links]
            stages, seen, term = self._descend(problem, levels, (BatchState.of(starts, self.device), faces), far)
            solution = stages[0][0]
            for later, asked in stages[1:]:
                solution = later.where(asked, solution)
            H, g = evidence_of(problem, solution)
            correlation = term.correlation(solution.state, problem.fixed.lens, seen.mask)
            coloured = stages[-1][1]
            lit, l1 = self._lit(levels[0], solution.state, seen)
            state = lit.where(coloured, solution.state)
            figures = torch.where(coloured[:, None], torch.stack([correlation, l1], 1), torch.nan)
            asked = torch.stack([stage[1] for stage in stages], 1)
            return _solutions(state, asked, [stage[0].history for stage in stages], figures, (H, g))

    def problem(
        self, frames: Sequence[FrameInput], starts: Sequence[FrameState], links: Sequence["Link | None"]
    ) -> BatchProblem:
        """The energy of the frames without colours, facing of the landmarks judged at the starts."""
        fixed = self.on_device.fixed
        targets = [start if link is None else link.predicted for start, link in zip(starts, links, strict=True)]
        pull = torch.zeros(len(links), len(fixed.scale))
        for row, link in enumerate(links):
            if link is not None:
                pull[row, 0 if link.pose else Layout.jaw.start :] = 1
        landmarks = self._landmarks(frames, BatchState.of(starts, self.device))
        pull = pull.to(self.device) * fixed.temporal_inverse_std
        return BatchProblem(fixed, BatchState.of(targets, self.device), pull, landmarks, None)

    def thinned_term(self, level: BatchLevel, index: int, state: BatchState, seen: Seen) -> BatchContrast:
        """The photometric terms of pictures, their noise taken from their own residuals.

        Args:
            level: the pictures at a pyramid level.
            index: the level's number, 0 the full picture.
            state: where the residuals are taken.
            seen: the visible samples.
        """
        clip, energy = self.on_device, self.solver.energy
        samples = clip.levels[index]
        points, target, seen = samples.points, samples.contrast, seen.subset(samples.ids)
        if samples.response is not None:
            target = target * response_gain(samples.response, state.light, state.R)
        lens = clip.fixed.lens.scaled(level.scale)
        sigma_m = clip.clip.contrast_sigma_m(energy.contrast_sigma_px, level.scale)
        normals_cam = seen.normals @ state.R.mT
        axes = window_axes_torch(seen.points_cam_m.flatten(0, 1), normals_cam.flatten(0, 1), lens, sigma_m)
        axes = axes.unflatten(0, seen.mask.shape)
        confidence = sample_stride(index) * energy.photometric_weight * seen.cosine * seen.mask
        unit = torch.ones_like(confidence[:, 0])
        term = BatchContrast(points, target, level, unit, confidence, axes, clip.window)
        error = (term.values(state, clip.fixed.lens) - term.target).abs().flatten(1)
        mask = seen.mask[..., None].expand(*seen.mask.shape, 3).flatten(1)
        return replace(term, sigma=(MAD * masked_median(error, mask)).clamp(*SIGMA_LIMITS))

    def visible(self, state: BatchState, shaped: BatchState) -> Seen:
        """The samples that the camera sees.

        Args:
            state: the poses.
            shaped: what else moves the heads, near the state's.
        """
        clip = self.on_device
        posed = replace(shaped, R=state.R, t=state.t)
        seen = visible(clip.surface, clip.sample_surface, posed, clip.fixed.lens, clip.clip.size)
        pixels = clip.samples.project(state, clip.fixed.lens)
        return replace(seen, mask=seen.mask & inside(pixels, clip.clip.size))

    def _descend(
        self, problem: BatchProblem, levels: list[BatchLevel], begin: tuple[BatchState, Tensor], far: list[bool]
    ) -> tuple[list[_Stage], Seen, BatchContrast]:
        """All solves with the frames that took part in each, and what the finest level looked at.

        Args:
            problem: without colours.
            levels: the pictures.
            begin: first states, and (B,) which frames have a face.
            far: which frames have no predicted pose.
        """
        tracking, (start, asked) = self.solver.tracking, begin
        away = torch.tensor(far).to(self.device)
        stages, state = list[_Stage](), start
        for predicted, some, which in ((True, not all(far), ~away), (False, any(far), away)):
            if some:
                limits = landmark_settings(tracking, predicted)
                stages.append((minimise(problem, state, asked & which, limits), asked & which))
                state = stages[-1][0].state
        seen = None
        asked, settings = torch.ones_like(asked), SolverSettings(max_steps=tracking.steps)
        for index in reversed(range(tracking.levels)):
            # A tracked frame starts close enough for one test of visibility, with the expression predicted for it; one
            # on its own may come from far.
            if seen is None:
                seen = self.visible(state, state.where(away, start))
            elif any(far):
                seen = self.visible(state, state).where(away, seen)
            asked = asked & (seen.mask.sum(1) >= MIN_SAMPLES)
            term = self.thinned_term(levels[index], index, state, seen)
            stages.append((minimise(replace(problem, contrast=term), state, asked, settings), asked))
            state = stages[-1][0].state
        assert seen is not None
        return stages, seen, term

    def _landmarks(self, frames: Sequence[FrameInput], start: BatchState) -> BatchLandmarks:
        clip, energy = self.on_device, self.solver.energy
        detected = clip.clip.landmarks
        targets = np.zeros((len(frames), len(detected), 2), np.float32)
        sizes = np.zeros(len(frames), np.float32)
        for row, frame in enumerate(frames):
            if frame.dense_px is not None:
                targets[row] = detected.targets(frame.dense_px, frame.sparse_px).numpy()
                sizes[row] = inter_ocular_px(frame.dense_px)
        size = torch.from_numpy(sizes).to(self.device)
        facing = clip.facing(start) * (size > 0)[:, None]
        safe = torch.where(size > 0, size, 1)
        return BatchLandmarks(
            points=clip.landmarks,
            targets_px=torch.from_numpy(targets).to(self.device),
            sigma_px=energy.landmark_sigma * safe,
            confidence=energy.landmark_weight * facing,
            pairs=clip.pairs,
            pair_sigma_px=energy.closure_sigma * safe,
            pair_confidence=energy.closure_weight * facing[:, clip.pairs[:, 0]],
        )

    def _lit(self, level: BatchLevel, state: BatchState, seen: Seen) -> tuple[BatchState, Tensor]:
        """The frames' light and mean absolute colour error; `FrameSolver.solve` says around what."""
        clip = self.on_device
        pixels = clip.samples.project(state, clip.fixed.lens)
        normals_cam = seen.normals @ state.R.mT
        light_std = self.solver.tracking.light_std
        light, l1 = fit_light(level, pixels, (clip.albedo, normals_cam, seen), state.light, light_std)
        return replace(state, light=light), l1


def _solutions(
    state: BatchState, asked: Tensor, histories: list[Tensor], figures: Tensor, evidence: tuple[Tensor, Tensor]
) -> list[FrameSolution]:
    """Brings everything to the host at once and takes it apart, frame by frame."""
    parts = [state.flat(), asked.float(), *histories, figures, *evidence]
    together = torch.cat([part.flatten(1) for part in parts], 1).cpu()
    split = together.split([part[0].numel() for part in parts], 1)
    states = state.from_flat(split[0]).frames()
    took_part = split[1] > 0
    ended = [outcomes(rows, took_part[:, k].tolist()) for k, rows in enumerate(split[2:-3])]
    correlation, l1 = split[-3].double().T.tolist()
    count = evidence[1].shape[1]
    H, g = split[-2].double().reshape(-1, count, count), split[-1].double()
    found = []
    for b, frame in enumerate(states):
        of_frame: list[Outcome] = [outcome for stage in ended if (outcome := stage[b]) is not None]
        says = Evidence(0.5 * (H[b] + H[b].T), g[b].clone()) if of_frame else None
        found.append(FrameSolution(frame, tuple(of_frame), correlation[b], l1[b], says))
    return found
