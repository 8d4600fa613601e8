"""Usage errors of the programs beside run_tracking.py: one line and exit code 1, without abbreviated options."""

from collections.abc import Callable

import pytest

from stages import demo, landmark_bias
from tracker.head import bfm
from tracker.mica import __main__ as mica


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (mica.main, []),
        (mica.main, ["a.png", "--outp", "out"]),
        (mica.main, ["export", "--foo"]),
        (bfm.main, []),
        (bfm.main, ["albedo", "model.h5"]),
        (bfm.main, ["mesh", "a.obj", "--corr", "c.npz", "--flame", "f", "--output", "o"]),
        (demo.main, []),
        (demo.main, ["make", "clip", "--frame", "3"]),
        (landmark_bias.main, ["--ident", "2"]),
    ],
)
def test_usage_errors_are_one_line(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("see --help")
