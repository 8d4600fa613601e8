"""The benchmark of MICA's runtimes."""

from pathlib import Path

import pytest

from benchmarks import mica


def test_both_runtimes_are_timed_in_turns(mica_tar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mica.main(["--weights", str(mica_tar), "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert "given weights" in lines[0]
    assert "torch 2" in lines[1]
    assert "onnxruntime" in lines[1]
    assert [line.partition(":")[0] for line in lines[2:]] == ["1 picture", "8 pictures"]
    assert all(float(line.rpartition(" ")[2]) < 1e-4 for line in lines[2:])


def test_random_weights_are_a_checkpoint(tmp_path: Path) -> None:
    network = mica.load_network(mica.random_weights(tmp_path / "mica.tar"))
    assert network.regressor.output.weight.shape == (300, 300)
