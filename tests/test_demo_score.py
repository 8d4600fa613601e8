"""The score measures what it says: each figure against a truth or a track that was changed by a known amount."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import files
from stages.demo import main
from stages.demo_score import estimates_of, score, table, truth_path
from stages.subject import Subject
from tracker.demo.score import Estimate, along_and_across, apertures_mm, best_rotation, score_frame, size_factor
from tracker.demo.score_time import blink_depths, jitter, score_time, slope
from tracker.demo.truth import load_truth
from tracker.frame_file import load_frame
from tracker.head.generic import load_generic
from tracker.rotations import exp_so3


@pytest.fixture(scope="module")
def model():
    return load_generic()


@pytest.fixture
def exact(demo_track, model):
    return estimates_of(demo_track[0], model)


@pytest.fixture
def copied(demo_track, tmp_path) -> Subject:
    """The perfect track in folders that a test may change."""
    subject = demo_track[0]
    for name, folder in (("input", subject.input_dir), ("output", subject.output_dir)):
        shutil.copytree(folder, tmp_path / name)
    return Subject(tmp_path / "input", tmp_path / "output", 1, 0)


def _turn(degrees: float) -> np.ndarray:
    return exp_so3(torch.tensor([0.0, np.deg2rad(degrees), 0.0], dtype=torch.float64)).numpy()


def test_best_rotation_is_the_one_that_was_applied() -> None:
    points = np.random.default_rng(0).standard_normal((30, 3))
    turn = exp_so3(torch.tensor([0.4, -0.9, 0.3], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(best_rotation(points, points @ turn.T + 3.0), turn, atol=1e-12)
    np.testing.assert_allclose(best_rotation(points @ turn.T, points), turn.T, atol=1e-12)
    mirrored = best_rotation(points, points * [-1, 1, 1])
    assert np.linalg.det(mirrored) == pytest.approx(1)


def test_mesh_rotation_sees_the_turned_face_and_only_that(demo_track, exact, model) -> None:
    truth, one = demo_track[2], exact[3]
    assert score_frame(model, truth, one).mesh_rotation_degrees < 0.01
    turned = score_frame(model, truth, dataclasses.replace(one, R=_turn(3.0) @ one.R))
    assert turned.mesh_rotation_degrees == pytest.approx(3.0, abs=0.01)
    far = score_frame(model, truth, dataclasses.replace(one, t=1.2 * one.t))
    assert far.mesh_rotation_degrees < 0.01
    assert far.camera_mm > 50
    # An identity that turns the face in head space, with a pose that turns it back, looks right.
    face = model.regions["face"].numpy()
    shape = one.params.shape.clone()
    shape[:8] += torch.tensor([2.0, -2.0, 1.5, -1.5, 2.0, -2.0, 1.0, 2.0])
    params = dataclasses.replace(one.params, shape=shape)
    true, other = (model.vertices(p).double().numpy()[face] for p in (one.params, params))
    counter = one.R @ best_rotation(other, true)
    score_of_both = score_frame(model, truth, dataclasses.replace(one, params=params, R=counter))
    assert score_of_both.mesh_rotation_degrees < 0.01


def test_size_factor() -> None:
    points = np.random.default_rng(1).standard_normal((50, 3))
    turn = _turn(40.0)
    assert size_factor(points, 1.03 * points @ turn.T + 2) == pytest.approx(1.03)
    assert size_factor(1.03 * points, points) == pytest.approx(1 / 1.03)


def test_along_and_across() -> None:
    normals = np.array([[0.0, 0, 1], [0.6, 0.8, 0]])
    along, across = along_and_across(np.array([[3.0, 4, -2], [0.6, 0.8, 5]]), normals)
    np.testing.assert_allclose(along, [2, 1])
    np.testing.assert_allclose(across, [5, 5], atol=1e-12)


def test_error_parts_of_a_changed_head(demo_track, exact, model) -> None:
    truth, one = demo_track[2], exact[3]
    right = score_frame(model, truth, one)
    assert right.scale == pytest.approx(1, abs=1e-5)
    shape = one.params.shape.clone()
    shape[2] += 2.0
    changed = score_frame(model, truth, dataclasses.replace(one, params=dataclasses.replace(one.params, shape=shape)))
    assert changed.normal_mm > 0.05
    assert changed.tangential_mm > 0.05
    assert max(changed.normal_mm, changed.tangential_mm) < changed.vertex_mm * 1.5


def test_apertures_follow_lids_and_jaw(model) -> None:
    rest = model.neutral()
    open_mm = apertures_mm(model, rest)
    assert 6 < open_mm[0] < 14
    assert open_mm[0] == pytest.approx(open_mm[1], abs=0.5)
    left_shut = dataclasses.replace(rest, eyelids=torch.tensor([1.0, 0.0]))
    shut_mm = apertures_mm(model, left_shut)
    assert shut_mm[0] < 0.25 * open_mm[0]
    assert shut_mm[1] == pytest.approx(open_mm[1], abs=1e-3)
    jaw = exp_so3(torch.tensor([0.2, 0.0, 0.0]))
    assert apertures_mm(model, dataclasses.replace(rest, jaw=jaw))[2] > open_mm[2] + 8
    pointless = dataclasses.replace(
        model,
        landmarks478=dataclasses.replace(
            model.landmarks478,
            faces=model.landmarks478.faces[:0],
            bary=model.landmarks478.bary[:0],
            indices=model.landmarks478.indices[:0],
        ),
    )
    assert np.isnan(apertures_mm(pointless, rest)).all()


def test_jitter_is_the_second_difference_beyond_the_truths(demo_track, exact, model) -> None:
    truth = demo_track[2]
    every = np.ones(len(exact), bool)

    def moved(shifts: np.ndarray) -> dict[str, float]:
        track = [dataclasses.replace(e, t=e.t + shift) for e, shift in zip(exact, shifts, strict=True)]
        return jitter(model, truth, track, every)

    still = moved(np.zeros((len(exact), 3)))
    assert still["jitter_mm"] < 0.005
    assert still["jitter_found_mm"] == pytest.approx(still["jitter_true_mm"], abs=0.005)
    assert still["jitter_true_mm"] > 0.05
    # A constant offset and a steady drift are no jitter.
    drift = np.arange(len(exact))[:, None] * np.array([0.001, -0.002, 0.003]) + 0.01
    assert moved(drift)["jitter_mm"] < 0.005
    # To and fro by a millimetre: x(p) - 2 x(q) + x(r) = 4 mm.
    shaking = np.where(np.arange(len(exact))[:, None] % 2, 0.001, -0.001)
    assert moved(shaking * [2, 0, 0])["jitter_mm"] == pytest.approx(8, rel=1e-3)
    assert moved(shaking * [2, 0, 0])["jitter_xy_mm"] == pytest.approx(8, rel=1e-3)
    assert moved(shaking * [0, 0, 1])["jitter_mm"] == pytest.approx(4, rel=1e-3)
    assert moved(shaking * [0, 0, 1])["jitter_xy_mm"] < 0.005


def test_jitter_leaves_out_what_does_not_count(demo_track, exact, model) -> None:
    truth = demo_track[2]
    counted = np.ones(len(exact), bool)
    counted[3] = False
    track = list(exact)
    track[3] = dataclasses.replace(track[3], t=track[3].t + 1.0)
    # Neither the frame nor a triple across the gap: frames 4, 5, 6 and 0, 1, 2 remain.
    assert jitter(model, truth, track, counted)["jitter_mm"] < 0.005
    assert jitter(model, truth, track, np.ones(len(exact), bool))["jitter_mm"] > 100
    counted[:5] = False
    assert np.isnan(jitter(model, truth, track, counted)["jitter_mm"])


def test_blink_depth_is_found_over_true() -> None:
    closure = np.zeros(40)
    closure[[10, 11, 12]], closure[[25, 26, 27]] = [0.7, 1.0, 0.7], [0.7, 1.0, 0.7]
    true = 10 * (1 - closure)
    halved = 10 * (1 - 0.5 * closure) + 1.5
    np.testing.assert_allclose(blink_depths(closure, true, true), [1, 1])
    np.testing.assert_allclose(blink_depths(closure, true, halved), [0.5, 0.5])
    # A frame late is no error of depth; eight frames late is a blink missed.
    np.testing.assert_allclose(blink_depths(closure, true, np.roll(true, 1)), [1, 1])
    assert blink_depths(closure, true, np.roll(true, 7)).max() < 0.01
    unknown = true.copy()
    unknown[11] = np.nan
    np.testing.assert_allclose(blink_depths(closure, unknown, true), [1])
    assert blink_depths(np.zeros(40), true, true).size == 0


def test_slope_tells_smoothing_from_offset() -> None:
    true = np.array([0.0, 3, 1, 5, np.nan, 2])
    assert slope(true, 0.6 * true + 4) == pytest.approx(0.6)
    assert np.isnan(slope(np.full(6, 2.0), true))


def test_time_score_of_a_smoothed_mouth_and_lazy_lids(demo_track, exact, model) -> None:
    angles = 0.15 * np.abs(np.sin(np.arange(len(demo_track[2]))))
    jaws = exp_so3(torch.from_numpy(np.stack([angles, 0 * angles, 0 * angles], 1))).numpy()
    closed = np.abs(np.cos(np.arange(len(angles))))[:, None].repeat(2, 1).astype(np.float32)
    truth = dataclasses.replace(demo_track[2], jaw=jaws, eyelids=closed)
    every = np.ones(len(exact), bool)

    def track(lids: float, mouth: float) -> list[Estimate]:
        turns = exp_so3(torch.from_numpy(np.stack([mouth * angles, 0 * angles, 0 * angles], 1))).float()
        return [
            dataclasses.replace(
                e,
                params=dataclasses.replace(
                    e.params, eyelids=lids * torch.from_numpy(closed[e.frame]), jaw=turns[e.frame]
                ),
            )
            for e in exact
        ]

    right = score_time(model, truth, track(1.0, 1.0), every)
    assert (right.lip_gain, right.lid_gain) == pytest.approx((1, 1), abs=1e-3)
    assert (right.lip_bias_mm, right.lid_bias_mm) == pytest.approx((0, 0), abs=1e-3)
    found = score_time(model, truth, track(0.5, 0.6), every)
    assert found.lid_gain == pytest.approx(0.5, abs=0.1)
    assert found.lid_bias_mm > 1
    assert found.lip_gain == pytest.approx(0.6, abs=0.1)
    assert found.lip_bias_mm < -1
    assert np.isnan(score_time(model, truth, track(1.0, 1.0), ~every).lip_gain)


def _with_report(subject: Subject, **summary: object) -> dict[str, float]:
    files.write_json(subject.report_path, {"summary": summary, "frames": []})
    return score(subject.input_dir, subject.output_dir)


def test_focal_interval_is_read_and_judged(copied) -> None:
    plain = score(copied.input_dir, copied.output_dir)
    assert "focal_interval_holds" not in plain
    true = load_truth(truth_path(copied.input_dir)).intrinsics.focal_px
    holds = _with_report(copied, focal_full_frame_px_95=[0.9 * true, 1.1 * true], focal_given=False)
    assert holds["focal_interval_holds"] == 1
    assert "holds" in table(holds)
    misses = _with_report(copied, focal_full_frame_px_95=[1.02 * true, 1.1 * true], focal_given=False)
    assert misses["focal_interval_holds"] == 0
    assert "MISSES" in table(misses)
    given = _with_report(copied, focal_full_frame_px_95=[true, true], focal_given=True)
    assert "focal_interval_holds" not in given
    assert "focal_interval_holds" not in _with_report(copied, focal_full_frame_px_95=None, focal_given=False)


def test_frames_called_ok_are_judged_apart(copied) -> None:
    plain = score(copied.input_dir, copied.output_dir)
    assert plain["relative_rotation_degrees_ok_median"] == plain["relative_rotation_degrees_median"]
    assert "ok, 95 %" not in table(plain)
    for index in (2, 3):
        path = copied.checkpoint_path(index)
        frame = load_frame(path)
        turned = _turn(60.0) @ frame["opencv"]["R"][0]
        frame["opencv"]["R"] = turned[None].astype(frame["opencv"]["R"].dtype)
        frame["track"]["status"] = "lost"
        files.save_torch(path, frame)
    found = score(copied.input_dir, copied.output_dir)
    # The two frames turn the rotation that is taken away from all of them, but not from those that are called ok.
    assert found["relative_rotation_degrees_median"] > 5
    assert found["relative_rotation_degrees_ok_p95"] < 0.05
    assert found["rotation_degrees_p95"] > 50 > 0.05 > found["rotation_degrees_ok_p95"]
    assert "ok, 95 %" in table(found)
    for index in copied.frame_indices():
        frame = load_frame(copied.checkpoint_path(index))
        frame["track"]["status"] = "poor"
        files.save_torch(copied.checkpoint_path(index), frame)
    none = score(copied.input_dir, copied.output_dir)
    assert not any("_ok_" in key for key in none)
    assert "ok, 95 %" not in table(none)


def test_frames_without_a_face_are_counted_apart(copied, capsys) -> None:
    path: Path = truth_path(copied.input_dir)
    truth = load_truth(path)
    t = truth.t.copy()
    t[[4, 5], 0] += 1.0
    dataclasses.replace(truth, t=t).save(path)
    summary = score(copied.input_dir, copied.output_dir)
    assert (summary["frames_absent"], summary["absent_claimed"]) == (2, 2)
    assert summary["frames_ok"] == summary["frames_tracked"] == len(truth) - 1
    # The two frames with the truth a metre away are in no median and in no percentile.
    assert summary["camera_mm_p95"] < 0.1
    assert len(files.read_json(copied.output_dir / "score.json")["frames"]) == len(truth) - 3
    assert "frames without the face" in table(summary)
    t[:, 0] += 1.0
    dataclasses.replace(truth, t=t).save(path)
    assert main(["score", str(copied.input_dir), str(copied.output_dir)]) == 1
    assert "nothing to score" in capsys.readouterr().err
