"""Each kind of answer from manifest.csv through the gate to Python, the command line and REST."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duoserve import Client, NotAnswered, Prediction
from duoserve.artifact.samples import GOLDEN_PATH, load_samples
from duoserve.cli import main
from duoserve.contract import Scores, Tags
from export.publish.savedmodel import Published
from export.training.run import TrainedModel
from serving.local.testing import LocalServer
from tests.answers.conftest import KINDS, PRICES

RED, BLUE = "images/red-0.png", "images/blue-4.png"  # held out
TEXT = {RED: "a square here", BLUE: "a box here"}


@pytest.fixture
def ask(server: LocalServer, manifests: dict[str, Path]) -> Any:
    """The answers of a kind, sent as tensors and as bytes."""

    def both(kind: str, image: str) -> list[Prediction]:
        found = []
        for send in ("tensors", "bytes"):
            with Client(server.address, model=kind, send=send, timeout=60) as client:
                found.append(client.predict(manifests[kind] / image, TEXT[image]))
        np.testing.assert_allclose(found[0].values, found[1].values, rtol=1e-4)
        return found

    return both


def by_rest(server: LocalServer, kind: str, image: Path, text: str) -> dict[str, Any]:
    import base64

    data = base64.b64encode(image.read_bytes()).decode()
    body = {"signature_name": "serving_bytes", "inputs": {"image_bytes": [{"b64": data}], "text": [text]}}
    url = f"{server.rest_url}/v1/models/{kind}:predict"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as reply:
        found: dict[str, Any] = json.load(reply)["outputs"]
        return found


def test_training_reports_the_figures_of_the_kind(trained: dict[str, TrainedModel]) -> None:
    metrics = {kind: each.facts["metrics"] for kind, each in trained.items()}
    assert metrics["tags"]["mean_average_precision"] > 0.9 and metrics["tags"]["f1"] > 0.8
    assert metrics["yes-no"]["accuracy"] > 0.9 and metrics["yes-no"]["roc_auc"] > 0.9
    assert metrics["scores"]["r2_of"]["price"] > 0.9 and metrics["scores"]["mean_absolute_error"]["price"] < 100
    assert all(each.facts["history"]["loss"][0] > each.facts["history"]["loss"][-1] for each in trained.values())
    assert ["accuracy" in each.facts["history"] for each in trained.values()] == [False, True, False]


def test_tags(ask: Any, server: LocalServer, manifests: dict[str, Path]) -> None:
    for answer in ask("tags", RED):
        assert answer.tags == ("red", "square") and answer.decision == "red|square"
        assert answer.labels == ("block", "blue", "box", "green", "red", "square")
        assert answer.probabilities.shape == (6,) and {one.label for one in answer.top(2)} == {"red", "square"}
        assert repr(answer).startswith("Prediction(tags=('red', 'square'), version=1")
        with pytest.raises(NotAnswered, match=r"with label\. Received: one that answers with tags; read tags, "):
            answer.label  # noqa: B018
        assert not hasattr(answer, "scores")
    (found,) = by_rest(server, "tags", manifests["tags"] / BLUE, TEXT[BLUE])["tags"]
    assert found == "blue"


def test_yes_or_no(ask: Any, server: LocalServer, manifests: dict[str, Path]) -> None:
    for image, expected in ((RED, "yes"), (BLUE, "no")):
        for answer in ask("yes-no", image):
            assert answer.label == expected and answer.probability > 0.5 and answer.labels == ("no", "yes")
            np.testing.assert_allclose(answer.probabilities.sum(), 1, atol=1e-6)
        found = by_rest(server, "yes-no", manifests["yes-no"] / image, TEXT[image])
        assert found["label"] == [expected] and found["probabilities"][0] == pytest.approx(answer.probabilities)


def test_scores(ask: Any, server: LocalServer, manifests: dict[str, Path]) -> None:
    for image, colour in ((RED, "red"), (BLUE, "blue")):
        for answer in ask("scores", image):
            assert answer.scores["price"] == pytest.approx(PRICES[colour], abs=250) and answer.labels[1] == "weight"
            assert answer.units == {"price": "EUR", "weight": ""} and answer.decision == ""
            with pytest.raises(NotAnswered, match="read scores, units"):
                answer.probabilities  # noqa: B018
        found = by_rest(server, "scores", manifests["scores"] / image, TEXT[image])
        assert found == [pytest.approx(list(answer.scores.values()), rel=1e-4)]  # one output has no name in REST


def test_prepared_tensors(server: LocalServer, manifests: dict[str, Path]) -> None:
    for kind in ("tags", "scores"):
        with Client(server.address, model=kind) as client:
            preprocessor = client.preprocessor()
            image, tokens = preprocessor.image(manifests[kind] / RED), preprocessor.tokens(TEXT[RED])
            found = client.predict_tensors(image[None], tokens[None], preprocessor)
            alone = client.predict(manifests[kind] / RED, TEXT[RED])
        np.testing.assert_allclose(found.values[0], alone.values, rtol=1e-5)
        assert found.kind == alone.kind and hasattr(found, "probabilities") is (kind == "tags")


def run(server: LocalServer, capsys: pytest.CaptureFixture[str], command: str, kind: str, *more: str) -> str:
    assert main([command, "--server", server.address, "--model", kind, *more]) == 0
    return capsys.readouterr().out


def test_the_command_line(server: LocalServer, manifests: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    def asked(kind: str, *more: str) -> str:
        return run(server, capsys, "predict", kind, "--image", str(manifests[kind] / RED), "--text", TEXT[RED], *more)

    lines = asked("tags", "--top", "1").splitlines()
    assert {line.split()[0] for line in lines[:2]} == {"red", "square"} and lines[0].endswith("  tag")
    assert json.loads(asked("tags", "--json"))["tags"] == ["red", "square"]
    assert asked("yes-no").startswith("yes  ")
    assert [line.split()[::2] for line in asked("scores").splitlines()[:2]] == [["price", "EUR"], ["weight"]]
    record = json.loads(asked("scores", "--json"))
    assert record["units"] == {"price": "EUR", "weight": ""} and record["scores"].keys() == record["units"].keys()
    assert "labels        price (EUR), weight" in run(server, capsys, "describe", "scores")
    assert json.loads(run(server, capsys, "describe", "tags", "--json"))["answer"]["kind"] == "tags"


def test_explain(server: LocalServer, manifests: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with Client(server.address, model="scores") as client:
        price = client.explain(manifests["scores"] / BLUE, TEXT[BLUE])
        weight = client.explain(manifests["scores"] / BLUE, TEXT[BLUE], label="weight")
        answer = client.predict(manifests["scores"] / BLUE, TEXT[BLUE])
    for found, decides, other in ((price, "image", "text"), (weight, "text", "image")):
        assert abs(getattr(found.input_relevance, decides)) > abs(getattr(found.input_relevance, other))
    assert price.label == "price" and price.value == pytest.approx(answer.scores["price"], rel=1e-4)
    with pytest.raises(NotAnswered, match="read value"):
        price.probability  # noqa: B018
    given = ("--image", str(manifests["scores"] / BLUE), "--text", TEXT[BLUE], "--json")
    assert json.loads(run(server, capsys, "explain", "scores", *given))["score"] == pytest.approx(price.value, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_of_a_published_version(
    published: dict[str, Published], trained: dict[str, TrainedModel], kind: str
) -> None:
    spec = published[kind].spec
    assert spec.answer == trained[kind].spec.answer and json.loads(spec.to_json())["format"] == 3
    samples = load_samples((published[kind].path / GOLDEN_PATH).read_bytes())
    assert {sample.decision for sample in samples} == {
        "tags": {"red|square", "box|red", "block|red", "green|square", "box|green", "block|green", "blue"},
        "yes-no": {"yes", "no"},
        "scores": {""},
    }[kind]
    card = json.loads((published[kind].path / "assets.extra" / "card.json").read_bytes())
    assert card["contract"]["answer"] == spec.answer.record() and card["training"]["answer"] == kind
    if isinstance(spec.answer, Tags):
        assert all(0 < threshold < 1 for threshold in spec.answer.thresholds)
    assert not isinstance(spec.answer, Scores) or spec.answer.units == ("EUR", "")
