"""Every bad row is named with its line and reason, all in one error, before anything is trained."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import export.dataset.data
from duoserve.contract import PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from export.dataset.data import Dataset, encode, load_dataset
from export.dataset.rows import DataError
from export.dataset.split import hold_out
from export.training.tokenizer import train_tokenizer
from tests.training.conftest import picture

Make = Callable[..., Path]
SPLIT = "image,text,label,split"
GOOD = [["good.png", "a text", "a", "train"], ["also.png", "b text", "b", "train"], ["third.png", "c", "a", "test"]]


def problems(folder: Path) -> list[tuple[int, str]]:
    with pytest.raises(DataError) as caught:
        load_dataset(folder)
    return [(problem.line, problem.reason) for problem in caught.value.problems]


def test_all_bad_rows_are_in_one_error(folder: Make) -> None:
    root = folder(
        [
            *GOOD,
            ["absent.png", "text", "a", "train"],
            ["good.png", " ", "a", "train"],
            ["good.png", "text", "", "train"],
            ["good.png", "text", "a", "dev"],
            ["good.png", "text", "a"],
            ["broken.png", "text", "a", "train"],
            ["../outside.png", "text", "a", "train"],
            ["/etc/hostname", "text", "a", "train"],
            ["link.png", "text", "a", "train"],
            ["text.png", "text", "a", "train"],
            ["good.png", "text", "never trained", "test"],
            ["", "", "a", "train"],
        ],
        SPLIT,
    )
    (root.parent / "outside.png").write_bytes(picture((1, 2, 3)))
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "broken.png").write_bytes(picture((1, 2, 3))[:-200])
    (root / "text.png").write_text("not an image")
    found = problems(root)
    expected = [
        (5, "does not exist"),
        (6, "text is empty"),
        (7, "label is empty"),
        (8, "'dev'"),
        (9, "expected 4 columns, received 3"),
        (10, "broken.png"),
        (11, "outside the folder"),
        (12, "outside the folder"),
        (13, "outside the folder"),
        (14, "JPEG, PNG or WebP"),
        (15, "in no training row"),
        (16, "image is empty"),
        (16, "text is empty"),
    ]
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, reason), (_, part) in zip(found, expected, strict=True):
        assert part in reason


def test_a_long_list_is_cut_in_the_text_and_whole_in_the_error(folder: Make) -> None:
    root = folder([["absent.png", "text", "a"]] * 500)
    with pytest.raises(DataError, match="and 480 more") as caught:
        load_dataset(root)
    assert len(caught.value.problems) == 500 and str(caught.value).count("\n") < 25
    assert "Received 500 invalid" in str(caught.value)


@pytest.mark.parametrize("header", ["image,text", "image,text,label,splt", "image,text,label,label", "", "a,b,c"])
def test_other_columns_are_refused(folder: Make, header: str) -> None:
    with pytest.raises(DataError, match="Expected the columns image,text,label"):
        load_dataset(folder(GOOD, header))


def test_columns_may_come_in_any_order_from_excel(folder: Make) -> None:
    root = folder([])
    text = "split,label,image,text\r\ntrain,a,good.png,x\r\n\r\ntrain,b,also.png,y\r\ntest,a,third.png,z\r\n"
    (root / "manifest.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert [(row.line, row.text, row.split) for row in load_dataset(root).rows] == [
        (2, "x", "train"),
        (4, "y", "train"),
        (5, "z", "test"),
    ]


def test_a_text_over_two_lines_does_not_shift_the_line_numbers(folder: Make) -> None:
    root = folder([["good.png", "two\nlines", "a", "train"], ["absent.png", "x", "a", "train"], *GOOD], SPLIT)
    assert [line for line, _ in problems(root)] == [4]


def test_bytes_that_are_not_text_are_named(folder: Make) -> None:
    root = folder(GOOD, SPLIT)
    good = (root / "manifest.csv").read_bytes()
    (root / "manifest.csv").write_bytes(good + b"good.png,caf\xe9,a,train\ngood.png,nu\0l,a,train\n")
    (five, not_utf8), (six, null) = problems(root)
    assert (five, six) == (5, 6) and "not UTF-8: byte 0xe9 at column 13" in not_utf8 and "NUL" in null


def test_an_open_quote_is_named(folder: Make) -> None:
    root = folder(GOOD, SPLIT)
    with (root / "manifest.csv").open("a") as file:
        file.write('good.png,"open,a,train\n')
    ((_, reason),) = problems(root)
    assert "not CSV" in reason


def test_data_that_nothing_can_be_learned_from_is_refused(folder: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="at least two labels"):
        load_dataset(folder([["good.png", "x", "a", "train"], ["also.png", "x", "a", "test"]], SPLIT))
    with pytest.raises(DataError, match="at least two labels"):
        load_dataset(folder([]))
    with pytest.raises(DataError, match="at least one held-out row"):
        load_dataset(folder([row[:3] for row in GOOD]))


def test_without_a_split_a_share_of_every_class_is_held_out(squares: Path, tmp_path: Path) -> None:
    shutil.copytree(squares / "images", tmp_path / "images")
    lines = (squares / "manifest.csv").read_text().splitlines()
    without = "\n".join(line.rpartition(",")[0] for line in lines)
    (tmp_path / "manifest.csv").write_text(without)
    first, again, other = (load_dataset(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.digest != other.digest
    assert Counter(row.label for row in first.select("test")) == {"red": 4, "green": 4, "blue": 4}


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("0123456789")), max_size=60),
    fraction=st.floats(0, 0.95),
)
def test_a_group_is_never_divided_and_every_class_keeps_one(rows: list[tuple[str, str]], fraction: float) -> None:
    held_out = hold_out(rows, fraction)
    group_side = {(group, side) for (_, group), side in zip(rows, held_out, strict=True)}
    assert len(group_side) == len({group for _, group in rows})
    assert not rows or not all(held_out)


def test_rows_with_one_image_stay_together(folder: Make) -> None:
    rows = [[f"{number % 10}.png", f"text {number}", "ab"[number % 2]] for number in range(60)]
    root = folder(rows)
    for number in range(10):
        (root / f"{number}.png").write_bytes(picture((10, 200, 30), seed=number))
    dataset = load_dataset(root)
    sides = {(row.image, row.split) for row in dataset.rows}
    assert len(sides) == 10 and dataset.select("test")


GROUPS = "image,text,label,group"


def test_rows_of_one_group_stay_together(folder: Make) -> None:
    """Though every picture and every text is another."""
    rows = [[f"{number}.png", f"text {number}", "ab"[number % 2], f"family {number // 6}"] for number in range(60)]
    root = folder(rows, GROUPS)
    for number in range(60):
        (root / f"{number}.png").write_bytes(picture((10, 200, 30), seed=number))
    dataset = load_dataset(root)
    again = dataset.resplit(0.3, salt="another")
    for one in (dataset, again):
        assert len({(row.group, row.split) for row in one.rows}) == 10 and one.select("test")
    assert [row.split for row in again.rows] != [row.split for row in dataset.rows]


def test_a_group_on_both_sides_of_a_given_split_is_named(folder: Make) -> None:
    rows = [[*GOOD[0], "x"], [*GOOD[1], ""], [*GOOD[2], "x"]]
    assert problems(folder(rows, f"{SPLIT},group")) == [(4, "group 'x' is in both splits: line 2 is for training")]
    good = load_dataset(folder([[*GOOD[0], "x"], [*GOOD[1], ""], [*GOOD[2], "y"]], f"{SPLIT},group"))
    assert [row.group for row in good.rows][::2] == ["x", "y"]


def test_a_name_is_one_name_composed_or_decomposed(folder: Make) -> None:
    rows = [[*GOOD[0], "\u00e9"], [*GOOD[1], "e\u0301"], [*GOOD[2], ""]]
    rows[0][2], rows[1][2], rows[2][2] = "caf\u00e9", "cafe\u0301 ", "cafe\u0301"
    rows.append(["good.png", "x", "tea", "train", ""])
    dataset = load_dataset(folder(rows, f"{SPLIT},group"))
    assert dataset.labels == ("caf\u00e9", "tea") and {row.group for row in dataset.rows[:2]} == {"\u00e9"}


def test_the_digest_is_of_contents_not_of_names(folder: Make) -> None:
    root = folder(GOOD, SPLIT)
    before = load_dataset(root).digest
    (root / "good.png").rename(root / "renamed.png")
    manifest = root / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("good.png", "renamed.png"))
    assert load_dataset(root).digest == before
    manifest.write_text(manifest.read_text().replace("a text", "another text"))
    changed = load_dataset(root).digest
    (root / "renamed.png").write_bytes(picture((1, 1, 1)))
    assert len({before, changed, load_dataset(root).digest}) == 3


def test_images_of_one_colour_are_counted_on_their_background(folder: Make) -> None:
    root = folder(GOOD, SPLIT)
    assert load_dataset(root).note == ""
    icon = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    icon.paste((0, 0, 0, 255), (10, 10, 30, 30))
    icon.save(root / "also.png")
    assert load_dataset(root).note == ""
    assert load_dataset(root, background=(0, 0, 0)).note == (
        "1 of 3 images have a single colour, with transparent pixels on 0,0,0; the first is 'also.png' in line 3"
    )


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_training_sees_what_the_client_sends(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Whether the pictures fit in memory or not."""
    monkeypatch.setattr(export.dataset.data, "_IN_MEMORY", limit)
    tokenizer = train_tokenizer((row.text for row in dataset.rows), vocabulary=320)
    preprocessor = Preprocessor(PreprocessingSpec(16, 12, 5, tokenizer, dataset.labels, 1))
    arrays = encode(dataset.rows, preprocessor)
    for row, image, tokens, position in zip(dataset.rows, arrays.images, arrays.tokens, arrays.classes, strict=True):
        np.testing.assert_array_equal(image, preprocessor.image(row.image))
        np.testing.assert_array_equal(tokens, preprocessor.tokens(row.text))
        assert dataset.labels[position] == row.label


def test_an_image_that_vanishes_after_the_check_is_named(folder: Make) -> None:
    root = folder(GOOD, SPLIT)
    dataset = load_dataset(root)
    (root / "also.png").unlink()
    preprocessor = Preprocessor(PreprocessingSpec(8, 8, 5, train_tokenizer(["a b"]), dataset.labels, 1))
    with pytest.raises(DataError, match="line 3"):
        encode(dataset.rows, preprocessor)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_file_is_read_or_refused_by_our_own_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"image,text,label\n" + data)
    with pytest.raises(DataError):
        load_dataset(tmp_path)
