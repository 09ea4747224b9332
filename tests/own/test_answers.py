"""Your own model that answers with tags, yes or no, or scores: recognised, or refused with the fix."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duoserve.contract import OneClass, Scores, Tags, YesNo
from export.own.answer import predictor
from export.own.assets import read_labels
from export.own.prepare import Prepared
from export.own.reasons import MisfitError
from export.own.settings import OwnModel
from tests.answers.conftest import KINDS, make_manifest
from tests.own import zoo

TAGS = "block\nblue\nbox\ngreen\nred\nsquare\n"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("samples")
    return {kind: make_manifest(root / kind, kind) for kind in KINDS}


Given = Callable[..., Prepared]


@pytest.fixture
def given(prepared: Callable[..., Prepared], samples: dict[str, Path], tmp_path: Path) -> Given:
    """Prepares a model with this number of columns, the samples of a kind, and labels."""

    def run(kind: str, labels: str, columns: int, activation: str | None, **changes: Any) -> Prepared:
        (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
        arguments = {"columns": columns, "activation": activation}
        own = {"samples": samples[kind], "labels": tmp_path / "labels.txt", "arguments": arguments}
        return prepared("answering", **own, **changes)

    return run


def answers(found: Prepared, columns: int, activation: str | None) -> tuple[np.ndarray, np.ndarray]:
    """What the adapted model and the model itself say to the same rows."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (3, 20, 24, 3), np.uint8)
    tokens = draw.integers(1, zoo.IDS, (3, 7), np.int32)
    itself = zoo.answering(columns, activation)([image, tokens]).numpy()
    return predictor(found.trained.model)(image, tokens), itself


@pytest.mark.parametrize(
    ("activation", "said"),
    [("sigmoid", "probabilities of 6 tags"), (None, "logits of 6 tags; a sigmoid follows")],
)
def test_tags_are_seen_in_the_samples(given: Given, activation: str | None, said: str) -> None:
    found = given("tags", TAGS, 6, activation)
    answer = found.trained.spec.answer
    assert isinstance(answer, Tags) and len(answer.thresholds) == 6
    assert dict(found.notes)["output"] == f"'classes', {said}"
    assert "mean average precision" in dict(found.notes)["samples"]
    adapted, itself = answers(found, 6, activation)
    np.testing.assert_allclose(adapted, itself if activation else 1 / (1 + np.exp(-itself)), atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_column_of_two_labels_is_a_yes_or_no(given: Given, activation: str | None) -> None:
    found = given("yes-no", "no\nyes\n", 1, activation)
    assert found.trained.spec.answer == YesNo() and "ROC AUC" in dict(found.notes)["samples"]
    adapted, itself = answers(found, 1, activation)
    yes = itself[:, 0] if activation else 1 / (1 + np.exp(-itself[:, 0]))
    np.testing.assert_allclose(adapted, np.stack([1 - yes, yes], axis=1), atol=1e-6)


def test_two_columns_are_a_yes_or_no_where_it_is_said(given: Given) -> None:
    assert given("yes-no", "no\nyes\n", 2, "softmax").trained.spec.answer == OneClass()
    found = given("yes-no", "no\nyes\n", 2, "softmax", answer="yes-no")
    assert found.trained.spec.answer == YesNo()
    np.testing.assert_allclose(*answers(found, 2, "softmax"), atol=1e-6)


def test_scores_are_taken_as_they_are(given: Given) -> None:
    found = given("scores", "weight\nprice [EUR]\n", 2, None)
    spec = found.trained.spec
    assert spec.labels == ("weight", "price") and spec.answer == Scores(("", "EUR"))
    assert found.trained.facts["metrics"]["mean_absolute_error"].keys() == {"weight", "price"}
    np.testing.assert_allclose(*answers(found, 2, None), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "labels", "columns", "activation", "changes", "said"),
    [
        ("tags", TAGS, 6, "softmax", {}, "a softmax over all columns. To fix: leave --answer out"),
        ("tags", TAGS, 5, "sigmoid", {}, "Received: shape (batch, 5) and 6 labels"),
        ("tags", TAGS.replace("red", "pink"), 6, "sigmoid", {}, "label 'red'"),
        ("tags", "a\nb\nc\nd\ne\nf\n", 6, "sigmoid", {}, " more. To fix: write the labels exactly as in --labels"),
        (
            "scores",
            "price [USD]\nweight [kg]\n",
            2,
            None,
            {},
            "  - Expected price in USD, as the model gives it. Received: in EUR. To fix: name the columns",
        ),
        ("tags", TAGS, 6, "sigmoid", {"output_is": "logits"}, "a second sigmoid would make every answer less sure"),
        ("yes-no", "no\nyes\nmaybe\n", 3, "softmax", {"answer": "yes-no"}, "Expected two labels of a yes or no"),
        (
            "scores",
            "price\nsize\n",
            2,
            None,
            {},
            "Expected a column for the score 'size'. Received scores: price,",
        ),
        ("scores", "price\nweight\n", 2, None, {"output_is": "logits"}, "To fix: leave --output-is out"),
        ("scores", "price\nweight\n", 3, None, {}, "Received: shape (batch, 3) and 2 labels"),
        ("scores", "price\nweight\n", 2, None, {"answer": "tags"}, "Received: image,text,price [EUR],weight,split"),
    ],
)
def test_what_does_not_fit_is_reported_with_its_fix(
    given: Given, kind: str, labels: str, columns: int, activation: str | None, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(MisfitError) as caught:
        given(kind, labels, columns, activation, **changes)
    assert said in str(caught.value)


def test_labels_are_the_same_however_they_were_typed(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(unicodedata.normalize("NFD", "grün\nrot\n"), encoding="utf-8")
    found = read_labels(OwnModel("any.keras", labels=tmp_path / "labels.txt"))
    assert found == (unicodedata.normalize("NFC", "grün"), "rot")
