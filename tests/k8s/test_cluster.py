"""The overlay for kind in a real cluster: apply, predict, roll out, roll back, drain; repeatable.

Needs the images loaded into the cluster, and DUOSERVE_CLUSTER to name its kubectl context, so that
no production cluster is used by accident. `.github/workflows/kubernetes.yml` has the commands.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from duoserve import Client
from serving.exporter import Replica, ask
from serving.local.testing import free_port
from serving.models_config import modelfile
from tests.client.conftest import encoded, photo
from tests.k8s.tools import ROOT

pytestmark = pytest.mark.cluster
CALLER = """
apiVersion: v1
kind: Pod
metadata: {name: caller, labels: {duoserve.dev/client: "true"}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: caller
      image: duoserve-tools:local
      imagePullPolicy: Never
      command: [duoserve, bench, --server, "dns:///duoserve-headless:8500", --model, emoji, --label, stable]
      args: [--concurrency, "2", --duration, "150", --json]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
    command = ["kubectl", f"--context={os.environ['DUOSERVE_CLUSTER']}", "--namespace=duoserve", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def forwarded(target: str, port: int) -> Iterator[str]:
    """A local address that leads to a port of a pod or Service."""
    local = free_port()
    command = ["kubectl", f"--context={os.environ['DUOSERVE_CLUSTER']}", "--namespace=duoserve"]
    process = subprocess.Popen(
        [*command, "port-forward", target, f"{local}:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout and "Forwarding" in process.stdout.readline()
        yield f"127.0.0.1:{local}"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def servers() -> list[str]:
    return kubectl("get", "pods", "-l", "app.kubernetes.io/component=server", "-o", "name").split()


def everywhere(condition: Callable[[Replica], bool], within: float = 300) -> None:
    """Waits until every pod's answer fulfils the condition."""
    deadline = time.monotonic() + within
    while True:
        replicas = []
        for pod in servers():
            with forwarded(pod, 8501) as address:
                replicas.append(ask(address, "emoji", ["stable"], 10))
        if replicas and all(condition(replica) for replica in replicas):
            return
        assert time.monotonic() < deadline, replicas
        time.sleep(5)


@pytest.fixture(scope="module")
def overlay() -> Iterator[Path]:
    """A copy of the overlay for kind with its own models.config, applied."""
    if "DUOSERVE_CLUSTER" not in os.environ:
        pytest.skip("DUOSERVE_CLUSTER names no kubectl context to use")
    folder = ROOT / "k8s/overlays/test-cluster"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    shutil.copytree(ROOT / "k8s/overlays/local", folder)
    try:
        shutil.copy(ROOT / "serving/config/models.config", folder)
        with (folder / "kustomization.yaml").open("a") as kustomization:
            kustomization.write(
                "configMapGenerator:\n  - name: duoserve-models\n    behavior: replace\n    files: [models.config]\n"
                "    options: {disableNameSuffixHash: true}\n"
            )
        kubectl("apply", "-k", str(folder))
        kubectl("rollout", "status", "deployment/duoserve", "--timeout=1500s", timeout=1600)
        everywhere(lambda replica: replica.labels.get("stable") == 1)  # an earlier run may have ended anywhere
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def second(overlay: Path) -> int:
    """A version beside the first one, exported in the cluster; its number is 2 in the first run only."""
    job = f"duoserve-export-{uuid.uuid4().hex[:8]}"
    kubectl("create", "job", "--from=cronjob/duoserve-export", job)
    kubectl("wait", "--for=condition=complete", f"job/{job}", "--timeout=1500s", timeout=1600)
    published = re.search(r"Published version (\d+) of emoji", kubectl("logs", f"job/{job}"))
    assert published
    return int(published[1])


def start(manifest: str, name: str) -> None:
    """Create a pod, in the place of one that an earlier run left."""
    kubectl("delete", "pod", name, "--ignore-not-found")
    kubectl("apply", "-f", "-", stdin=manifest)


def change(folder: Path, **edits: object) -> None:
    config = folder / "models.config"
    config.write_text(modelfile.edit(config.read_text(), "emoji", **edits))  # type: ignore[arg-type]
    kubectl("apply", "-k", str(folder))


def test_a_second_apply_changes_nothing(overlay: Path) -> None:
    """`kubectl diff` ends with 1 when it shows something, a server-side apply when it conflicts."""
    kubectl("diff", "-k", str(overlay))
    kubectl("apply", "--server-side", "--dry-run=server", "-k", str(overlay))


def test_it_serves(overlay: Path) -> None:
    with forwarded("service/duoserve", 8500) as address, Client(address, model="emoji", label="stable") as client:
        answer = client.predict(encoded(photo()), "red heart")
        assert answer.version == 1
        assert abs(float(answer.probabilities.sum()) - 1) < 1e-4


def test_a_second_version_goes_out_and_comes_back(overlay: Path, second: int) -> None:
    before = servers()
    change(overlay, versions=[1, second])
    everywhere(lambda replica: replica.states.get(second) == "AVAILABLE")
    change(overlay, labels={"stable": second})
    everywhere(lambda replica: replica.labels.get("stable") == second)
    change(overlay, labels={"stable": 1})
    everywhere(lambda replica: replica.labels.get("stable") == 1)
    assert servers() == before, "a rollout restarts no pod"


def owned_by_the_rollout(folder: Path) -> None:
    """The overlay with the component `rollout`, for one replica."""
    settings = (
        (ROOT / "k8s/components/rollout/rollout.toml").read_text().replace("min_replicas = 2", "min_replicas = 1")
    )
    changed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    changed["components"].append("../../components/rollout")
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "duoserve-rollout"}}
    changed["patches"].append({"patch": yaml.safe_dump({**patch, "data": {"rollout.toml": settings}})})
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(changed))


def test_the_rollout_runs_in_the_cluster_and_goes_back(overlay: Path, second: int) -> None:
    owned_by_the_rollout(overlay)
    kubectl("apply", "-k", str(overlay))
    environment = {**os.environ, "CONTEXT": os.environ["DUOSERVE_CLUSTER"]}
    for words, version in ((["run", str(second)], second), (["rollback"], 1)):
        done = subprocess.run(
            [str(ROOT / "k8s/rollout.sh"), *words], capture_output=True, text=True, timeout=1800, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        everywhere(lambda replica, version=version: replica.labels.get("stable") == version)  # type: ignore[misc]


def test_a_rolling_restart_loses_no_call(overlay: Path) -> None:
    start(CALLER, "caller")
    kubectl("wait", "--for=condition=ready", "pod/caller", "--timeout=120s", timeout=150)
    time.sleep(10)
    kubectl("rollout", "restart", "deployment/duoserve")
    kubectl("rollout", "status", "deployment/duoserve", "--timeout=600s", timeout=700)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/caller", "--timeout=300s", timeout=330)
    report = json.loads(kubectl("logs", "caller").strip().splitlines()[-1])
    assert report["calls"] > 100 and not report["errors"], report


def test_callers_without_the_label_are_kept_out(overlay: Path) -> None:
    manifest = CALLER.replace("caller", "stranger").replace(', labels: {duoserve.dev/client: "true"}', "")
    start(manifest, "stranger")
    kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/stranger", "--timeout=120s", timeout=150)
