"""Finds a detector's 478 points on any head model by rendering it: `python -m tracker.head.embed MODEL`.

A painted head is rendered in several views, lights and identities; FaceMesh finds its points in the pictures; each is
lifted to the triangle and the barycentric coordinates that are seen there, and the places are averaged on the surface.
MODEL is generic, flame, ict, a file, or a folder. The result is an npz in the layout of
mediapipe_landmark_embedding.npz: lmk_face_idx (478,), lmk_b_coords (478, 3), landmark_indices (478,).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tracker.atomic_write import check_writable, write_atomic
from tracker.command_line import OneLineParser
from tracker.errors import InputError, TrackerError
from tracker.head.surface_places import kinds, lift, mean_direction, mirrored_numbers, on_surface, robust_mean
from tracker.landmark_set import COUNT

if TYPE_CHECKING:
    from tracker.detectors.facemesh import FaceMesh
    from tracker.head.embed_views import EmbedView
    from tracker.head.model import HeadModel

Progress = Callable[[str], None]

PEOPLE, VIEWS = 12, 10


@dataclass(frozen=True, eq=False)
class Lifted:
    """Where one person's views put the points, on the mean head.

    Attributes:
        points_m: (V, 478, 3) metres, head space; NaN where a view says nothing.
        normals: (V, 478, 3) of the triangles.
        weights: (V, 478).
    """

    points_m: np.ndarray
    normals: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class FoundEmbedding:
    """The points on the surface, and how well they repeat.

    Attributes:
        faces: (N,) int64 triangles.
        bary: (N, 3) float64.
        indices: (N,) FaceMesh numbers.
        view_spread_m: (N,) how far a single view lies from the mean, root mean square along each direction.
        repeat_m: (N,) distance between the places that two halves of the people give, each alone.
    """

    faces: np.ndarray
    bary: np.ndarray
    indices: np.ndarray
    view_spread_m: np.ndarray
    repeat_m: np.ndarray

    def save(self, path: Path) -> None:
        """Writes the npz."""
        with path.open("wb") as file:
            np.savez(
                file,
                lmk_face_idx=self.faces.astype(np.uint32),
                lmk_b_coords=self.bary.astype(np.float64),
                landmark_indices=self.indices.astype(np.int64),
            )


def find_embedding(
    model: "HeadModel", people: int = PEOPLE, view_count: int = VIEWS, progress: Progress | None = None
) -> FoundEmbedding:
    """Renders, detects, lifts and averages.

    Args:
        model: any head model with iBUG points.
        people: rendered identities, at least 2.
        view_count: views of each.
        progress: told in words how far it is.

    Raises:
        InputError: the detector finds no face in most pictures.
    """
    from tracker.detectors.facemesh import FaceMesh
    from tracker.head.embed_views import views

    lifted = []
    kind = kinds(model)
    with FaceMesh(max_faces=1, tracking=False) as detector:
        for person in range(people):
            if progress is not None:
                progress(f"FaceMesh points of {model.name}: person {person + 1} of {people}")
            seen = []
            for view in views(model, person, view_count):
                seen += [lift(model, view, points_px, kind) for points_px in _detected(detector, view)]
            if seen:
                lifted.append(Lifted(*(np.stack(part) for part in zip(*seen, strict=True))))
    found, asked = sum(len(one.points_m) for one in lifted), 2 * people * view_count
    if len(lifted) < 2 or found < asked / 2:
        raise InputError(
            f"{model.name}: FaceMesh found a face in {found} of {asked} renderings and mirror images; "
            "are the model's units metres, its axes x left, y up, z out of the face, and its iBUG points in order?"
        )
    return average(model, lifted, kind)


def _detected(detector: "FaceMesh", view: "EmbedView") -> list[np.ndarray]:
    """The points (478, 2) of a picture, and those of its mirror image, which err to the other side."""
    width = view.image.shape[1]
    plain, mirror = detector.faces(view.image), detector.faces(np.ascontiguousarray(view.image[:, ::-1]))
    points: list[np.ndarray] = [face.points_px for face in plain[:1]]
    if mirror:
        back = np.array([width, 0.0]) + np.array([-1.0, 1.0]) * mirror[0].points_px
        points.append(back[mirrored_numbers()])
    return points


def average(model: "HeadModel", lifted: Sequence[Lifted], kind: np.ndarray) -> FoundEmbedding:
    """The points' robust means on the surface over all people, and what two halves of them say alone."""
    points, normals, weights = (
        np.concatenate([getattr(one, name) for one in lifted]) for name in ("points_m", "normals", "weights")
    )
    known = weights.sum(0) > 0
    mean, spread = robust_mean(points, weights)
    faces, bary = on_surface(model, mean, mean_direction(normals, weights), kind, np.flatnonzero(known))
    halves = []
    for part in (lifted[::2], lifted[1::2]):
        own, own_weights = (np.concatenate([getattr(one, name) for one in part]) for name in ("points_m", "weights"))
        halves.append(robust_mean(own, own_weights)[0])
    repeat = np.linalg.norm(halves[0] - halves[1], axis=1)
    return FoundEmbedding(faces, bary, np.flatnonzero(known), spread[known], repeat[known])


def embedded(model: "HeadModel", found: FoundEmbedding | None = None, progress: Progress | None = None) -> "HeadModel":
    """The model with FaceMesh points that were found by rendering it."""
    import torch

    from tracker.head.model import Embedding

    found = find_embedding(model, progress=progress) if found is None else found
    parts = (found.faces, found.bary.astype(np.float32), found.indices)
    return replace(model, landmarks478=Embedding(*(torch.from_numpy(part) for part in parts)))


def load_any(text: str) -> tuple["HeadModel", Path]:
    """A head model by its name or path, and where its embedding goes by default.

    Raises:
        InputError: no such model.
    """
    from tracker.head.flame import load_flame
    from tracker.head.flame_places import find_flame, is_flame, model_file
    from tracker.head.generic import load_generic
    from tracker.head.ict import build_ict, find_ict, ict_folder
    from tracker.head.ict_files import read_folder

    name = "mediapipe_landmark_embedding.npz"
    if text == "generic":
        return load_generic(), Path(f"generic_{name}")
    path = Path(text)
    ict = ict_folder() if text == "ict" else find_ict(path)
    if ict is not None:
        return build_ict(read_folder(ict)), Path(f"ict_{name}")
    if text == "flame":
        path = find_flame(Path("assets")) or Path("assets/FLAME2020")
    if path.is_dir() or is_flame(path) or (path.parent / "landmark_embedding.npy").is_file():
        return load_flame(path), (model_file(path) or path).parent / name
    return load_generic(path), path.with_name(f"{path.stem}_{name}")


def report(found: FoundEmbedding, each: bool) -> str:
    """Words and figures for people."""
    repeat, spread = 1000 * found.repeat_m, 1000 * found.view_spread_m
    lines = [
        f"{len(found.indices)} of {COUNT} points",
        f"repeatability (two halves of the people): median {np.nanmedian(repeat):.2f} mm, "
        f"95 % {np.nanpercentile(repeat, 95):.2f} mm, worst {np.nanmax(repeat):.2f} mm "
        f"(point {found.indices[int(np.nanargmax(repeat))]})",
        f"a single view: median {np.nanmedian(spread):.2f} mm, 95 % {np.nanpercentile(spread, 95):.2f} mm",
    ]
    if each:
        lines += [
            f"{number:4d} {a:6.2f} mm {b:6.2f} mm" for number, a, b in zip(found.indices, repeat, spread, strict=True)
        ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = OneLineParser(
        prog="python -m tracker.head.embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="generic, flame, ict, a model's file, or its folder")
    parser.add_argument("--out", type=Path, help="the npz file; default mediapipe_landmark_embedding.npz by the model")
    parser.add_argument("--people", type=int, default=PEOPLE, help="rendered identities")
    parser.add_argument("--views", type=int, default=VIEWS, help="views of each")
    parser.add_argument("--each", action="store_true", help="print each point's repeatability and view spread")
    try:
        given = parser.parse_args(arguments)
        if given.people < 2 or given.views < 2:
            parser.error("at least 2 people and 2 views are needed")
        model, usual = load_any(given.model)
        target = _writable(given.out, usual)
        found = find_embedding(model, given.people, given.views, _say)
        write_atomic(target, found.save)
    except (TrackerError, OSError) as error:
        _say(str(error))
        return 1
    sys.stdout.write(report(found, given.each))
    _say(f"written to {target}")
    return 0


def _writable(asked: Path | None, usual: Path) -> Path:
    """The file to write, before minutes are spent on it.

    Raises:
        InputError: it cannot be written, or is there and was not named by --out.
    """
    if asked is None and usual.exists():
        raise InputError(f"{usual}: is there already; name another file, or this one to overwrite it, by --out")
    target = usual if asked is None else asked
    check_writable(target)
    return target


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
