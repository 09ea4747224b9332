"""The manifests equal the reviewed golden files, and every schema and linter accepts them."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.check import Manifests
from serving.check.rules import api
from tests.k8s import crds, renders
from tests.k8s.tools import ROOT, tool

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
# An image volume is an alpha field of 1.31: unknown before.
FROM_131 = [version for version in VERSIONS if version != "1.30"]


@pytest.mark.parametrize("name", renders.OVERLAYS)
def test_an_overlay_renders_to_its_golden_file(name: str) -> None:
    golden = (renders.GOLDEN / f"{name}.yaml").read_text()
    assert renders.overlay(name) == golden, "look at the difference; then `python -m tests.k8s.renders`"


def test_there_is_no_golden_file_without_its_overlay() -> None:
    assert {path.stem for path in renders.GOLDEN.glob("*.yaml")} == set(renders.OVERLAYS)


def test_compose_has_the_rules_of_the_cluster() -> None:
    assert renders.RULES.read_text() == renders.rules(), "`python -m tests.k8s.renders`"


def validate(documents: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Problems that the schemas of every supported Kubernetes and the client's models see."""
    problems = [
        f"{name} {finding} ({version})"
        for version in VERSIONS
        for name, found in documents.items()
        if version in FROM_131 or "image-volume" not in name
        for finding in api.check(Manifests(found), version)
    ]
    script = Path(__file__).with_name("validate.py")
    given = json.dumps({"documents": documents, "crds": crds.SCHEMAS})
    done = subprocess.run([tool("python"), str(script)], input=given, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["checked"] == sum(map(len, documents.values()))
    return [*problems, *answer["problems"]]


MISTAKES: dict[tuple[str, str], Any] = {
    ("Deployment", "spec.template.spec.terminationGracePeriod"): 30,
    ("Deployment", "spec.template.spec.containers"): "one",
    ("PodMonitor", "spec.podMetricsEndpoint"): [],
    ("PrometheusRule", "spec.group"): [],
    ("GRPCRoute", "spec.rule"): [],
    ("Gateway", "spec.listeners"): [],
    ("Service", "apiVersion"): "v2",
}


@pytest.fixture(scope="module")
def problems() -> list[str]:
    """What the schemas report about every rendering and, under the names of MISTAKES, about broken objects."""
    documents = {name: renders.documents(name) for name in renders.ALL}
    for found in [document for document in documents["kserve"] if document["kind"] == "InferenceService"]:
        predictor = copy.deepcopy(found["spec"]["predictor"])
        pod = {key: value for key, value in predictor.items() if key not in crds.POD_FIELDS_OF_PREDICTOR}
        documents["kserve"].append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod})
    for (kind, path), value in MISTAKES.items():
        document = next(document for document in renders.documents("gitops-canary") if document["kind"] == kind)
        *parents, last = path.split(".")
        at = document
        for key in parents:
            at = at[key]
        at[last] = value
        documents[f"{kind} {path}"] = [document]
    return validate(documents)


def _broken(problem: str) -> str | None:
    return next((f"{kind} {path}" for kind, path in MISTAKES if problem.startswith(f"{kind} {path}")), None)


def test_every_schema_takes_every_object(problems: list[str]) -> None:
    assert [problem for problem in problems if not _broken(problem)] == []


def test_the_schemas_refuse_mistakes(problems: list[str]) -> None:
    assert {_broken(problem) for problem in problems} >= {f"{kind} {path}" for kind, path in MISTAKES}


def test_checkov_finds_nothing_and_nothing_is_skipped(tmp_path: Path) -> None:
    """But for the overlay for kind: an image that was loaded into the node has no digest and can't be pulled."""
    for name in renders.ALL:
        (tmp_path / f"{name.replace(':', '-')}.yaml").write_text(renders.render(name))
    for name in ("Dockerfile.serving", "Dockerfile.tools"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    command = [tool("python", of="checkov"), "-m", "checkov.main", "-d", str(tmp_path), "--compact", "-o", "json"]
    command += ["--framework", "kubernetes", "dockerfile", "--skip-download"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, env={**os.environ, "LOG_LEVEL": "ERROR"}
    )
    reports = json.loads(done.stdout)
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}, done.stderr
    for report in reports:
        failed = {
            (Path(check["file_path"]).stem, check["check_id"]): check for check in report["results"]["failed_checks"]
        }
        assert failed.keys() <= {("local", "CKV_K8S_15"), ("local", "CKV_K8S_43")}, failed
        assert report["summary"]["skipped"] == 0 and report["summary"]["parsing_errors"] == 0
        assert report["summary"]["passed"] > (1000 if report["check_type"] == "kubernetes" else 20)


def test_linters_find_nothing() -> None:
    yaml_files = [*map(str, (ROOT / "k8s").rglob("*.yaml")), *map(str, (ROOT / "compose").rglob("*.yml"))]
    yaml_files = [str(ROOT / "compose.yaml"), *(path for path in yaml_files if path != str(renders.RULES))]
    for command in (
        [tool("yamllint"), "--strict", "-c", str(Path(__file__).with_name("yamllint.yaml")), *yaml_files],
        [tool("hadolint"), str(ROOT / "Dockerfile.serving"), str(ROOT / "Dockerfile.tools")],
        [tool("shellcheck"), *map(str, (ROOT / "serving/container").glob("*.sh"))],
        [tool("shellcheck"), *map(str, (ROOT / "k8s").rglob("*.sh"))],
        [tool("actionlint"), "-shellcheck", tool("shellcheck"), *map(str, (ROOT / ".github/workflows").glob("*.yml"))],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{Path(command[0]).name}:\n{done.stdout}{done.stderr}"


def test_the_image_starts_the_server_as_the_deployment_does() -> None:
    """Two homes of one list: what runs on a laptop is what runs in the cluster, with the threads of the entrypoint."""
    lines = (ROOT / "Dockerfile.serving").read_text().rpartition("\nCMD ")[2]
    image = json.loads(lines.replace("\\\n", ""))
    deployment = next(d for d in renders.documents("local") if d["kind"] == "Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    script = (ROOT / "serving/container/entrypoint.sh").read_text()
    added = re.findall(r"^add_flag (\w+_op_parallelism) (.+)$", script, re.MULTILINE)
    threads = [f"--{name}={value}".replace('"$cpus"', "$(CPU_LIMIT)") for name, value in added]
    assert set(threads) <= set(arguments)
    assert [argument for argument in arguments if argument not in threads] == image


def test_compose_mounts_what_is_there() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    mounts = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    for mount in mounts:
        source = mount.partition(":")[0]
        assert source.startswith("${") or (ROOT / source).exists(), mount
    assert {
        image for service in compose["services"].values() if (image := service["image"]).endswith(":latest")
    } == set()


def test_a_canary_differs_from_production_by_its_track_only() -> None:
    found = {document["metadata"]["name"]: document for document in renders.documents("gitops-canary")
             if document["kind"] == "Deployment"}  # fmt: skip
    stable = found["duoserve"]["spec"]["template"]["spec"]["containers"][0]
    canary = found["duoserve-canary"]["spec"]["template"]["spec"]["containers"][0]
    for name in ("args", "image", "readinessProbe", "livenessProbe", "lifecycle", "securityContext"):
        assert stable[name] == canary[name]
