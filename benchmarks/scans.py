"""Clips of scanned or modelled heads with a foreign topology, judged by the evaluator that lies beside the repository.

The evaluator (`../shared/tools/evaluate_mesh.py`) reads meshes and checkpoints as any other program would. For
the question whether fitting the identity pays, the same track is judged once more with the mean head in its poses and
expressions.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.track import ROOT

SHARED = ROOT.parent / "shared"
EVALUATOR = SHARED / "tools" / "evaluate_mesh.py"


def scan_folder(name: str) -> Path:
    """Where a scanned clip lies, whether it is there or not."""
    return SHARED / "clips" / name


def is_scan(name: str) -> bool:
    """Whether a clip of this name lies beside the repository, with the evaluator."""
    return (scan_folder(name) / "truth.npz").is_file() and EVALUATOR.is_file()


def evaluate(name: str, clip: Path, judged: Path, stride: int) -> dict[str, Any]:
    """The evaluator's figures of a track, read again if the track has not changed since.

    Args:
        name: of the scanned clip.
        clip: input folder, with bbox.pt.
        judged: folder with mesh/ and checkpoint/.
        stride: every how many frames; jitter needs 1.

    Raises:
        SystemExit: the evaluator failed.
    """
    target = judged / f"evaluation_{stride}.json"
    newest = max(path.stat().st_mtime for path in (judged / "mesh").iterdir())
    if not target.exists() or target.stat().st_mtime < newest:
        command = [sys.executable, str(EVALUATOR), "--gt", str(scan_folder(name) / "truth.npz")]
        command += ["--output", str(judged), "--input", str(clip), "--json", str(target)]
        command += ["--stride", str(stride)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=single_threaded())
        if done.returncode:
            raise SystemExit(f"{EVALUATOR} failed on {judged}: {done.stderr.strip().splitlines()[-1:]}")
    figures: dict[str, Any] = json.loads(target.read_text())
    if "error" in figures:
        raise SystemExit(f"{judged}: {figures['error']}")
    return figures


def mean_head_copy(output: Path, folder: Path) -> Path:
    """A copy of a track whose meshes have no identity: the mean head in the same poses and expressions.

    One that is newer than the track is kept.

    Args:
        output: of the track.
        folder: receives mesh/ and links to the checkpoints.

    Returns:
        The folder.
    """
    import torch

    from stages.config_file import load_config
    from tracker.frame_file import head_params, load_frame
    from tracker.head_choice import load_head_model
    from tracker.mesh_files import ply_bytes

    tracked = sorted((output / "checkpoint").glob("*.frame"))
    meshes = {path.stem: path.stat().st_mtime for path in (folder / "mesh").glob("*.ply")}
    newest = max((path.stat().st_mtime for path in tracked), default=0.0)
    if meshes.keys() == {path.stem for path in tracked} and newest <= min(meshes.values(), default=0.0):
        return folder
    config, _ = load_config(output / "config.yml")
    model = load_head_model(config)
    for name in ("mesh", "checkpoint"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            old.unlink()
    for path in tracked:
        found = head_params(load_frame(path), model)
        vertices = model.vertices(replace(found, shape=torch.zeros_like(found.shape)))
        (folder / "mesh" / f"{path.stem}.ply").write_bytes(ply_bytes(vertices.numpy(), model.triangles.numpy()))
        (folder / "checkpoint" / path.name).symlink_to(path.resolve())
    return folder


def scan_row(name: str, clip: Path, output: Path, stride: int) -> dict[str, float | None]:
    """One row of the scans' table.

    Args:
        name: of the scanned clip.
        clip: its input folder.
        output: of the track.
        stride: every how many frames are judged; an evaluation takes a second a frame.

    Returns:
        Medians over all vertices and frames: `rigid_mm`, `one_scale_mm`, the same `mean_` of the mean head,
        `relative_rotation_degrees`, `mesh_rotation_degrees` (rotation left to the rigid alignment), `focal_percent`
        (signed), `focal_holds` (1 or 0; None where no interval is reported), `jitter_mm` (None at a stride), `scale`,
        frames by status.
    """
    report = json.loads((output / "report.json").read_text())["summary"]
    own = evaluate(name, clip, output, stride)
    mean = evaluate(name, clip, mean_head_copy(output, output / "mean_head"), stride)
    focal, rotation = own["4_focal_error_percent"], own["3_rotation_deg"]
    interval = None if report.get("focal_given") else report.get("focal_full_frame_px_95")
    return {
        **{f"frames_{status}": report[status] for status in ("ok", "poor", "lost")},
        **_distances(own, ""),
        **_distances(mean, "mean_"),
        "relative_rotation_degrees": rotation["up_to_constant_offset"]["median"],
        "mesh_rotation_degrees": rotation["icp_residual_rotation"]["median"],
        "focal_percent": focal["signed_mean"],
        "focal_holds": None if interval is None else float(interval[0] <= focal["gt_fx"] <= interval[1]),
        "jitter_mm": own.get("5_jitter_rms_second_difference_mm", {}).get("error"),
        "scale": own["1_scale_mesh_to_gt"],
    }


def _distances(figures: dict[str, Any], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}rigid_mm": figures["1_scan_to_mesh_rigid_mm"]["all_vertices"]["median"],
        f"{prefix}one_scale_mm": figures["1_scan_to_mesh_one_scale_mm"]["all_vertices"]["median"],
    }


def single_threaded() -> dict[str, str]:
    """The environment of a child process whose figures must not depend on the number of cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
