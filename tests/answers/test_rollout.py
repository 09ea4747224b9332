"""The check of live replicas compares tags as tags and scores as scores."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duoserve import Client
from duoserve.artifact.checksums import write_checksums
from duoserve.artifact.samples import GoldenSample
from duoserve.contract import ONE_CLASS, Answer, Scores
from duoserve.preprocessing.preprocessor import Preprocessor
from export.publish.savedmodel import Published
from serving.capacity.measuring import Rows
from serving.local.testing import LocalServer
from serving.rollout.errors import Refused
from serving.rollout.package import Package, contract_of, incompatible, open_package
from serving.rollout.replicas.fleet import Fleet
from serving.rollout.settings import Limits, Settings
from serving.rollout.settings import Signatures as Policy
from serving.rollout.trial.comparison import Input, read_inputs
from serving.rollout.trial.live_check import CheckReport, LiveCheck
from tests.client.conftest import encoded
from tests.client.fake import FakeServer, Version
from tests.client.test_answers import BASE


def checked(address: str, model: str, package: Package, inputs: Sequence[Input]) -> CheckReport:
    """The check of a version against version 1 of the same model."""
    limits = Limits(latency_calls=4, median_ratio=100, p99_ratio=100)
    settings = Settings(model, "none", (address,), package.path.parents[1], limits=limits)
    with Fleet(lambda: (address,), model, timeout=30, parallel=1) as fleet:
        return LiveCheck(fleet, settings, package, 1, inputs).run("check")


def test_a_version_is_as_good_as_itself(
    server: LocalServer, published: dict[str, Published], manifests: dict[str, Path]
) -> None:
    for kind, measure in (("tags", "mean F1 1.000 -> 1.000"), ("scores", "R² 0.9"), ("yes-no", "accuracy 100.0%")):
        package = open_package(published[kind].path.parents[1], kind, 1, Policy())
        report = checked(server.address, kind, package, read_inputs(manifests[kind] / "manifest.csv", 100))
        assert report.findings == () and report.comparison.inputs == report.comparison.labelled == 9
        assert (report.comparison.agreement, report.comparison.drift) == (1.0, 0.0)
        assert report.summary().startswith("1 replica, golden within") and measure in report.summary()
        assert report.replicas[0].golden_worst < 1e-4


def test_the_capacity_of_a_server_is_measured_for_any_answer(
    server: LocalServer, published: dict[str, Published]
) -> None:
    for kind in published:
        with Client(server.address, model=kind) as client:
            assert Rows(client).ask(2) == 1


class Prices(Version):
    """The mean brightness of an image is its price; version 2 is 300 too high."""

    def probabilities(self, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return (image.mean(axis=(1, 2, 3))[:, None] + 300 * (self.spec.version - 1)).astype(np.float32)


def test_scores_that_are_worse_are_found() -> None:
    old = dataclasses.replace(BASE, labels=("price",), answer=Scores(("EUR",)))
    new = dataclasses.replace(old, version=2)
    pictures = [encoded(Image.new("RGB", (16, 16), (5 * number,) * 3), "PNG") for number in range(40)]
    tokens = tuple(Preprocessor(old).tokens("red cat").tolist())
    samples = tuple(GoldenSample(each, "red cat", tokens, (300.0 + 5 * n,), "") for n, each in enumerate(pictures[:3]))
    package = Package(2, Path("store/pairs/2"), samples, contract_of(new))
    inputs = [Input(each, "red cat", {"price": 5.0 * number}) for number, each in enumerate(pictures)]
    with FakeServer(Prices(old), Prices(new)) as fake:
        report = checked(fake.address, "pairs", package, inputs)
    assert [finding.partition(". Received")[0] for finding in report.findings] == [
        "inputs: expected the R² to fall by at most 0.02",
        "inputs: expected the answers to drift by at most 0.2",
    ]
    assert report.replicas[0].golden_worst < 1e-6, "it answers as it did at export"


class Bent(Version):
    """Version 2 is off by 0.008 in a probability, or in a score by 0.8 % of the largest, as in bfloat16."""

    def probabilities(self, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        off = 0.008 if self.spec.version == 2 else 0.0
        if self.spec.answer == ONE_CLASS:
            return np.repeat(np.array([[0.5 + off, 0.5 - off, 0.0]], np.float32), len(image), axis=0)
        return (image.mean(axis=(1, 2, 3))[:, None] + 100 * off).astype(np.float32)


@pytest.mark.parametrize(
    ("answer", "values", "enough"),
    [
        (ONE_CLASS, [(0.499, 0.501, 0.0)], 0.0085),  # a decision that bfloat16 changes
        (Scores(("EUR",)), [(0.0,), (100.0,)], 0.8 / 50),  # of their standard deviation
    ],
)
def test_golden_answers_may_be_as_far_off_as_the_card_expects(
    answer: Answer, values: Sequence[tuple[float, ...]], enough: float
) -> None:
    labels = ("cat", "dog", "tree")[: len(values[0])]
    old = dataclasses.replace(BASE, labels=labels, answer=answer)
    tokens = tuple(Preprocessor(old).tokens("red cat").tolist())
    samples = tuple(
        GoldenSample(encoded(Image.new("RGB", (16, 16), (int(each[0]),) * 3), "PNG"), "red cat", tokens, each, "")
        for each in values
    )
    new = dataclasses.replace(old, version=2)
    with FakeServer(Bent(old), Bent(new)) as fake:
        for cost, fits in ((0.0, False), (enough / 2, False), (enough, True)):
            package = Package(2, Path("store/pairs/2"), samples, contract_of(new), cost)
            report = checked(fake.address, "pairs", package, ())
            assert (report.findings == ()) is fits, (cost, report.findings)
            assert 0.0079 < report.golden_worst < 0.0091


def test_a_card_with_an_impossible_cost_is_refused(published: dict[str, Published], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published["tags"].path, tmp_path / "tags" / "1"))
    card = folder / "assets.extra/card.json"
    for cost in (0.01, -1, "much", None):
        content = json.loads(card.read_text())
        content["graph"]["bfloat16"] = {"difference": cost}
        card.write_text(json.dumps(content))
        write_checksums(folder)
        if cost == 0.01:
            assert open_package(tmp_path, "tags", 1, Policy()).bfloat16 == cost
        else:
            with pytest.raises(Refused, match="card"):
                open_package(tmp_path, "tags", 1, Policy())


def test_a_change_of_kind_is_a_change_of_the_contract(published: dict[str, Published]) -> None:
    kinds = {kind: open_package(each.path.parents[1], kind, 1, Policy()).contract for kind, each in published.items()}
    assert incompatible(kinds["tags"], kinds["tags"], "fixed") == []
    for old, new in (("tags", "scores"), ("scores", "yes-no"), ("yes-no", "tags")):
        assert f"answer: expected {old} to stay. Received: {new}" in incompatible(kinds[old], kinds[new], "follow")
