"""Two versions on the same inputs: a worse one is detected, and an equal one is not rejected by chance."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duoserve import Client, Prediction
from duoserve.contract import OneClass, Scores, Tags
from serving.rollout.errors import SettingsError, Stopped
from serving.rollout.trial.comparison import Answers, Comparison, compare, read_inputs
from tests.rollout import models
from tests.rollout.site import LIMITS, Site

LABELS = ("cat", "dog", "tree")


def said(label: str) -> Prediction:
    probabilities = np.full(len(LABELS), 0.1, np.float32)
    probabilities[LABELS.index(label)] = 0.8
    return Prediction(probabilities, LABELS, OneClass(), 1, "stable", "tensors")


def answers(both: int, lost: int, gained: int, neither: int = 0) -> Comparison:
    """Numbers of labelled inputs that both versions, only the old, only the new, and no version have right."""
    return compare(
        [Answers(said("cat"), said("cat"), "cat")] * both
        + [Answers(said("cat"), said("dog"), "cat")] * lost
        + [Answers(said("dog"), said("cat"), "cat")] * gained
        + [Answers(said("dog"), said("tree"), "cat")] * neither
    )


def test_the_figures_are_those_of_the_answers() -> None:
    found = answers(both=60, lost=20, gained=10, neither=10)
    assert (found.inputs, found.labelled, found.squares) == (100, 100, 30)
    assert (found.measure, found.old_quality, found.new_quality) == ("accuracy", 0.8, 0.7)
    assert found.agreement == pytest.approx(0.6)
    assert found.moved[0] == ("cat -> dog", 20)
    unlabelled = compare([Answers(said("cat"), said("dog"))])
    assert (unlabelled.inputs, unlabelled.labelled, unlabelled.drop_at_least) == (1, 0, 0.0)


@pytest.mark.parametrize(
    ("found", "dropped"),
    [
        (answers(300, 40, 40), False),  # another model, as good: they disagree where both are often wrong
        (answers(300, 60, 20), True),
        (answers(13, 2, 1), False),  # one less of sixteen is chance
        (answers(0, 16, 0), True),
        (answers(300, 3, 0, 80), False),  # surely lower, by less than the limit
    ],
)
def test_an_accuracy_falls_only_beyond_chance(found: Comparison, dropped: bool) -> None:
    assert (found.drop_at_least > LIMITS.accuracy_drop) is dropped


@settings(max_examples=50, deadline=None)
@given(same=st.integers(0, 60), other=st.integers(0, 60))
def test_the_bounds_are_more_lenient_than_the_figures(same: int, other: int) -> None:
    found = compare(
        [Answers(said("cat"), said("cat"), "cat")] * same + [Answers(said("cat"), said("dog"), "cat")] * other
    )
    assert found.agreement <= found.agreement_at_most + 1e-12 <= 1 + 1e-9
    assert found.drop_at_least <= found.old_quality - found.new_quality + 1e-12
    if same + other >= 30 and found.agreement < 0.5:
        assert found.agreement_at_most < LIMITS.agreement


def tagged(tags: str) -> Prediction:
    values = np.array([0.9 if label in tags.split("|") else 0.1 for label in LABELS], np.float32)
    return Prediction(values, LABELS, Tags((0.5, 0.5, 0.5)), 1, "stable", "tensors")


def test_tags_are_compared_as_sets() -> None:
    found = compare(
        [
            Answers(tagged("cat|dog"), tagged("cat|dog"), "dog|cat"),
            Answers(tagged("cat|dog"), tagged("cat"), "cat|dog"),
            Answers(tagged(""), tagged(""), "tree"),
            Answers(tagged(""), tagged("")),
        ]
    )
    assert (found.measure, found.labelled, found.same) == ("mean F1", 3, "the same tags")
    assert found.old_quality == pytest.approx(2 / 3) and found.new_quality == pytest.approx((1 + 2 / 3) / 3)
    assert found.squares == pytest.approx(1 / 9)
    assert found.agreement == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)
    assert found.drift == pytest.approx(0.8 / 4), "the mean probability of dog"
    assert found.moved == (("cat|dog -> cat", 1),)


def scored(price: float, weight: float = 1.0) -> Prediction:
    return Prediction(
        np.array([price, weight], np.float32), ("price", "weight"), Scores(("EUR", "")), 1, "stable", "tensors"
    )


def test_scores_are_compared_by_their_errors() -> None:
    true = np.arange(10.0)
    same = compare([Answers(scored(x), scored(x + 0.1), {"price": x}) for x in true])
    assert (same.measure, same.agreement, same.old_quality) == ("R²", 1.0, 1.0)
    assert same.new_quality == pytest.approx(1 - 0.1**2 / true.var()) and same.qualities == "1.000 -> 0.999"
    assert same.drift == pytest.approx(0.1) and same.moved == () and same.drop_at_least < LIMITS.accuracy_drop
    worse = compare([Answers(scored(x), scored(9 - x), {"price": x}) for x in np.repeat(true, 10)])
    assert worse.new_quality < 0 and worse.drop_at_least > LIMITS.accuracy_drop and worse.drift == 0
    moved = compare([Answers(scored(x), scored(x + 100)) for x in true])
    assert (moved.labelled, moved.agreement, moved.drift) == (0, 0.0, 1.0)
    other = compare([Answers(scored(x), said("cat")) for x in true])
    assert other.agreement == 0 and 0 <= other.drift <= 1, "a version of another kind"


def csv(folder: Path, header: str, *rows: str) -> Path:
    (folder / "a.png").write_bytes(models.picture(1))
    path = folder / "manifest.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_the_held_out_rows_of_a_manifest_are_read_with_their_classes(tmp_path: Path) -> None:
    path = csv(tmp_path, "image,text,label,split", "a.png,red cat,cat,test", "a.png,blue dog,dog,train")
    assert [(row.text, row.true) for row in read_inputs(path, 10)] == [("red cat", "cat")]
    path = csv(tmp_path, "image,text,price [EUR],note", "a.png,red cat,2.5,new", "a.png,dog,,old")
    assert [row.true for row in read_inputs(path, 10)] == [{"price": 2.5}, None]
    path = csv(tmp_path, "image,text", "a.png,red cat", "a.png,blue dog", "a.png,tree")
    assert [(row.text, row.true) for row in read_inputs(path, 2)] == [("red cat", None), ("tree", None)]


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("picture,text", "a.png,cat", "no 'image'"),
        ("image,text", "b.png,cat", "readable images"),
        ("image,text,split", "a.png,cat,train", "Received: none"),
    ],
)
def test_an_unusable_manifest_is_a_clear_error(tmp_path: Path, header: str, row: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_inputs(csv(tmp_path, header, row), 10)


def test_a_version_with_lower_accuracy_is_stopped(site: Site, tmp_path: Path) -> None:
    rows = []
    with Client(site.replicas[0].address, model=models.MODEL, version=models.OLD) as client:
        for number, (image, text) in enumerate(models.SAMPLES):
            (tmp_path / f"{number}.png").write_bytes(image)
            rows.append(f"{number}.png,{text},{client.predict(image, text).label}")
    path = tmp_path / "held-out.csv"
    path.write_text("\n".join(("image,text,label", *rows)))
    # The answers are others, and nothing but the classes shows it.
    limits = dataclasses.replace(LIMITS, drift=1.0)
    with site.rollout(inputs=path, limits=limits) as rollout, pytest.raises(Stopped) as stopped:
        rollout.run(models.WORSE)
    assert stopped.value.undone
    assert any("accuracy" in line for line in stopped.value.findings)
