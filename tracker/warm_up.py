"""Libraries and compiled kernels made ready while something else runs."""

from collections.abc import Iterator


def steps() -> Iterator[None]:
    """Imports the solver and runs its kernels, a part of it at every step.

    The caller may stop between steps; nothing is kept but what the process has loaded.
    """
    yield from libraries()
    yield from kernels()


def libraries() -> Iterator[None]:
    """The imports of `steps`."""
    import torch  # noqa: F401

    yield
    import tracker.calibrate
    import tracker.texture
    import tracker.track  # noqa: F401

    yield


def kernels() -> Iterator[None]:
    """The rest of `steps`: each kernel once, on a made-up clip.

    Numba reads a kernel from its cache when it is first called: together a second, as much as torch takes to import.
    """
    import torch

    import tracker.texture
    import tracker.track
    from tracker.calibrate import solve_appearance, solve_geometry
    from tracker.clip import FrameInput, held_unknowns
    from tracker.detectors.segmentation import PersonMatte
    from tracker.frame_solver import FrameSolver
    from tracker.head.generic import load_generic
    from tracker.joint_problem import CalibrationTask, CameraPrior
    from tracker.landmark_set import landmark_set
    from tracker.residuals.projection import project_state
    from tracker.settings import CalibrationSettings, EnergySettings, TrackingSettings
    from tracker.state import neutral_state

    model = load_generic().with_modes(2, 50)
    landmarks = landmark_set(model, with_sparse=False)
    camera = CameraPrior(200.0, 0.1, (64.0, 64.0), 0.0)
    dense = torch.zeros(478, 2, dtype=torch.float64)
    dense[landmarks.dense] = project_state(landmarks.template.points, neutral_state(model), camera.intrinsics)
    ramp = torch.arange(128 * 128 * 3).reshape(128, 128, 3).to(torch.uint8)
    frame = FrameInput(ramp.numpy(), dense.numpy(), None)
    task = CalibrationTask(
        model=model,
        landmarks=landmarks,
        frames=(frame, frame),
        camera=camera,
        shape=None,
        optimize_shape=True,
        held=held_unknowns(model, True),
        energy=EnergySettings(),
        settings=CalibrationSettings(frames=2, rounds=1, joint_steps=1),
        tracking=TrackingSettings(samples=400, levels=1, steps=1),
    )
    yield
    geometry = solve_geometry(task)
    yield
    calibration = solve_appearance(task, geometry)
    yield
    solver = FrameSolver(calibration.clip, task.energy, task.tracking, task.held)
    past = tracker.track.Past(None, None, "")
    for _ in range(2):
        tracked = tracker.track.track_frame(solver, frame, past)
        past = past.behind(tracked)
    yield
    tracker.texture.bake_texture(calibration.clip, task.frames, calibration.states, 64)
    yield
    # The calibration's outline follows the person's matte.
    with PersonMatte() as segmentation:
        segmentation.matte(frame.image)
