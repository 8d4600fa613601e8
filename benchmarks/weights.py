"""Which surface samples the robust kernel drops: `python -m benchmarks.weights --cfg output/demo/config.yml`.

For frames of tracked clips, every sample that the solver takes for visible is drawn on the picture, from full weight
(green) to dropped (red), by the weights that the finest level of the pyramid gives it in the final pose. Where the clip
was made by `stages.demo` and something passes before the face, the table also says how much weight covered and
uncovered samples keep. Configs are the resolved ones beside the tracks.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# A sample below this share of its full weight counts as dropped: its residual is beyond four standard deviations.
DROPPED = 0.25
# Grey levels of the picture and colours of the weights: few, so that a sheet is a small file.
_GREYS, _COLOURS = 14, 9
_LABEL_PX = 22
# A covered pixel is one of which the covering thing takes more than this share.
_COVERED = 0.5


@dataclass(frozen=True, eq=False)
class Weighed:
    """The samples of one frame.

    Attributes:
        index: of the tracked frame.
        status: what the track says of it.
        image: (H, W, 3) uint8 RGB.
        pixels: (M, 2) visible samples, continuous pixels.
        weights: (M,) robust weight, 1 full, 0 dropped.
        covered: (M,) whether something before the face hides the sample, or None where that is not known.
    """

    index: int
    status: str
    image: np.ndarray
    pixels: np.ndarray
    weights: np.ndarray
    covered: np.ndarray | None

    @property
    def dropped(self) -> float:
        """Share of samples that are dropped; NaN without any."""
        return float((self.weights < DROPPED).mean()) if len(self.weights) else float("nan")


def weigh(cfg: Path, indices: Sequence[int] | None, count: int) -> list[Weighed]:
    """The samples of some frames of a tracked clip.

    Args:
        cfg: its resolved config.
        indices: tracked frames; None: `count` frames, from the one with the most samples dropped to the least.
        count: how many.

    Raises:
        InputError: the clip is not tracked.
    """
    from stages.config_file import load_config
    from stages.subject import Subject

    config, _ = load_config(cfg)
    subject = Subject.of(config)
    every = list(subject.frame_indices()) if indices is None else list(indices)
    frames = _weigh_all(subject, config, every)
    if indices is None:
        ranked = sorted((f for f in frames if len(f.weights)), key=lambda frame: -frame.dropped)
        places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
        frames = [ranked[place] for place in places]
    return _with_cover(subject, frames)


def _weigh_all(subject: Any, config: Any, indices: list[int]) -> list[Weighed]:
    from stages.clip_files import frame_input, load_clip
    from tracker.clip import held_unknowns
    from tracker.frame_file import load_frame, state_from_arrays
    from tracker.frame_solver import FrameSolver
    from tracker.head_choice import load_head_model
    from tracker.image import pyramid
    from tracker.residuals.projection import project_state

    model = load_head_model(config)
    clip, _ = load_clip(subject, config, model)
    solver = FrameSolver(clip, config.energy, config.tracking, held_unknowns(model, config.optimize_jaw))
    found = []
    for index in indices:
        frame = load_frame(subject.checkpoint_path(index))
        state = state_from_arrays(frame["state"])
        image = frame_input(subject, index, False).image
        pixels, weights = np.zeros((0, 2)), np.zeros(0)
        seen = solver.visible(state)
        if seen is not None:
            term = solver.contrast_term(pyramid(image, 1)[0], 0, state, seen)
            squared = (term.residual(state, clip.intrinsics) / term.sigma).square().mean(1)
            weights = term.kernel(squared)[1].numpy()
            pixels = project_state(term.points, state, clip.intrinsics).numpy()
        found.append(Weighed(index, frame["track"]["status"], image, pixels, weights, None))
    return found


def _with_cover(subject: Any, frames: list[Weighed]) -> list[Weighed]:
    """Adds which samples are covered, where the clip's truth tells it."""
    from dataclasses import replace

    from stages.demo import scene_of
    from stages.demo_score import truth_path
    from tracker.demo.truth import load_truth

    path = truth_path(subject.input_dir)
    if not path.is_file() or not load_truth(path).spec:
        return frames
    scene, crop = scene_of(subject.input_dir), subject.load_crop()
    if not scene.parts:
        return frames
    told = []
    for frame in frames:
        hidden = scene.covered(subject.number_of(frame.index) - 1)[1]
        at = np.floor(crop.to_source(frame.pixels)).astype(int)
        at = at.clip(0, [hidden.shape[1] - 1, hidden.shape[0] - 1])
        told.append(replace(frame, covered=hidden[at[:, 1], at[:, 0]] > _COVERED))
    return told


def palette() -> np.ndarray:
    """(n, 3) uint8 RGB: dark greys of the picture, white, then colours from dropped (red) to full weight (green)."""
    greys = np.linspace(0, 170, _GREYS).round().repeat(3).reshape(-1, 3)
    hues = np.linspace(0, 60, _COLOURS).round()
    hsv = np.stack([hues, np.full(_COLOURS, 255), np.full(_COLOURS, 255)], 1).astype(np.uint8)
    colours = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    return np.concatenate([greys, [[255, 255, 255]], colours]).astype(np.uint8)


def tile(frame: Weighed, side: int) -> np.ndarray:
    """One frame, (side, side) uint8 indices into `palette`: the samples as dots over the picture in grey."""
    height, width = frame.image.shape[:2]
    scale = side / max(height, width)
    grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    canvas = np.zeros((side, side), np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = (small.astype(np.float32) / 255 * (_GREYS - 1)).round()
    order = np.argsort(-frame.weights)
    for (x, y), weight in zip(frame.pixels[order] * scale, frame.weights[order], strict=True):
        colour = _GREYS + 1 + round(float(weight) * (_COLOURS - 1))
        column, row = int(x), int(y)
        canvas[max(row, 0) : row + 2, max(column, 0) : column + 2] = colour
    return canvas


def sheet(columns: dict[str, list[Weighed]], side: int) -> np.ndarray:
    """Contact sheet of `palette` indices: a column a clip, its name above, under each tile frame and share dropped."""
    rows = max(len(frames) for frames in columns.values())
    canvas = np.zeros((_LABEL_PX + rows * (side + _LABEL_PX), len(columns) * side), np.uint8)
    for column, (name, frames) in enumerate(columns.items()):
        left = column * side
        _write(canvas, name, left, 0)
        for row, frame in enumerate(frames):
            top = _LABEL_PX + row * (side + _LABEL_PX)
            canvas[top : top + side, left : left + side] = tile(frame, side)
            _write(canvas, f"{frame.index} {frame.status}: {frame.dropped:.0%} dropped", left, top + side)
    return canvas


def _write(canvas: np.ndarray, text: str, left: int, top: int) -> None:
    cv2.putText(canvas, text, (left + 4, top + _LABEL_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _GREYS, 1, cv2.LINE_8)


def table(columns: dict[str, list[Weighed]]) -> str:
    """A row a frame: samples, share dropped, mean weight of covered and uncovered samples where that is known."""
    lines = ["| clip | frame | status | samples | dropped | covered | their weight | the others' weight |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, frames in columns.items():
        for frame in frames:
            row = [name, str(frame.index), frame.status, str(len(frame.weights)), f"{frame.dropped:.0%}"]
            covered = frame.covered
            if covered is None:
                row += ["-", "-", _mean(frame.weights)]
            else:
                row += [f"{covered.mean():.0%}", _mean(frame.weights[covered]), _mean(frame.weights[~covered])]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _mean(weights: np.ndarray) -> str:
    return f"{weights.mean():.2f}" if len(weights) else "-"


def save(path: Path, indices: np.ndarray) -> None:
    """Writes a picture of `palette` indices as a PNG with that palette."""
    from PIL import Image

    picture = Image.fromarray(indices, mode="P")
    picture.putpalette(palette().reshape(-1).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", type=Path, nargs="+", required=True, help="resolved configs of tracked clips")
    parser.add_argument("--frames", type=int, nargs="+", help="tracked frames; else from most to least dropped")
    parser.add_argument("--count", type=int, default=2, help="how many frames where they are not named")
    parser.add_argument("--side", type=int, default=256, help="side of a picture, pixels")
    parser.add_argument("--out", type=Path, help="also draw the contact sheet to this .png")
    given = parser.parse_args(arguments)
    from stages import logs

    logs.log_to_console("ERROR")
    columns = {cfg.parent.name: weigh(cfg, given.frames, given.count) for cfg in given.cfg}
    print(table(columns))
    if given.out is not None:
        save(given.out, sheet(columns, given.side))


if __name__ == "__main__":
    sys.exit(main())
