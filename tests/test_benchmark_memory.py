"""The memory benchmark: looping a clip, counting a process with its children, and one short run."""

import subprocess
import sys
from pathlib import Path

import clips

from benchmarks import memory
from stages import video

_HOLD = "import sys; held = bytearray({size}); print('ready', flush=True); sys.stdin.read()"


def test_loop_has_the_length_asked_for(tmp_path: Path) -> None:
    clip = clips.encode(clips.plain(10), tmp_path / "a.mp4", "-bf", "0")
    memory.loop_clip(clip, tmp_path / "b.mp4", 25, 25.0)
    levels = [clips.level(frame) for frame in video.decode_frames(tmp_path / "b.mp4", 25.0)]
    assert abs(len(levels) - 25) <= 1
    assert levels[10:20] == levels[:10]


def test_children_are_counted() -> None:
    held = 64 << 20
    inner = _HOLD.format(size=held)
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = memory.resident_bytes(process.pid)
        process.communicate("")
    assert held < found < 3 * held
    assert memory.resident_bytes(process.pid) == 0


def test_table_gives_ratios() -> None:
    rows = [{"frames": 250, "seconds": 25.0, "peak_mib": 500.0}, {"frames": 500, "seconds": 40.0, "peak_mib": 510.0}]
    assert memory.table(rows).splitlines()[2].split() == ["500", "510", "1.020", "80.0"]


def test_short_run(tmp_path: Path) -> None:
    clips.encode(clips.swaying(8, 320), tmp_path / "in/video.mp4", "-bf", "0")
    (tmp_path / "a.yml").write_text(f"actor: {tmp_path / 'in'}\n")
    row = memory.measure(tmp_path / "a.yml", [], 12, "frames")
    assert abs(row["frames"] - 12) <= 1
    assert 50 < row["peak_mib"] < 2000
