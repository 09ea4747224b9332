"""The exporter: versions and labels of every replica."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.exporter import VersionCollector, ask, main
from serving.local.testing import free_port
from tests.client.fake import wait_until
from tests.k8s.deployment import Pod
from tests.k8s.tools import ROOT


@pytest.fixture(scope="module")
def pod(store: Path) -> Iterator[Pod]:
    with Pod(store, load_retry_interval_micros="100000") as running:  # a failed load is known soon
        yield running


def samples(collector: VersionCollector) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "replica")): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_versions_and_labels_of_a_server(pod: Pod) -> None:
    assert samples(VersionCollector([pod.rest], "emoji", ["stable", "canary"])) == {
        ("duoserve_replicas", "emoji"): 1,
        ("duoserve_replica_up", "emoji"): 1,
        ("duoserve_label_version", "stable", "emoji"): 1,
        ("duoserve_version_available", "emoji", "1"): 1,
        ("duoserve_failed_version", "emoji"): 0,
    }


def test_a_failed_load_differs_from_a_version_that_ended(store: Path, pod: Pod) -> None:
    config = store / "models.config"
    before = config.read_text()
    (store / "emoji" / "2").mkdir()
    try:
        config.write_text(before.replace("versions: 1", "versions: 1\n        versions: 2"))
        wait_until(lambda: ask(pod.rest, "emoji", ["stable"], 5).failed == {2}, within=60)
        found = samples(VersionCollector([pod.rest], "emoji", ["stable"]))
        assert found["duoserve_failed_version", "emoji"] == 2
        assert found["duoserve_version_available", "emoji", "2"] == 0
        assert found["duoserve_label_version", "stable", "emoji"] == 1
    finally:
        config.write_text(before)
        (store / "emoji" / "2").rmdir()


def test_a_server_that_does_not_answer_is_down(pod: Pod) -> None:
    found = samples(VersionCollector([f"127.0.0.1:{free_port()}", "no-such-name.invalid:1"], "emoji", ["stable"], 1))
    assert found == {("duoserve_replicas", "emoji"): 1, ("duoserve_replica_up", "emoji"): 0}
    assert samples(VersionCollector([pod.rest], "other", ["stable"]))["duoserve_replica_up", "other"] == 1


@pytest.mark.parametrize("port", ["99999", "-1", "x"])
def test_an_invalid_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--target", "127.0.0.1:1", "--model", "emoji", f"--port={port}"])
    assert f"expected a port from 0 to 65535, received {port!r}" in capsys.readouterr().err


def test_the_command_serves_the_page_and_ends_on_sigterm(pod: Pod) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serving.exporter", "--target", pod.rest, "--model", "emoji", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr and "metrics of emoji" in process.stderr.readline()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
        page = reply.read().decode()
    assert f'duoserve_label_version{{label="stable",model="emoji",replica="{pod.rest}"}} 1.0' in page
    process.terminate()
    assert process.wait(10) == 0
    process.stderr.close()
