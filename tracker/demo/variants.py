"""Named clips: the demo clip, and what is hard about real ones, one thing at a time."""

from dataclasses import replace

from tracker.demo.spec import AbsenceSpec, DemoSpec, LightSpec, OccluderSpec

_PERSON = DemoSpec(own_look=True)
_SIDE_LIGHT = LightSpec(
    ambient=0.22, key=0.74, key_degrees=(0.0, 12.0), key_sweep_degrees=80.0, sweep_seconds=1.6, fill=0.03, flicker=0.15
)


def _at_focal_factor(factor: float) -> DemoSpec:
    """A clip through another lens, from the distance at which the head is as large in the picture as usual."""
    return replace(_PERSON, focal_factor=factor, distance_m=_PERSON.distance_m * factor / _PERSON.focal_factor)


VARIANTS: dict[str, tuple[str, DemoSpec]] = {
    "default": ("the clip of `make demo`", DemoSpec()),
    "person": ("a person of the seed's own look", _PERSON),
    "yaw50": ("turns to 50 degrees", replace(_PERSON, yaw_degrees=50.0, body_share=0.3)),
    "yaw70": ("turns to profile, 70 degrees", replace(_PERSON, yaw_degrees=70.0, body_share=0.45)),
    "wide": ("focal length 0.9 x the longer side, near", _at_focal_factor(0.9)),
    "tele": ("focal length 2.5 x the longer side, far", _at_focal_factor(2.5)),
    "talk": (
        "talks almost without turning: focal length hardly observable",
        replace(_PERSON, yaw_degrees=8.0, pitch_degrees=4.0, roll_degrees=3.0, travel_m=0.008),
    ),
    "hand": ("a hand passes before the face", replace(_PERSON, occluder=OccluderSpec("hand"))),
    "board": ("a printed board passes before the face", replace(_PERSON, occluder=OccluderSpec("board"))),
    "away": ("out of the picture for 0.6 s and back", replace(_PERSON, absence=AbsenceSpec())),
    "glasses": ("glasses that mirror a little", replace(_PERSON, glasses=True)),
    "fringe": ("hair over the forehead", replace(_PERSON, fringe=True)),
    "sidelight": ("a hard light that swings from side to side", replace(_PERSON, light=_SIDE_LIGHT)),
    "blur": ("quick turns, shutter open for 0.7 of a frame", replace(_PERSON, pace=1.8, exposure=0.7)),
    "dark": ("little light, much noise", replace(_PERSON, brightness=0.5, noise=0.02)),
    "crushed": ("strong compression, crf 34", replace(_PERSON, crf=34)),
    "hard": (
        "glasses, fringe, a hand, moving side light, motion blur, noise, compression and turns to 40 degrees",
        DemoSpec(
            own_look=True,
            yaw_degrees=40.0,
            body_share=0.3,
            exposure=0.5,
            noise=0.012,
            crf=26,
            glasses=True,
            fringe=True,
            occluder=OccluderSpec("hand"),
            light=replace(_SIDE_LIGHT, key_sweep_degrees=55.0, sweep_seconds=3.0, ambient=0.30, key=0.66),
        ),
    ),
}


def variant(name: str, seed: int, frame_count: int) -> DemoSpec:
    """A named clip's spec for a seed and length; `name` is a key of `VARIANTS`."""
    return replace(VARIANTS[name][1], seed=seed, frame_count=frame_count)
