"""The check of live replicas looks at tags and scores by what they are."""

from __future__ import annotations

from pathlib import Path

from export.publish.savedmodel import Published
from serving.local.testing import LocalServer
from serving.rollout.package import incompatible, open_package
from serving.rollout.replicas.fleet import Fleet
from serving.rollout.settings import Limits, Settings
from serving.rollout.settings import Signatures as Policy
from serving.rollout.trial.comparison import read_inputs
from serving.rollout.trial.live_check import CheckReport, LiveCheck


def checked(server: LocalServer, folder: Path, inputs: Path, against: int) -> CheckReport:
    """The check of a version's folder against another version of the same model."""
    model, version = folder.parent.name, int(folder.name)
    limits = Limits(latency_calls=4, median_ratio=100, p99_ratio=100)
    settings = Settings(model, "none", (server.address,), folder.parents[1], limits=limits)
    package = open_package(settings.store, model, version, Policy())
    with Fleet(lambda: (server.address,), model, timeout=30, parallel=1) as fleet:
        given = read_inputs(inputs / "manifest.csv", 100)
        return LiveCheck(fleet, settings, package, against, given, allow_contract=True).run("check")


def test_a_version_is_as_good_as_itself(
    server: LocalServer, published: dict[str, Published], manifests: dict[str, Path]
) -> None:
    for kind, measure in (("tags", "mean F1 1.000 -> 1.000"), ("scores", "R² 0.9"), ("yes-no", "accuracy 100.0%")):
        report = checked(server, published[kind].path, manifests[kind], 1)
        assert report.findings == () and report.comparison.inputs == report.comparison.labelled == 9
        assert (report.comparison.agreement, report.comparison.drift) == (1.0, 0.0)
        assert measure in report.summary() and report.replicas[0].golden_worst < 1e-4


def test_scores_that_are_worse_are_found(server: LocalServer, moved: Published, manifests: dict[str, Path]) -> None:
    report = checked(server, moved.path, manifests["scores"], 1)
    assert [finding.partition(". Received")[0] for finding in report.findings] == [
        "inputs: expected the R² to fall by at most 0.02",
        "inputs: expected the answers to drift by at most 0.2",
    ]
    assert report.replicas[0].golden_worst < 1e-4, "it answers as it did at export"


def test_a_change_of_kind_is_a_change_of_the_contract(published: dict[str, Published]) -> None:
    kinds = {kind: open_package(each.path.parents[1], kind, 1, Policy()).contract for kind, each in published.items()}
    assert incompatible(kinds["tags"], kinds["tags"], "fixed") == []
    for old, new in (("tags", "scores"), ("scores", "yes-no"), ("yes-no", "tags")):
        assert f"answer: expected {old} to stay. Received: {new}" in incompatible(kinds[old], kinds[new], "follow")
