"""The rollout in a cluster: its rights are what it calls, its command line works, and the script runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.rollout.storage.api import ClusterApi
from serving.rollout.storage.cluster import ConfigMapEntry, ConfigMapHistory, LeaseLock
from tests.k8s import renders
from tests.k8s.deployment import Pod
from tests.k8s.tools import ROOT, tool
from tests.rollout.kube import FakeCluster

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RENDERING = "component:rollout"
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch"}


class Recorder(FakeCluster):
    """An API server that notes what is asked of it: (group, resource, name, verb)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[tuple[str, str, str, str]] = set()

    def handle(self, verb: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        parts = path.partition("?")[0].strip("/").split("/")
        group = "" if parts[0] == "api" else parts[1]
        kind, *name = parts[parts.index("namespaces") + 2 :]
        what = "list" if verb == "GET" and not name else VERBS[verb]
        self.calls.add((group, kind, name[0] if name else "", what))
        return super().handle(verb, path, body)


@pytest.fixture
def cluster() -> Iterator[Recorder]:
    with Recorder() as found:
        yield found


def found(kind: str, name: str = "duoserve-rollout") -> dict[str, Any]:
    documents = renders.documents(RENDERING)
    return next(d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name))


def granted() -> set[tuple[str, str, str, str]]:
    """The Role, spread out."""
    return {
        (group, resource, name, verb)
        for rule in found("Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def test_its_rights_are_what_it_calls_and_no_more(
    cluster: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", cluster.kubeconfig(tmp_path))
    api = ClusterApi("here")
    cluster.put("duoserve", "configmaps", "duoserve-models", data={"models.config": "model_config_list {}\n"})
    target = ConfigMapEntry(api, "duoserve", "duoserve-models", "models.config")
    with LeaseLock(api, "duoserve", "duoserve-models-rollout").held("me", "a test"):
        target.write("model_config_list { }\n", target.read())
    for number in range(2):
        ConfigMapHistory(api, "duoserve", "duoserve-models-rollout").append({"event": "test", "number": number})
    api.pod_addresses("duoserve", "app=x", 8500)
    assert cluster.calls == granted()


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_it_asks_for_no_more_replicas_than_the_autoscaler_keeps(tmp_path: Path, overlay: str) -> None:
    """The component added to an overlay, as a user does it."""
    for folder in ("k8s", "serving/config"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = tmp_path / "k8s/overlays" / overlay / "kustomization.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "components": [*content["components"], "../../components/rollout"]}))
    made = subprocess.run([tool("kubectl"), "kustomize", str(path.parent)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    documents = [document for document in yaml.safe_load_all(made.stdout) if document]
    autoscaler = next(document for document in documents if document["kind"] == "HorizontalPodAutoscaler")
    config = next(d for d in documents if d["metadata"]["name"].startswith("duoserve-rollout-"))
    settings = tomllib.loads(config["data"]["rollout.toml"])
    assert settings["model"] == "emoji" and 1 <= settings["min_replicas"] <= autoscaler["spec"]["minReplicas"]
    assert made.stdout.count(config["metadata"]["name"]) == 2  # itself, and the job that mounts it


def arguments(store: Path, port: str) -> list[str]:
    """The container's, with the paths and ports of this machine."""
    container = found("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "serving.rollout"]
    settings = store / "rollout.toml"
    config = next(d for d in renders.documents(RENDERING) if d["metadata"]["name"].startswith("duoserve-rollout-"))
    settings.write_text(config["data"]["rollout.toml"].replace("min_replicas = 2", "min_replicas = 1"))
    given = " ".join(container["args"]).replace("$(NAMESPACE)", "duoserve").replace(":8500", f":{port}")
    return given.replace("/etc/duoserve/rollout/rollout.toml", str(settings)).replace("/models ", f"{store} ").split()


def test_the_job_finds_config_and_replicas(cluster: Recorder, store: Path, tmp_path: Path) -> None:
    """The container's own command line, against an API server and a replica."""
    with Pod(store) as pod:
        host, _, port = pod.address.rpartition(":")
        text = (store / "models.config").read_text()
        cluster.put("duoserve", "configmaps", "duoserve-models", data={"models.config": text})
        cluster.put("duoserve", "pods", "duoserve-0", status={"podIP": host, "phase": "Running"})
        done = subprocess.run(
            [sys.executable, "-m", "serving.rollout", *arguments(store, port)],
            capture_output=True, text=True, timeout=120, cwd=ROOT,
            env={**os.environ, "KUBECONFIG": cluster.kubeconfig(tmp_path)},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert pod.address in done.stdout and "in sync" in done.stdout
    assert cluster.calls <= granted()


KUBECTL = """#!{python}
import json, os, subprocess, sys
words = sys.argv[1:]
while words and words[0].startswith("--"):
    words.pop(0)
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if words[0] == "patch":  # client-side: the real one
    sys.exit(subprocess.run([{kubectl!r}, *words]).returncode)
if words[:2] == ["create", "job"]:
    print(open({job!r}).read())
elif words[0] == "create":
    open({made!r}, "w").write(sys.stdin.read())
elif words[0] == "logs":
    print("version 8 is stopped")
elif words[:2] == ["get", "pods"]:
    sys.stdout.write(os.environ["EXIT_CODE"])
elif words[:2] == ["get", "job"]:
    sys.stdout.write("FailureTarget Failed")
"""


def script(tmp_path: Path, *words: str, code: str = "0") -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """rollout.sh against a stand-in for kubectl; what it ended with, and the job it made."""
    template = found("CronJob")["spec"]["jobTemplate"]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "made", "ownerReferences": [{"name": "duoserve-rollout"}]},
        **template,
    }
    paths = {name: str(tmp_path / name) for name in ("log", "job", "made")}
    Path(paths["job"]).write_text(json.dumps(job))
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL.format(python=sys.executable, kubectl=tool("kubectl"), **paths))
    kubectl.chmod(0o755)
    done = subprocess.run(
        [str(ROOT / "k8s/rollout.sh"), *words], capture_output=True, text=True, timeout=60,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "EXIT_CODE": code, "CONTEXT": "my cluster"},
    )  # fmt: skip
    made = Path(paths["made"])
    return done, json.loads(made.read_text()) if made.exists() else {}


@pytest.mark.parametrize("words", [["status"], ["run", "8"], ["run", "8", "--allow-contract-change", "--json"]])
def test_the_script_starts_the_command_and_ends_with_its_code(tmp_path: Path, words: list[str]) -> None:
    done, job = script(tmp_path, *words, code="3")
    assert done.returncode == 3 and "version 8 is stopped" in done.stdout, done.stderr
    template = found("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == [*words, *template[1:]]
    assert job["metadata"]["ownerReferences"] == [], "the CronJob would delete it after the next ones, with its log"
    asked = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert all(call[:2] == ["--context=my cluster", "--namespace=duoserve"] for call in asked if call[0] != "patch")


def test_the_script_reports_a_job_that_never_ran(tmp_path: Path) -> None:
    done, _ = script(tmp_path, "run", "8", code="")
    assert done.returncode == 1 and "Expected job duoserve-rollout-run-" in done.stderr


@pytest.mark.parametrize(("words", "says"), [([], "k8s/rollout.sh run 8"), (["run", '8"}]'], "Received: 8")])
def test_the_script_refuses_unknown_words(tmp_path: Path, words: list[str], says: str) -> None:
    done, job = script(tmp_path, *words)
    assert done.returncode == 2 and says in done.stderr and not job
