"""The spoken demo data: the same every time, complete or absent; without espeak-ng a clear error."""

from __future__ import annotations

import hashlib
import shutil
import stat
from pathlib import Path

import pytest

import demo.spoken
from demo.pairs import held_out
from demo.spoken import halves, main, make_spoken_dataset
from duoserve import Clip
from export.dataset.data import load_dataset
from export.dataset.emoji import EmojiDataError, read_emoji

needs_espeak = [
    pytest.mark.espeak,
    pytest.mark.skipif(
        not shutil.which("espeak-ng"), reason="no espeak-ng on the PATH, and PyPI has none: apt-get install espeak-ng"
    ),
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 60th emoji: a second's work in place of a minute's."""
    emoji = read_emoji()[::60]
    monkeypatch.setattr(demo.spoken, "read_emoji", lambda: emoji)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


class TestWithEspeak:
    pytestmark = needs_espeak

    def test_the_same_clips_every_time(self, tmp_path: Path) -> None:
        one, two = (make_spoken_dataset(tmp_path / name, progress=False) for name in ("one", "two"))
        assert contents(one) == contents(two) and len(contents(one)) == len(read_emoji()[::60]) + 2
        before = (one / "manifest.csv").stat().st_mtime_ns
        make_spoken_dataset(one, progress=False)
        assert (one / "manifest.csv").stat().st_mtime_ns == before, "made again although it existed"

    def test_they_are_data_to_train_on(self, tmp_path: Path) -> None:
        dataset = load_dataset(make_spoken_dataset(tmp_path / "data", progress=False), progress=False)
        assert dataset.medium == "audio" and {row.split for row in dataset.rows} == {"train", "test"}
        pairs = held_out(tmp_path / "data")
        assert [pair.text for pair in pairs] == [row.text for row in dataset.select("test")]
        assert all(isinstance(pair.image, Clip) for pair in pairs)


@pytest.mark.parametrize(
    ("name", "heard", "read"),
    [
        ("face with tears of joy", "face with tears", "of joy"),
        ("flag: Germany", "flag:", "Germany"),
        ("pretzel", "pretzel", "pretzel"),
    ],
)
def test_a_name_is_half_heard_and_half_read(name: str, heard: str, read: str) -> None:
    assert halves(name) == (heard, read)


def test_without_espeak_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(tmp_path / "data")]) == 1
    assert "error: Expected espeak-ng on the PATH (apt-get install espeak-ng" in capsys.readouterr().err


def test_an_espeak_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "bin" / "espeak-ng"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'no such voice' >&2\nexit 1\n", encoding="utf-8")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    with pytest.raises(EmojiDataError, match=r"Expected espeak-ng to speak .*\. Received: no such voice"):
        make_spoken_dataset(tmp_path / "data", progress=False)
    assert not (tmp_path / "data").exists() and [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/true")
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(EmojiDataError, match="Expected the folder for the demo data to be empty or new"):
        make_spoken_dataset(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
