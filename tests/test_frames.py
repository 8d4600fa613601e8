"""Stage frames: containers, time, rotation, given folders, and what can be wrong with a video."""

from pathlib import Path

import clips
import numpy as np
import pytest
from loguru import logger

from stages import files, frames, pipeline, video
from stages.subject import Subject
from tracker.config import Config
from tracker.errors import InputError


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "in").mkdir()
    return Subject(tmp_path / "in", tmp_path / "out")


def _run(subject: Subject, **config: object) -> list[np.ndarray]:
    pipeline.run_stages(subject, Config(actor="x", **config), ("frames",), "cpu", False)
    return [files.read_image(path) for path in subject.source_paths()]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_containers(subject: Subject, suffix: str) -> None:
    clips.encode(clips.plain(10), subject.input_dir / f"video{suffix}")
    pictures = _run(subject)
    assert [clips.level(picture) for picture in pictures] == list(range(10))
    assert [path.name for path in subject.source_paths()][:2] == ["00001.png", "00002.png"]
    assert pictures[0].shape == (120, 160, 3)


@pytest.mark.parametrize(("fps", "expected"), [(12.5, [0, 2, 4, 6, 8]), (50, [i // 2 for i in range(20)])])
def test_frame_rate(subject: Subject, fps: float, expected: list[int]) -> None:
    clips.encode(clips.plain(10), subject.input_dir / "video.mp4")
    levels = [clips.level(picture) for picture in _run(subject, fps=fps)]
    assert len(levels) == len(expected)
    # The filter rounds to the nearest input frame; at 12.5 Hz of 25 Hz every second one, from the first or the second.
    assert np.abs(np.array(levels) - expected).max() <= 1
    assert (np.diff(levels) >= 0).all()


def test_variable_frame_rate_is_honoured(subject: Subject) -> None:
    # Frames 0 to 4 at 25 Hz, then the clock stands still for half a second, then frames 5 to 9.
    slow = "setpts='if(lt(N,5),N,N+12.5)/25/TB'"
    clips.encode(clips.plain(10), subject.input_dir / "video.mkv", "-vf", slow, "-fps_mode", "vfr")
    levels = [clips.level(picture) for picture in _run(subject)]
    assert abs(len(levels) - 22) <= 1
    assert 12 <= levels.count(4) <= 15
    assert [levels.count(i) for i in (0, 1, 2, 3, 6, 7, 8)] == [1] * 7


def test_rotation_metadata_is_honoured(subject: Subject, tmp_path: Path) -> None:
    upright = np.zeros((120, 160, 3), np.uint8)
    upright[:40, :40] = 255  # a white corner at the top left
    plain = clips.encode([upright] * 5, tmp_path / "plain.mp4")
    rotated = subject.input_dir / "video.mp4"
    clips.ffmpeg("-display_rotation:v:0", "90", "-i", str(plain), "-c", "copy", str(rotated))
    picture = _run(subject)[0]
    assert picture.shape == (160, 120, 3)
    # Turned by 90 degrees counter-clockwise the corner is at the bottom left.
    assert picture[-20:, :20].mean() > 200
    assert picture[:20, :20].mean() < 50


def test_jpg(subject: Subject) -> None:
    clips.encode(clips.plain(5), subject.input_dir / "video.mp4")
    pictures = _run(subject, source_format="jpg")
    assert [path.suffix for path in subject.source_paths()] == [".jpg"] * 5
    assert [clips.level(picture) for picture in pictures] == list(range(5))


def test_given_source_folder_is_used_and_never_touched(subject: Subject) -> None:
    for i, picture in enumerate(clips.plain(3)):
        files.write_image(subject.source_dir / f"shot_{i}.jpg", picture)
    clips.encode(clips.plain(10), subject.input_dir / "video.mp4")
    before = [(path, path.stat().st_mtime_ns) for path in subject.source_paths()]
    assert len(_run(subject)) == 3
    _run(subject, fps=10)
    pipeline.run_stages(subject, Config(actor="x"), ("frames",), "cpu", force=True)
    assert [(path, path.stat().st_mtime_ns) for path in subject.source_paths()] == before


def test_extracted_frames_that_the_user_changed_are_the_users(subject: Subject) -> None:
    clips.encode(clips.plain(10), subject.input_dir / "video.mp4")
    _run(subject)
    for path in subject.source_paths()[5:]:
        path.unlink()
    assert len(_run(subject)) == 5
    assert len(_run(subject, fps=10)) == 5


def test_another_video_replaces_all_frames(subject: Subject) -> None:
    clips.encode(clips.plain(10), subject.input_dir / "video.mp4")
    assert len(_run(subject)) == 10
    clips.encode(clips.plain(4), subject.input_dir / "video.mp4")
    assert len(_run(subject)) == 4
    assert [path.name for path in subject.input_dir.iterdir() if "source" in path.name] == ["source"]


def test_one_picture_is_a_clip_of_one_frame(subject: Subject) -> None:
    files.write_image(subject.input_dir / "image.jpg", clips.portrait())
    assert [picture.shape for picture in _run(subject)] == [(512, 512, 3)]


def test_actor_that_is_one_file(tmp_path: Path) -> None:
    clip = clips.encode(clips.plain(3), tmp_path / "talk.mp4")
    subject = Subject.of(Config(actor=str(clip), save_folder=str(tmp_path / "out"), config_name="talk"))
    assert len(_run(subject)) == 3
    assert subject.source_dir == tmp_path / "talk" / "source"


def test_video_by_name_wins_among_several(subject: Subject) -> None:
    clips.encode(clips.plain(3), subject.input_dir / "video.mp4")
    clips.encode(clips.plain(5), subject.input_dir / "raw.mov")
    assert len(_run(subject)) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no video; looked for source/ with pictures, video\.mp4"),
        (["notes.txt"], "no video; looked for"),
        (["a.mp4", "b.mov"], r"several clips \(a\.mp4, b\.mov\); keep one, or name it video\.mp4"),
    ],
)
def test_no_or_several_videos(subject: Subject, names: list[str], message: str) -> None:
    for name in names:
        (subject.input_dir / name).write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        _run(subject)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nobody: no such folder; make it and put the video there"):
        _run(Subject(tmp_path / "nobody", tmp_path / "out"))


def test_truncated_mp4_without_its_index(subject: Subject) -> None:
    path = clips.encode(clips.swaying(10), subject.input_dir / "video.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"video\.mp4: truncated mp4 \(its index, the moov atom"):
        _run(subject)
    assert not subject.source_dir.exists()


def test_truncated_mp4_with_its_index_gives_what_is_there(subject: Subject) -> None:
    path = clips.encode(clips.swaying(50), subject.input_dir / "video.mp4", "-movflags", "faststart", "-g", "10")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    found = len(_run(subject))
    logger.remove(sink)
    assert 10 <= found <= 40
    assert f"{found} of 50 frames could be decoded, {50 - found} are lost" in "".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"the video is empty \(0 bytes\)"), (b"words, not a video" * 50, "not a video that ffmpeg can read")],
)
def test_not_a_video(subject: Subject, content: bytes, message: str) -> None:
    (subject.input_dir / "video.mp4").write_bytes(content)
    with pytest.raises(InputError, match=message):
        _run(subject)


def test_sound_alone(subject: Subject) -> None:
    clips.ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(subject.input_dir / "video.mp4"))
    with pytest.raises(InputError, match="no video stream in it"):
        _run(subject)


def test_tiny_picture(subject: Subject) -> None:
    files.write_image(subject.input_dir / "image.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"image\.png: an image of 40 x 40 pixels is too small; at least 64"):
        _run(subject)
    assert not subject.source_dir.exists()
    assert (subject.input_dir / "image.png").exists()


def test_leftovers_of_a_kill_are_cleaned(subject: Subject) -> None:
    clips.encode(clips.plain(4), subject.input_dir / "video.mp4")
    files.write_image(subject.input_dir / "source.123.tmp" / "00009.png", clips.plain(1)[0])
    assert len(_run(subject)) == 4
    assert list(subject.input_dir.glob("*.tmp")) == []


def test_duration_is_read(tmp_path: Path) -> None:
    path = clips.encode(clips.plain(10), tmp_path / "a.mp4")
    assert video.probe(path).frames_at(25) == 10
    assert video.VideoInfo(None).frames_at(25) is None


def test_config_part_names_what_matters() -> None:
    assert frames.config_part(Config(actor="x")) == {"fps": 25.0, "source_format": "png"}
