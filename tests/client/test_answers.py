"""Answers other than one class, over a scripted server: batches, a version of another kind, kinds from the future."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re

import numpy as np
import pytest

from duoserve import Client, NotAnswered, Prediction, PreprocessingSpec, Shadow, UnsupportedModel
from duoserve.contract import OneClass, Scores, Tags, YesNo
from duoserve.errors import BadReply
from tests.client.conftest import train
from tests.client.fake import FakeServer, Version, wait_until

BASE = PreprocessingSpec(16, 16, 8, train(["red cat", "green tree"], 290), ("a", "b", "c"), 1)
TAGS = dataclasses.replace(BASE, answer=Tags((0.3, 0.3, 0.3)))
SCORES = dataclasses.replace(BASE, answer=Scores(("EUR", "", "kg")), version=2)
PAIRS = [(np.full((16, 16, 3), value, np.uint8), f"red cat {value}") for value in range(7)]


def test_a_batch_has_the_answers_of_its_rows() -> None:
    with FakeServer(Version(TAGS)) as server, Client(server.address, model="pairs", max_batch_size=3) as client:
        batch = client.predict_batch([*PAIRS, (b"broken", "x")])
        assert list(batch.errors) == [7]
        for pair, answer in zip(PAIRS, batch.outcomes, strict=False):
            over = [
                label for label, value in zip(answer.labels, answer.values, strict=True) if value >= np.float32(0.3)
            ]
            assert answer.tags == tuple(over) == client.predict(*pair).tags
        assert len({answer.tags for answer in batch.outcomes[:7]}) > 1


def test_a_value_that_equals_its_threshold_counts() -> None:
    chosen = Tags((0.1, 0.7, 0.3)).chosen(np.array([0.1, 0.7, 0.29999], np.float32))
    assert chosen == (0, 1), "compared as float32, as the graph does"


def test_an_answer_goes_through_a_process_pool() -> None:
    with FakeServer(Version(SCORES)) as server, Client(server.address, model="pairs") as client:
        answer = client.predict(*PAIRS[0])
    again = pickle.loads(pickle.dumps(answer))
    assert again.scores == answer.scores and again.kind == Scores(("EUR", "", "kg"))
    with pytest.raises(NotAnswered, match="read scores, units"):
        pickle.loads(pickle.dumps(again)).tags  # noqa: B018


def test_a_label_may_move_to_a_version_of_another_kind() -> None:
    with (
        FakeServer(Version(TAGS), Version(SCORES), labels={"stable": 1}) as server,
        Client(server.address, model="pairs", label="stable") as client,
    ):
        assert client.predict(*PAIRS[0]).kind == TAGS.answer
        server.labels["stable"] = 2
        answer = client.predict(*PAIRS[0])
    assert (answer.kind, answer.version) == (SCORES.answer, 2)
    assert answer.scores == dict(zip("abc", answer.values.tolist(), strict=True))


def test_a_tag_can_be_explained() -> None:
    spec = dataclasses.replace(TAGS, explain_grid=(2, 2))
    with FakeServer(Version(spec)) as server, Client(server.address, model="pairs") as client:
        found, best = client.explain(*PAIRS[0], label="c"), client.explain(*PAIRS[0])
        answer = client.predict(*PAIRS[0])
        with pytest.raises(UnsupportedModel, match=r"one of the version's 3 tags\. Received: 'yes'"):
            client.explain(*PAIRS[0], label="yes")
    assert (found.label, found.probability) == ("c", pytest.approx(float(answer.values[2])))
    assert best.label == answer.top(1)[0].label


def test_a_kind_from_the_future_asks_for_an_update() -> None:
    written = json.loads(TAGS.to_json())
    future = json.dumps({**written, "answer": {"kind": "ranking", "depth": 3}})
    with pytest.MonkeyPatch.context() as patch, FakeServer(Version(TAGS)) as server:
        patch.setattr(PreprocessingSpec, "to_json", lambda self: future)
        with Client(server.address, model="pairs") as client, pytest.raises(UnsupportedModel) as caught:
            client.predict(*PAIRS[0])
    assert "Expected an answer of kind class, tags, yes-no, scores. Received: 'ranking'" in str(caught.value)
    assert "update duoserve" in str(caught.value)


def test_a_score_that_is_not_a_number_is_a_bad_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Version, "probabilities", lambda *_: np.array([[1.0, np.nan, 2.0]], np.float32))
    with (
        FakeServer(Version(SCORES)) as server,
        Client(server.address, model="pairs") as client,
        pytest.raises(BadReply, match="Expected finite scores"),
    ):
        client.predict(*PAIRS[0])


@pytest.mark.parametrize("answer", [Tags((0.3, 0.3, 0.3)), Scores(("", "", ""))])
def test_a_shadow_is_compared_by_what_it_decides(answer: Tags | Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_version(self: Version, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        values = np.array([0.5, 0.2, 0.4 if self.spec.version == 1 else 0.25], np.float32)
        return np.stack([values] * len(image))

    monkeypatch.setattr(Version, "probabilities", by_version)
    versions = [Version(dataclasses.replace(BASE, answer=answer, version=number)) for number in (1, 2)]
    with (
        FakeServer(*versions, labels={"stable": 1, "canary": 2}) as server,
        Client(server.address, model="pairs", label="stable", shadow=Shadow(label="canary")) as client,
    ):
        client.predict(*PAIRS[0])
        wait_until(lambda: client.shadow_report().compared == 1)
        report = client.shadow_report()
    assert report.largest_difference == pytest.approx(0.15)
    if isinstance(answer, Tags):
        assert report.agreement == 0 and report.disagreements == {("a|c", "a"): 1}
    else:
        assert report.agreement is None and report.disagreements == {}


@pytest.mark.parametrize(
    ("answer", "labels", "said"),
    [
        (YesNo(), ("a", "b", "c"), "Expected two labels of a yes or no. Received: 3"),
        (Tags((0.5, 0.5)), ("a", "b", "c"), "Expected as many thresholds as labels, 3. Received: 2"),
        (Tags((0.5, 0.5)), ("a", "b|c"), r"Expected tags without '|', which separates them. Received: 'b|c'"),
        (Scores(("EUR",)), ("a", "b"), "Expected as many units as labels, 2. Received: 1"),
    ],
)
def test_labels_have_to_fit_the_answer(answer: OneClass, labels: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        dataclasses.replace(BASE, labels=labels, answer=answer)
    assert str(caught.value) == said


@pytest.mark.parametrize("threshold", [0.0, 1.5, True, "0.5", float("nan")])
def test_a_threshold_is_a_probability(threshold: object) -> None:
    with pytest.raises(ValueError, match="Expected thresholds above 0 and at most 1"):
        Tags((threshold,))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [OneClass, YesNo, Tags, Scores])
def test_what_each_kind_of_answer_gives_is_documented(kind: type) -> None:
    listed = ", ".join(f"`{name}`" for name in kind.gives)
    assert re.search(rf"{kind.__name__}\b[^;.]*: {listed}[;.]", " ".join(Prediction.__doc__.split()))
