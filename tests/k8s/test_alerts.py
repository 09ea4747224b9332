"""The alert rules, run by Prometheus' own tools; the dashboard and the rules over a real scrape of the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from duoserve import Client
from serving.local.testing import free_port
from tests.client.fake import wait_until
from tests.k8s import renders
from tests.k8s.deployment import Pod
from tests.k8s.tools import ROOT

HAVE_PROMETHEUS = bool(shutil.which("promtool") and shutil.which("prometheus"))
needs_prometheus = [
    pytest.mark.prometheus,
    pytest.mark.skipif(
        not HAVE_PROMETHEUS,
        reason="no prometheus and promtool on the PATH, and PyPI has none: apt-get install prometheus (CI does)",
    ),
]
CASES = Path(__file__).with_name("alerts.yml")
RUNBOOK = (ROOT / "k8s/RUNBOOK.md").read_text()


def alerts() -> dict[str, dict[str, Any]]:
    rules = yaml.safe_load(renders.rules())
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


def test_every_alert_has_a_case_that_fires_it_and_one_that_does_not() -> None:
    tests = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test.get("alert_rule_test", [])]
    assert len(alerts()) >= 9
    for name in alerts():
        outcomes = {bool(case["exp_alerts"]) for case in tests if case["alertname"] == name}
        assert outcomes == {True, False}, name


def test_every_alert_leads_to_its_page_in_the_runbook() -> None:
    anchors = {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
               for line in RUNBOOK.splitlines() if line.startswith("#")}  # fmt: skip
    for name, rule in alerts().items():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / path).exists() and anchor in anchors, name
        assert rule["labels"]["severity"] in ("warning", "critical")


class TestByPromtool:
    pytestmark = needs_prometheus

    def test_the_rules_are_rules(self) -> None:
        done = subprocess.run(["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(renders.RULES)],
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        assert done.returncode == 0, done.stderr
        config = ROOT / "compose/prometheus.yml"
        done = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def test_the_alerts_fire_when_they_should_and_only_then(self) -> None:
        done = subprocess.run(["promtool", "test", "rules", CASES.name], capture_output=True, text=True, timeout=120,
                              cwd=CASES.parent)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def test_a_rule_with_a_typo_is_caught(self, tmp_path: Path) -> None:
        """The cases are no decoration: another status in a rule fails them."""
        (tmp_path / "compose").mkdir()
        (tmp_path / "tests/k8s").mkdir(parents=True)
        broken = renders.rules().replace('status="UNAVAILABLE"', 'status="UNAVAILABEL"')
        (tmp_path / "compose/rules.yml").write_text(broken)
        cases = yaml.safe_load(CASES.read_text())
        cases["tests"] = [case for case in cases["tests"] if case["name"] == "DuoserveBatchingQueueFull"]
        assert cases["tests"]
        (tmp_path / "tests/k8s/alerts.yml").write_text(yaml.safe_dump(cases))
        done = subprocess.run(["promtool", "test", "rules", "alerts.yml"], capture_output=True, text=True, timeout=120,
                              cwd=tmp_path / "tests/k8s")  # fmt: skip
        assert done.returncode != 0


class Prometheus:
    """A real Prometheus with the rules of the repository."""

    def __init__(self, folder: Path, targets: dict[str, tuple[str, str]]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [
                {
                    "job_name": job,
                    "metrics_path": path,
                    "static_configs": [{"targets": [address], "labels": {"namespace": "test", "pod": job}}],
                }
                for job, (address, path) in targets.items()
            ],
        }
        # Every second, not every half minute: a test waits for the second evaluation.
        rules, changed = re.subn(r"interval: 30s", "interval: 1s", renders.rules())
        assert changed
        (folder / "rules.yml").write_text(rules)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.url.removeprefix('http://')}"],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=60) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success"
        return answer["data"]

    def value(self, expression: str) -> float | None:
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def up(self) -> bool:
        try:
            targets = self.get("targets")["activeTargets"]
        except OSError:
            return False
        return bool(targets) and all(target["health"] == "up" for target in targets)


@pytest.fixture(scope="module")
def prometheus(store: Path, image: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus over a pod and the exporter, with calls that were answered and calls that were not."""
    import sys

    port = free_port()
    with Pod(store) as pod:
        command = [sys.executable, "-m", "serving.exporter", "--target", pod.rest, "--model", "emoji"]
        exporter = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stderr=subprocess.DEVNULL)
        running = Prometheus(
            tmp_path_factory.mktemp("prometheus"),
            {
                "serving": (pod.rest, "/monitoring/prometheus/metrics"),
                "exporter": (f"127.0.0.1:{port}", "/metrics"),
            },
        )
        try:
            wait_until(running.up, within=30)
            with Client(pod.address, model="emoji", label="stable") as client:
                for _ in range(8):  # over several scrapes: a rate needs two
                    for _ in range(5):
                        client.predict(image, "red cat")
                    time.sleep(0.5)
            yield running
        finally:
            for process in (running.process, exporter):
                process.terminate()
                process.wait(20)
            running._log.close()


class TestOverARealScrape:
    pytestmark = needs_prometheus

    def test_the_rules_are_evaluated_without_an_error(self, prometheus: Prometheus) -> None:
        wait_until(lambda: prometheus.value("duoserve:error_ratio:rate5m") is not None, within=60)
        wait_until(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()), within=60)
        for rule in prometheus.rules():
            assert rule["health"] == "ok" and not rule.get("lastError"), rule
        assert prometheus.value("duoserve:error_ratio:rate5m") == 0
        assert prometheus.value('duoserve_label_version{label="stable"}') == 1

    def test_the_bucket_of_the_objective_is_one_that_the_server_has(self, prometheus: Prometheus) -> None:
        """A limit between two buckets would make the rule silently empty."""
        wait_until(lambda: prometheus.value("duoserve:slow_ratio:rate5m") is not None, within=60)
        ratio = prometheus.value("duoserve:slow_ratio:rate5m")
        assert ratio is not None and 0 <= ratio <= 1

    def test_predicts_are_counted_and_probes_are_not(self, prometheus: Prometheus) -> None:
        query = 'sum(:tensorflow:serving:request_latency_count{API=~"Predict|predict"})'
        wait_until(lambda: (prometheus.value(query) or 0) >= 40)  # with the next scrape
        assert 40 <= (prometheus.value(query) or 0) <= 45

    def test_every_query_of_the_dashboard_runs_and_finds_its_metric(self, prometheus: Prometheus) -> None:
        dashboard = json.loads((ROOT / "k8s/components/monitoring/dashboard.json").read_text())
        elsewhere = {"container_memory_working_set_bytes"}  # the kubelet's
        only_with_batching = {"processed_batch_size_v2", "duoserve:queue_seconds"}
        known = set(prometheus.get("label/__name__/values"))
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "10s")
                query = query.replace("$namespace", ".*").replace("$model", ".*")
                found = prometheus.get("query", query=query)["result"]
                absent = any(name in query for name in elsewhere | only_with_batching)
                if not absent and "status!=" not in query:
                    assert found, f"{panel['title']}: {query}"
                for name in re.findall(r":?[a-z_]+:[\w:]+|duoserve_\w+", re.sub(r"\{[^}]*\}", "", query)):
                    assert name in known or any(part in name for part in only_with_batching), (
                        f"{panel['title']}: {name}"
                    )
