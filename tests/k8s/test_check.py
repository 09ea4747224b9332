"""The doctor's rules: clean manifests are clean, every mistake is found, and every rule has a mistake that it finds."""

from __future__ import annotations

import importlib.util
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.check import RULES, Manifests, catalog, check, parse
from serving.check.manifests import programs, schemas
from serving.check.rules.server import commands
from tests.k8s import renders
from tests.k8s.mutations import EVERY, Mutation
from tests.k8s.mutations.harmless import HARMLESS, neighbour
from tests.k8s.tools import ROOT


@pytest.mark.parametrize("name", renders.ALL)
def test_clean_manifests_have_no_findings(name: str) -> None:
    assert [str(finding) for finding in check(Manifests(renders.documents(name)))] == []


@pytest.mark.parametrize("version", ["1.30", schemas.newest()])
def test_the_overlays_fit_every_supported_kubernetes(version: str) -> None:
    assert check(Manifests(renders.documents("production")), kubernetes=version) == []


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.about)
def test_harmless_changes_have_no_findings(change: Mutation) -> None:
    documents = renders.documents(change.render)
    change.change(documents)
    assert documents != renders.documents(change.render)
    assert [str(finding) for finding in check(Manifests(documents))] == []


@pytest.mark.parametrize("mutation", EVERY, ids=str)
def test_every_mistake_is_found(mutation: Mutation) -> None:
    documents = renders.documents(mutation.render)
    mutation.change(documents)
    found = {finding.rule: finding for finding in check(Manifests(documents), **mutation.options)}
    assert mutation.rule in found, sorted(found)
    finding = found[mutation.rule]
    texts = (finding.object, finding.field, finding.expected, finding.received, finding.why, finding.fix, finding.doc)
    assert all(texts) and not any(re.search(r"[^{]\{\w+\}", text) for text in texts[2:])


def test_every_rule_has_a_mistake_that_it_finds() -> None:
    assert {mutation.rule for mutation in EVERY} == set(RULES)


def test_a_rule_is_declared_beside_the_module_that_reports_it() -> None:
    rules = ROOT / "serving/check/rules"
    for file in rules.rglob("*.yaml"):
        # What `check` itself reports has no module among the rules.
        module = file.with_suffix(".py") if file.stem != "doctor" else rules.parent / "__init__.py"
        declared = re.findall(r"^    ([a-z-]+):$", file.read_text(), re.MULTILINE)
        assert declared, file
        assert [each for each in declared if f'"{each}"' not in module.read_text()] == [], file


def test_the_page_of_all_rules_is_current() -> None:
    assert catalog.PAGE.read_text() == catalog.page(), "`python -m serving.check.catalog`"
    files = {rule.doc for rule in RULES.values() if "://" not in rule.doc}
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_a_rule_is_left_out_on_demand() -> None:
    documents = renders.documents("production")
    documents[0]["metadata"]["labels"] = {"a": 1}
    assert [finding.rule for finding in check(Manifests(documents))][:1] == ["schema"]
    assert "schema" not in {finding.rule for finding in check(Manifests(documents), ignore=["schema"])}


def test_an_annotation_silences_a_rule_for_its_object_alone() -> None:
    documents = renders.documents("production")
    for document in documents:
        if document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["hostNetwork"] = True
    server = next(d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "duoserve")
    server["metadata"].setdefault("annotations", {})["duoserve.dev/ignore-host-namespace"] = "the node's network card"
    found = check(Manifests(documents), with_ignored=True)
    assert {(f.rule, f.object, f.ignored) for f in found} == {
        ("host-namespace", "Deployment/duoserve", "the node's network card"),
        ("host-namespace", "Deployment/duoserve-exporter", None),
    }
    assert [f.object for f in check(Manifests(documents))] == ["Deployment/duoserve-exporter"]


def test_a_neighbour_in_a_restricted_namespace_is_held_to_its_level_and_no_more() -> None:
    documents = renders.documents("production")
    neighbour(documents)
    namespace = next(d for d in documents if d["metadata"]["name"] == "web")
    namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    found = check(Manifests(documents))
    assert {finding.rule for finding in found} == {"root", "escalation", "capabilities", "seccomp"}
    assert {finding.object for finding in found} == {"Deployment/web"}
    assert all("The namespace enforces" in finding.why for finding in found)


def test_without_its_namespace_no_level_counts_as_enforced() -> None:
    documents = [d for d in renders.documents("production") if d["kind"] != "Namespace"]
    next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]["hostNetwork"] = True
    (found,) = check(Manifests(documents))
    assert found.rule == "host-namespace" and "enforces" not in found.why


def test_an_object_that_is_kept_elsewhere_is_declared() -> None:
    documents = renders.documents("component:rollout-owned")
    assert not [d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "duoserve-models"]
    assert check(Manifests(documents)) == []
    for document in documents:
        document["metadata"].pop("annotations", None)
    assert {finding.rule for finding in check(Manifests(documents))} == {"missing-configmap", "flag-file"}


def test_a_rollout_that_needs_more_replicas_than_the_overlay_has_is_found() -> None:
    """The local overlay has one replica, and the component's settings need two."""
    parts = [renders.documents("local"), renders.documents("component:rollout")]
    kinds = ("CronJob", "Role", "RoleBinding", "ServiceAccount", "ConfigMap", "NetworkPolicy")
    rollout = [d for d in parts[1] if d["kind"] in kinds and d["metadata"]["name"].startswith("duoserve-rollout")]
    (found,) = [f for f in check(Manifests([*parts[0], *rollout])) if f.rule == "rollout-size"]
    assert "at most 1" in found.expected and found.received == "2"


def test_the_doctor_knows_the_entrypoint_and_the_commands() -> None:
    entrypoint = (ROOT / "serving/container/entrypoint.sh").read_text()
    assert set(commands.VARIABLES) == set(re.findall(r"\bDUOSERVE_[A-Z_]+", entrypoint))
    assert [name for name in programs.COMMANDS if importlib.util.find_spec(name) is None] == []


def test_its_time_grows_as_the_set_does() -> None:
    """Six times the objects, in as many more namespaces: far from 36 times as long."""
    parts = [part for part in renders.render("production").split("\n---\n") if "kind: Namespace" not in part]

    def seconds(copies: int) -> float:
        moved = [part.replace("namespace: duoserve", f"namespace: n{n}") for n in range(copies) for part in parts]
        documents = [found.data for found in parse("\n---\n".join(moved)).objects]
        began = time.process_time()
        check(Manifests(documents))
        return time.process_time() - began

    seconds(1)  # what is imported and compiled once
    assert seconds(24) < 15 * max(seconds(4), seconds(4))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


PLACES = places(renders.documents("gitops-canary"))[1:]


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_survived(place: tuple[Any, ...], value: Any) -> None:
    """A wrong type is a finding of the schemas; no rule may fail because of it."""
    documents = renders.documents("gitops-canary")
    node: Any = documents
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    for finding in check(Manifests(documents)):
        assert str(finding)
