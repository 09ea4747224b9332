"""The demo data: the same every time, complete or absent, and no held-out family in training."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

import export.dataset.emoji
from export.dataset.data import load_dataset
from export.dataset.emoji import Emoji, EmojiDataError, make_emoji_dataset, read_emoji, split_families


@pytest.fixture(scope="module")
def emoji() -> list[Emoji]:
    return read_emoji()


@pytest.fixture(scope="module")
def split(emoji: list[Emoji]) -> dict[str, str]:
    return {one.name: side for one, side in split_families(emoji).items()}


def some(count: int) -> list[Emoji]:
    return read_emoji()[::60][:count]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_there_are_nineteen_hundred_of_nine_classes(emoji: list[Emoji]) -> None:
    assert 1800 < len(emoji) < 2500
    assert len({one.group for one in emoji}) == 9
    assert len({one.name for one in emoji}) == len(emoji)
    assert not any("skin tone" in one.name for one in emoji)


@pytest.mark.parametrize(
    "family",
    [
        ["person running", "man running", "woman running", "woman running facing right"],
        ["astronaut", "man astronaut", "woman astronaut"],
        ["person: red hair", "man: red hair", "woman: red hair"],
        ["merperson", "merman", "mermaid"],
        ["cat", "black cat"],
        ["bird", "black bird", "phoenix"],
        ["keycap: 0", "keycap: 9", "keycap: #"],
        ["family", "family: man, woman, boy", "family: adult, child"],
        ["couple with heart", "couple with heart: woman, man"],
        ["men holding hands", "women holding hands", "people holding hands"],
        ["Santa Claus", "Mrs. Claus", "Mx Claus"],
        ["pregnant woman", "pregnant man", "pregnant person"],
        ["man dancing", "woman dancing"],
    ],
)
def test_a_family_is_on_one_side(split: dict[str, str], family: list[str]) -> None:
    assert len({split[name] for name in family}) == 1


def test_gender_variants_are_on_one_side(emoji: list[Emoji], split: dict[str, str]) -> None:
    for one in emoji:
        for gender in ("man ", "woman "):
            partner = one.name.replace(gender, "person ", 1)
            if one.name.startswith(gender) and partner in split:
                assert split[one.name] == split[partner]


def test_a_fifth_of_every_class_is_held_out(emoji: list[Emoji], split: dict[str, str]) -> None:
    sizes = Counter(one.group for one in emoji)
    held_out = Counter(one.group for one in emoji if split[one.name] == "test")
    for group, size in sizes.items():
        assert 0.15 < held_out[group] / size < 0.25, group


def test_it_is_made_once_and_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.dataset.emoji, "read_emoji", lambda: some(30))
    first = make_emoji_dataset(tmp_path / "first", image_size=32)
    before = contents(first), (first / "manifest.csv").stat().st_mtime_ns
    make_emoji_dataset(first, image_size=32)
    assert (contents(first), (first / "manifest.csv").stat().st_mtime_ns) == before
    assert contents(make_emoji_dataset(tmp_path / "second", image_size=32)) == before[0]
    assert "CC BY-SA 4.0" in (first / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    dataset = load_dataset(first)
    assert len(dataset.rows) == 30 == len({row.group for row in dataset.rows})
    make_emoji_dataset(first, image_size=40)
    assert load_dataset(first).digest != dataset.digest


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EmojiDataError, match="empty or new"):
        make_emoji_dataset(tmp_path)
    assert contents(tmp_path).keys() == {"thesis.txt"}


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        export.dataset.emoji, "read_emoji", lambda: [*some(3), Emoji(("0041",), "the letter A", "Symbols")]
    )
    with pytest.raises(EmojiDataError, match="the letter A"):
        make_emoji_dataset(tmp_path / "data")
    assert not list(tmp_path.iterdir())
