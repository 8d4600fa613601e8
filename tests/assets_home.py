"""The command that the tests of `run_tracking.py assets` run."""

import pytest

import run_tracking


def run_assets(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_tracking.main(["assets", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err
