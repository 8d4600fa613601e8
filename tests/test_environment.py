"""environment.yml and pyproject.toml ask for the same versions."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"pytorch": "torch"}


def _pins(requirements: list[str]) -> dict[str, str]:
    pins = {}
    for requirement in requirements:
        match = re.match(r"^([A-Za-z0-9_-]+)(.*)$", requirement)
        assert match, requirement
        pins[CONDA_NAMES.get(match[1], match[1])] = match[2].replace(" ", "")
    return pins


def test_environment_pins_equal_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M)
    python = re.search(r'^requires-python = "(.*)"', text, re.M)
    assert block
    assert python
    wanted = _pins(re.findall(r'^\s*"([^"]+)"', block[1], re.M))

    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in conda if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    found = _pins(plain + pip)
    assert found.pop("python") == python[1]
    assert found.pop("pip") == ""
    assert "pytorch3d" in found
    del found["pytorch3d"]
    assert found == wanted
