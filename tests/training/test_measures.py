"""The figures by which answers are judged, against values worked out by hand and against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duoserve.contract import ONE_CLASS, Scores, Tags, YesNo
from export.measures import average_precision, choose_thresholds, f1, measure, quality, r2, roc_auc, shown

TRUTH = np.array([0, 0, 1, 1])
VALUES = np.array([0.1, 0.4, 0.35, 0.8])  # the example of scikit-learn's documentation


def test_the_figures_of_a_known_example() -> None:
    assert average_precision(VALUES, TRUTH) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)  # 0.83
    assert roc_auc(VALUES, TRUTH) == pytest.approx(0.75)
    assert f1(VALUES >= 0.35, TRUTH) == pytest.approx(2 * 2 / (3 + 2))
    assert r2(np.array([2.5, 0.0, 2.0, 8.0]), np.array([3.0, -0.5, 2.0, 7.0])) == pytest.approx(0.948608, abs=1e-6)


def test_the_figures_of_a_constant_answer() -> None:
    same = np.full(4, 0.5)
    assert average_precision(same, TRUTH) == 0.5
    assert roc_auc(same, TRUTH) == 0.5
    assert roc_auc(VALUES, np.ones(4)) is None and roc_auc(VALUES, np.zeros(4)) is None
    assert r2(np.ones(3), np.ones(3)) == 1 and r2(np.zeros(3), np.ones(3)) == 0


rows = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=2, max_size=30)


@given(rows)
def test_the_area_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    values, truth = np.array([value for value, _ in rows]), np.array([float(right) for _, right in rows])
    pairs = [(yes > no) + (yes == no) / 2 for yes in values[truth == 1] for no in values[truth == 0]]
    assert roc_auc(values, truth) == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(rows.filter(lambda rows: any(right for _, right in rows)))
def test_average_precision_is_the_precision_at_every_right_row(rows: list[tuple[float, bool]]) -> None:
    values, truth = np.array([value for value, _ in rows]), np.array([float(right) for _, right in rows])
    precisions = [truth[values >= value].mean() for value in values[truth == 1]]
    assert average_precision(values, truth) == pytest.approx(np.mean(precisions))


@given(rows.filter(lambda rows: any(right for _, right in rows)))
def test_no_threshold_has_a_better_f1_than_the_chosen_one(rows: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in rows], np.float32)
    truth = np.array([float(right) for _, right in rows])
    (chosen,) = choose_thresholds(values[:, None], truth[:, None])
    best = max(f1(values >= np.float32(each / 100), truth) for each in range(1, 100))
    assert f1(values >= np.float32(chosen), truth) == pytest.approx(best)


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_chosen() -> None:
    values = np.array([[0.2, 0.9, 0.7], [0.3, 0.8, 0.1]], np.float32)
    assert choose_thresholds(values, np.array([[0, 1, 0], [1, 1, 0]])) == (0.3, 0.5, 0.5)


def test_each_kind_of_answer_has_its_figures() -> None:
    one_hot = np.eye(2)[[0, 1, 1, 1]]
    said = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    found = measure(ONE_CLASS, ("a", "b"), said, one_hot)
    assert found["accuracy"] == 0.75 and found["largest_class"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.8]).mean())
    assert measure(YesNo(), ("no", "yes"), said, one_hot)["roc_auc"] == 1.0

    tags = Tags((0.5, 0.5))
    found = measure(tags, ("x", "y"), said, np.array([[1, 0], [0, 1], [1, 0], [0, 1]]))
    assert (found["mean_average_precision"], found["f1"]) == (1.0, 1.0)
    assert found["rows_with_tag"] == {"x": 2, "y": 2}
    assert shown(tags, found) == "mean average precision 1.000, F1 1.000 at the thresholds"

    scores, off = Scores(("EUR", "")), np.array([[0.1, -0.2]])
    found = measure(scores, ("price", "age"), said, said + off)
    assert found["mean_absolute_error"] == pytest.approx({"price": 0.1, "age": 0.2})
    assert found["r2"] == pytest.approx(quality(scores, said, said + off))
    assert found["r2"] == pytest.approx(np.mean(list(found["r2_of"].values())))


def test_a_tag_that_no_held_out_row_has_does_not_count() -> None:
    found = measure(Tags((0.5, 0.5)), ("x", "y"), np.array([[0.9, 0.9], [0.1, 0.8]]), np.array([[1, 0], [0, 0]]))
    assert found["mean_average_precision"] == 1.0
