"""The cost of smaller weights, and the comparison of candidates, for answers other than one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duoserve.contract import Answer, Scores, Tags
from export.dataset.data import load_held_out
from export.own.answer import predictor
from export.publish.cost import LIMITS, measure_cost
from export.selection.judging import Judged
from export.training.run import TrainedModel


@pytest.mark.parametrize(
    ("kind", "worse", "said"),
    [
        ("tags", lambda values: 1 - values, "of mean average precision on 9 rows"),
        ("yes-no", lambda values: values[:, ::-1], "of accuracy on 9 rows. Received: 100.0% (100.0% to 0.0%)"),
        ("scores", lambda values: -values, "of R² on 9 rows"),
    ],
)
def test_packed_weights_cost_what_their_answers_lose(
    trained: dict[str, TrainedModel], manifests: dict[str, Path], kind: str, worse: Any, said: str
) -> None:
    model, spec = predictor(trained[kind].model), trained[kind].spec
    rows = load_held_out(manifests[kind], answer=kind).rows
    nothing = measure_cost("float16", spec, rows, model, model)
    assert nothing.difference == 0 and nothing.quality == nothing.keras_quality > 0.9
    assert nothing.agreement == (None if kind == "scores" else 1) and list(nothing.findings()) == []
    lost = measure_cost("float16", spec, rows, model, lambda *inputs: worse(model(*inputs)))
    far, less = lost.findings()
    assert f"expected answers within {LIMITS['float16'].difference} of the Keras model's" in far and said in less
    assert lost.facts.keys() == {"rows", "difference", "agreement", lost.figure, f"keras_{lost.figure}"}


@pytest.mark.parametrize("answer", [Tags((0.5, 0.5, 0.5)), Scores(("", "", ""))])
def test_candidates_are_judged_with_intervals(answer: Answer) -> None:
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 2, (60, 3)).astype(np.float32)
    groups = [f"group {row // 2}" for row in range(60)]
    good, poor = (np.clip(targets + draw.normal(0, noise, (60, 3)), 0, 1) for noise in (0.3, 0.8))
    one, two = (Judged(answer, values, targets, groups) for values in (good, poor))
    better, other = one.interval(), two.interval()
    assert other.low < other.value < other.high < better.low < better.value < better.high <= 1
    gain = one.gain(two)
    assert gain.low > 0 and gain.value == pytest.approx(better.value - other.value)
    assert one.gain(one).within_an_error
    error, bins = two.calibration()
    if isinstance(answer, Tags):
        assert error is not None and 0 < error < 1 and sum(each.rows for each in bins) == 180
    else:
        assert (error, bins) == (None, [])
