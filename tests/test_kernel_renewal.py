"""Compiled code that numba keeps is made anew when what it was made from has changed, in whichever file that is."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_CALLED = "import numba\n@numba.njit(cache=True)\ndef called():\n    return {value}\n"
_CALLER = """from pathlib import Path
import numba
import called_kernel
from tracker.kernels.options import renew
@numba.njit(cache=True)
def caller():
    return 2 * called_kernel.called()
{renewal}
print(caller(), sum(caller.stats.cache_hits.values()))
"""


def _run(folder: Path) -> list[str]:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(folder)!r}]; import caller_kernel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout.split()


@pytest.mark.parametrize(("renewal", "after"), [("renew(caller, [Path(called_kernel.__file__)])", "10"), ("", "4")])
def test_code_of_a_changed_source_is_dropped(tmp_path: Path, renewal: str, after: str) -> None:
    """Without the renewal numba goes on with what it has: this is what it is there for."""
    (tmp_path / "caller_kernel.py").write_text(_CALLER.format(renewal=renewal))
    (tmp_path / "called_kernel.py").write_text(_CALLED.format(value=2))
    assert _run(tmp_path) == ["4", "0"]
    assert _run(tmp_path) == ["4", "1"]
    (tmp_path / "called_kernel.py").write_text(_CALLED.format(value=5))
    assert _run(tmp_path)[0] == after
    assert _run(tmp_path) == [after, "1"]


def test_kernels_that_call_others_are_renewed() -> None:
    """Every module whose compiled functions use those of another one says so."""
    kernels = [*(ROOT / "tracker/kernels").glob("*.py"), *(ROOT / "tracker").glob("*kernels.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in kernels}
    helpers = {"tracker.kernels.options", "tracker.kernels.__init__"}
    for path in kernels:
        text = path.read_text()
        calls = {name for name in names - helpers if f"from {name} import" in text}
        calls |= {"kernels"} if "from tracker.kernels import" in text else set()
        assert bool(calls) <= ("\nrenew(" in text), path
