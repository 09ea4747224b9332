"""The answer in a manifest: classes, tags, yes or no, scores; and every bad row with its line."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from duoserve.contract import ONE_CLASS, Scores, Tags, YesNo
from export.dataset.data import Dataset, load_dataset
from export.dataset.rows import DataError
from export.dataset.targets import targets

Make = Callable[..., Path]
LABELS = "image,text,label,split"
SCORES = "image,text,price [EUR],age,split"


def row(*said: str, split: str = "train", image: str = "good.png") -> list[str]:
    return [image, "a text", *said, split]


def refused(folder: Path, answer: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(folder, answer=answer)
    return str(caught.value)


def matrix(dataset: Dataset) -> np.ndarray:
    return targets(dataset.rows, dataset.answer, dataset.labels)


def test_a_bar_in_a_label_makes_tags(folder: Make) -> None:
    rows = [row("round| red"), row("red|round", image="also.png"), row("", image="third.png"), row("red", split="test")]
    found = load_dataset(folder(rows, LABELS))
    assert found.labels == ("red", "round") and found.answer == Tags((0.5, 0.5))
    assert [each.label for each in found.rows] == ["red|round", "red|round", "", "red"]
    assert matrix(found).tolist() == [[1, 1], [1, 1], [0, 0], [1, 0]]
    barred = [row("a|b"), row("c", image="also.png"), row("c", split="test")]
    one_class = load_dataset(folder(barred, LABELS), answer="class")
    assert one_class.labels == ("a|b", "c") and one_class.answer == ONE_CLASS


def test_bad_tags_are_named(folder: Make) -> None:
    root = folder([row("red|"), row("a|b|a"), row("red|blue"), row("red|green", split="test")], LABELS)
    said = refused(root)
    assert "line 2: expected a tag on each side of every '|', received 'red|'" in said
    assert "line 3: tag 'a' occurs twice" in said
    assert "line 5: label 'green' is in no training row" in said


def test_columns_in_place_of_label_are_scores(folder: Make) -> None:
    rows = [row("1.50", "-3"), row("2e3", ".5", image="also.png"), row(" 7 ", "+1", split="test", image="third.png")]
    found = load_dataset(folder(rows, SCORES))
    assert found.labels == ("price", "age") and found.answer == Scores(("EUR", ""))
    assert matrix(found).tolist() == [[1.5, -3], [2000, 0.5], [7, 1]]


@pytest.mark.parametrize("value", ["", "cat", "1,5", "nan", "inf", "1e39", "1_000", "٣", "0x10", "1.5 EUR"])
def test_a_score_that_is_not_a_number_is_named(folder: Make, value: str) -> None:
    root = folder([row("1", "2"), row("3", value), row("5", "6", split="test")], SCORES)
    assert f"line 3: expected age to be a number such as -1.5, received {value!r}" in refused(root)


@pytest.mark.parametrize(
    ("header", "answer", "said"),
    [
        ("image,text,lable,split", None, "Expected the columns image,text,label and maybe split"),
        ("image,text,split", "scores", "and a named column for each score, no label and maybe split"),
        ("image,text,label,split", "scores", "and a named column for each score, no label"),
        ("image,text,price,label,split", None, "Expected the columns image,text,label and maybe"),
        ("image,text,price,price [EUR],split", None, "a column of another name for each score"),
    ],
)
def test_columns_that_fit_no_answer_are_refused(folder: Make, header: str, answer: str | None, said: str) -> None:
    filled = ["1"] * (header.count(",") - 2) if "lable" not in header else ["cat"]
    assert said in refused(folder([row(*filled), row(*filled, split="test")], header), answer)


def test_a_score_that_never_changes_is_refused(folder: Make) -> None:
    root = folder([row("1", "2"), row("3", "2"), row("4", "5", split="test")], SCORES)
    assert "Expected age to differ between training rows. Received: 2.0 in all of them" in refused(root)


def test_a_yes_or_no_has_two_labels(folder: Make) -> None:
    two = [row("yes"), row("no", image="also.png"), row("yes", split="test")]
    found = load_dataset(folder(two, LABELS), answer="yes-no")
    assert found.labels == ("no", "yes") and found.answer == YesNo()
    assert matrix(found).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert "Expected two labels of a yes or no. Received 3: maybe, no, yes" in refused(
        folder([*two, row("maybe")], LABELS), "yes-no"
    )


@pytest.mark.parametrize("label", ["Brücke", "Brücke|Café"])
def test_a_label_is_the_same_however_it_was_typed(folder: Make, label: str) -> None:
    composed, apart = (unicodedata.normalize(form, label) for form in ("NFC", "NFD"))
    assert composed != apart
    rows = [row(composed), row(apart, image="also.png"), row("Tür"), row(apart, split="test", image="third.png")]
    found = load_dataset(folder(rows, LABELS))
    assert set(found.labels) == {*composed.split("|"), "Tür"}
    assert len(set(map(tuple, matrix(found).tolist()))) == 2


def test_a_group_is_the_same_however_it_was_typed(folder: Make) -> None:
    groups = [unicodedata.normalize(form, "Brücke") for form in ("NFC", "NFD")]
    rows = [[*row("a"), groups[0]], [*row("b"), "other"], [*row("a", split="test"), groups[1]]]
    assert "is in both splits: line 2 is for training" in refused(folder(rows, f"{LABELS},group"))


def test_of_every_tag_a_share_is_held_out(folder: Make) -> None:
    rows = [["good.png", "text", f"tag{n % 3}|all", f"group {n}"] for n in range(30)]
    found = load_dataset(folder(rows, "image,text,label,group"))
    held_out = matrix(found)[[each.split == "test" for each in found.rows]]
    assert found.labels == ("all", "tag0", "tag1", "tag2")
    assert held_out.sum(axis=0).tolist() == [6, 2, 2, 2]


def test_rows_without_classes_are_held_out_by_their_groups(folder: Make) -> None:
    rows = [["good.png", "text", str(n), f"group {n}"] for n in range(20)]
    found = load_dataset(folder(rows, "image,text,price,group"))
    assert len(found.select("test")) == 4
    assert load_dataset(folder(rows, "image,text,price,group"), seed=1).rows != found.rows
