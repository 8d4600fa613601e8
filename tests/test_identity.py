"""Stage identity: which shape code counts, and what the record says."""

from pathlib import Path

import numpy as np
import pytest

from stages import files, pipeline
from stages.subject import Subject
from tracker.config import Config
from tracker.errors import InputError


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "in").mkdir()
    return Subject(tmp_path / "in", tmp_path / "out")


def _run(subject: Subject, **config: object) -> dict[str, object]:
    pipeline.run_stages(subject, Config(actor="x", **config), ("identity",), "cpu", False)
    return files.read_json(subject.identity_record_path)


def test_code_is_used_with_flame(subject: Subject) -> None:
    code = np.linspace(-2, 2, 300).astype(np.float32)
    files.write_array(subject.identity_path, code)
    record = _run(subject, head="flame")
    assert record["source"] == "file"
    np.testing.assert_allclose(record["shape"], code, atol=1e-6)


def test_code_does_not_apply_to_another_head(subject: Subject) -> None:
    files.write_array(subject.identity_path, np.zeros(300))
    record = _run(subject, head="generic")
    assert (record["source"], record["shape"]) == ("joint", None)
    assert "is a FLAME code and the head model is generic" in str(record["reason"])


def test_without_a_code_identity_is_estimated(subject: Subject) -> None:
    record = _run(subject, head="flame")
    assert (record["source"], record["reason"]) == ("joint", "no identity.npy; identity is estimated with the camera")


def test_a_code_that_comes_later_is_noticed(subject: Subject) -> None:
    assert _run(subject, head="flame")["source"] == "joint"
    files.write_array(subject.identity_path, np.ones(300))
    assert _run(subject, head="flame")["source"] == "file"


@pytest.mark.parametrize("head", ["flame", "generic"])
def test_wrong_size_is_refused_whatever_the_head(subject: Subject, head: str) -> None:
    files.write_array(subject.identity_path, np.zeros(100))
    with pytest.raises(InputError, match=r"identity\.npy: expected \(300,\) numbers, found \(100,\) float64"):
        _run(subject, head=head)


def test_mica_weights_are_said_to_be_unused(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_bytes(tmp_path / "assets" / "mica.tar", b"weights")
    monkeypatch.chdir(tmp_path)
    assert "mica.tar is not used by this version" in str(_run(subject)["reason"])
