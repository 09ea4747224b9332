"""The intervals cover the truth about as often as they claim, also for rows that are not independent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.selection.statistics import calibration, gain, proportion, resampled


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"), [(8, 10, 0.490, 0.943), (0, 20, 0.0, 0.161), (50, 50, 0.929, 1.0)]
)
def test_rows_on_their_own_get_wilsons_interval(right: int, rows: int, low: float, high: float) -> None:
    """The expected values are those of the formula in the literature."""
    found = proportion(np.arange(rows) < right, names(rows))
    assert found == pytest.approx((right / rows, low, high), abs=1e-3)


@given(right=st.lists(st.booleans(), min_size=2, max_size=40), copies=st.integers(2, 5))
def test_copies_of_a_row_add_nothing(right: list[bool], copies: int) -> None:
    groups = names(len(right))
    copied = proportion(np.repeat(right, copies), [group for group in groups for _ in range(copies)])
    assert copied == pytest.approx(proportion(np.array(right), groups), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    runs=st.lists(
        st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abcdefg")), min_size=1, max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_a_gain_is_the_mean_difference_and_has_two_sides(runs: list[list[tuple[bool, bool, str]]]) -> None:
    one, other, groups = ([np.array([row[part] for row in run]) for run in runs] for part in range(3))
    found, back = gain(one, other, groups), gain(other, one, groups)
    expected = np.mean(np.concatenate(one).astype(float) - np.concatenate(other))
    assert found.value == pytest.approx(expected)
    assert found == pytest.approx((-back.value, -back.high, -back.low), abs=1e-9)
    assert gain(one, one, groups) == (0, 0, 0)


def test_the_interval_of_a_gain_covers_the_truth_as_often_as_it_says() -> None:
    """Of data with a known gain: runs that differ, and groups whose rows are right or wrong together."""
    draw, truth, covered, rounds = np.random.default_rng(1), 0.10, 0, 80
    groups = [str(number // 4) for number in range(240)]
    for _ in range(rounds):
        ours, theirs = [], []
        together = np.repeat(draw.random(60), 4)
        for _ in range(5):
            luck = draw.normal(0, 0.015)
            ours.append(0.7 * together + 0.3 * draw.random(240) < 0.6 + luck)
            theirs.append(0.7 * together + 0.3 * draw.random(240) < 0.53)
        found = gain(ours, theirs, [groups] * 5)
        covered += found.low <= truth <= found.high
    # The density of the sum is 1/0.7 in the middle, so 0.07 on the scale is a gain of 0.10.
    assert 0.87 <= covered / rounds <= 1


@pytest.mark.parametrize(("count", "student"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (101, 1.984)])
def test_splits_that_share_rows_get_the_corrected_interval(count: int, student: float) -> None:
    """The quantiles are those of the usual table; the correction is test/train more than 1/n."""
    values = np.random.default_rng(count).normal(0.7, 0.02, count)
    found = resampled(list(values), 0.2)
    reach = student * np.std(values, ddof=1) * np.sqrt(1 / count + 0.2 / 0.8)
    assert found == pytest.approx((values.mean(), values.mean() - reach, values.mean() + reach), abs=1e-4)


def test_the_corrected_interval_covers_the_truth_where_splits_share_rows() -> None:
    """The truth is the mean over many data sets; the plain t interval of the same splits misses it more often."""
    draw, covered, plainly, rounds = np.random.default_rng(2), 0, 0, 400
    for _ in range(rounds):
        data = draw.normal(0, 1, 400)
        parts = [draw.permutation(400) for _ in range(10)]
        # What a model learns, here the mean of its rows, and how far held-out rows are from it.
        values = [float(data[order[:80]].mean() - data[order[80:]].mean() / 2) for order in parts]
        found = resampled(values, 0.2)
        covered += found.low <= 0 <= found.high
        plainly += abs(found.value) <= (found.high - found.value) / np.sqrt(1 + 10 * 0.2 / 0.8)
    assert plainly < covered and covered / rounds > 0.9


def test_calibration_is_the_distance_between_sure_and_right() -> None:
    draw = np.random.default_rng(0)
    sure = draw.uniform(0.5, 1, 40_000)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    honest = np.where(draw.random(40_000) < sure, 0, 1)
    error, bins = calibration(probabilities, honest)
    assert error < 0.01
    assert [each.rows for each in bins] == [pytest.approx(8_000, abs=400)] * 5
    boastful = np.where(draw.random(40_000) < sure - 0.2, 0, 1)
    assert calibration(probabilities, boastful)[0] == pytest.approx(0.2, abs=0.02)
