"""models.config in a ConfigMap: optimistic locking, a Lease, a history for all operators, pods as replicas."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import kubernetes
import pytest

from serving.rollout import Busy, RolloutError, SettingsError, cli
from serving.rollout.storage.api import ClusterApi
from serving.rollout.storage.cluster import ConfigMapEntry, ConfigMapHistory, LeaseLock
from serving.rollout.storage.entries import entry
from tests.rollout.kube import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as found:
        found.put(
            "ml", "configmaps", "duoserve-models", data={"models.config": "model_config_list {}\n", "other": "kept"}
        )
        yield found


@pytest.fixture
def api(cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    monkeypatch.setenv("KUBECONFIG", cluster.kubeconfig(tmp_path))
    return ClusterApi("here")


KUBECONFIG = """\
current-context: {current}
contexts: [{{name: here, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "{url}"}}}}]
users: [{{name: u, user: {{token: secret}}}}]
"""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither a pod nor a kubeconfig; the home."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def pod(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod with its account's files; their folder."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    for name, constant in (("token", "SERVICE_TOKEN_FILENAME"), ("ca.crt", "SERVICE_CERT_FILENAME")):
        (nowhere / name).write_text(f"the {name}")
        monkeypatch.setattr(kubernetes.config.incluster_config, constant, str(nowhere / name))
    return nowhere


def test_a_pod_without_a_kubeconfig_uses_its_own_account(pod: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = ClusterApi(None).configuration
    assert configuration.host == "https://10.96.0.1:443"
    assert configuration.get_api_key_with_prefix("BearerToken") == "bearer the token"
    assert configuration.ssl_ca_cert == str(pod / "ca.crt")
    assert capsys.readouterr().out == ""  # or --json would be no JSON


def test_a_kubeconfig_takes_precedence_over_the_pods_account(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pod / ".kube").mkdir()
    (pod / ".kube/config").write_text(KUBECONFIG.format(current="here", url="http://home:1"))
    assert ClusterApi(None).configuration.host == "http://home:1"
    (pod / "named").write_text(KUBECONFIG.format(current="nothing", url="http://named:2"))
    monkeypatch.setenv("KUBECONFIG", str(pod / "named"))
    assert ClusterApi("here").configuration.host == "http://named:2"


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "contexts: 3", KUBECONFIG.format(current="gone", url=""), "current-context: here"]
)
def test_a_missing_or_broken_kubeconfig_is_a_clear_error(
    nowhere: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (nowhere / ".kube").mkdir()
        (nowhere / ".kube/config").write_text(text)
    for context in (None, "wrong"):
        with pytest.raises(SettingsError, match="Expected a kubeconfig or a pod's account"):
            ClusterApi(context)
    options = ["--model", "m", "--config", "configmap:ml/models", "--replica", "a:1", "--store", "."]
    assert cli.main(["status", "--json", *options]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"] == "SettingsError"
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("url", "extra", "proxy"),
    [
        ("https://127.0.0.1:6443", "", None),
        ("http://localhost:8001", "", None),
        ("https://cluster.example:6443", "", "http://proxy.example:3128"),
        ("https://127.0.0.1:6443", ', proxy-url: "http://tunnel.example:1"', "http://tunnel.example:1"),
    ],
)
def test_an_api_on_this_machine_is_called_without_the_environments_proxy(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, url: str, extra: str, proxy: str | None
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    (nowhere / "config").write_text(KUBECONFIG.format(current="here", url=url).replace(f'"{url}"', f'"{url}"{extra}'))
    monkeypatch.setenv("KUBECONFIG", str(nowhere / "config"))
    assert ClusterApi(None).configuration.proxy == proxy


def test_a_pod_without_its_account_mounted_is_a_clear_error(pod: Path) -> None:
    (pod / "token").unlink()
    with pytest.raises(SettingsError, match="token file does not exist"):
        ClusterApi(None)


def test_an_edit_changes_one_entry_and_nothing_else(cluster: FakeCluster, api: ClusterApi) -> None:
    target = ConfigMapEntry(api, "ml", "duoserve-models", "models.config")
    target.write("model_config_list { }\n", target.read())
    assert target.read() == "model_config_list { }\n"
    assert cluster.objects["ml", "configmaps", "duoserve-models"]["data"]["other"] == "kept"


def test_an_edit_over_another_edit_is_refused(cluster: FakeCluster, api: ClusterApi) -> None:
    target = ConfigMapEntry(api, "ml", "duoserve-models", "models.config")
    before = target.read()
    target.write("theirs", before)
    with pytest.raises(Busy):
        target.write("ours", before)
    assert target.read() == "theirs"


def test_a_missing_object_or_key_is_a_clear_error(api: ClusterApi) -> None:
    with pytest.raises(RolloutError, match="404"):
        ConfigMapEntry(api, "ml", "nothing", "models.config").read()
    with pytest.raises(RolloutError, match=r"models\.config, other"):
        ConfigMapEntry(api, "ml", "duoserve-models", "wrong").read()


def test_one_operator_at_a_time(cluster: FakeCluster, api: ClusterApi) -> None:
    first, second = (LeaseLock(api, "ml", "duoserve-models-rollout") for _ in range(2))
    with first.held("ada@here", "run 8"):
        with pytest.raises(Busy, match="ada@here, for: run 8"), second.held("bob@there", "run 9"):
            pass
        first.check()
    with second.held("bob@there", "run 9"):
        second.check()


def test_the_lease_of_a_dead_holder_is_free_when_it_has_expired(cluster: FakeCluster, api: ClusterApi) -> None:
    ago = datetime.now(timezone.utc) - timedelta(seconds=31)
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 30, "renewTime": ago.isoformat()}
    cluster.put("ml", "leases", "duoserve-models-rollout", spec=spec)
    with LeaseLock(api, "ml", "duoserve-models-rollout").held("ada@here", "rollback"):
        assert "ada" in cluster.objects["ml", "leases", "duoserve-models-rollout"]["spec"]["holderIdentity"]


def test_a_lease_that_was_taken_away_stops_the_next_edit(cluster: FakeCluster, api: ClusterApi) -> None:
    lock = LeaseLock(api, "ml", "duoserve-models-rollout")
    with lock.held("ada@here", "run 8"):
        cluster.objects["ml", "leases", "duoserve-models-rollout"]["spec"]["holderIdentity"] = "bob@there"
        with pytest.raises(Busy, match="bob@there"):
            lock.check()


def test_the_history_is_shared_and_keeps_every_entry_of_two_writers(cluster: FakeCluster, api: ClusterApi) -> None:
    histories = [ConfigMapHistory(api, "ml", "duoserve-models-rollout") for _ in range(2)]

    def write(history: ConfigMapHistory, command: str) -> None:
        for version in range(1, 6):
            history.append(entry("edit", command, "pets", version=version))

    threads = [threading.Thread(target=write, args=each) for each in zip(histories, ("run", "promote"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record["version"] for record in histories[0].read()) == sorted([*range(1, 6)] * 2)


def test_a_history_that_outgrows_its_configmap_loses_the_oldest_entries(cluster: FakeCluster, api: ClusterApi) -> None:
    history = ConfigMapHistory(api, "ml", "duoserve-models-rollout")
    for version in range(1, 6):
        history.append(entry("check", "run", "pets", version=version, figures="x" * 300_000))
    assert [record["version"] for record in history.read()] == [4, 5]


def test_running_pods_are_replicas_ready_or_not(cluster: FakeCluster, api: ClusterApi) -> None:
    for name, ip, phase, leaving in (
        ("a", "10.0.0.1", "Running", None),
        ("b", "10.0.0.2", "Pending", None),
        ("c", "10.0.0.3", "Running", "2026-11-24T00:00:00Z"),
        ("d", "fd00::4", "Running", None),
        ("e", None, "Running", None),
    ):
        metadata = {"deletionTimestamp": leaving} if leaving else {}
        cluster.put("ml", "pods", name, metadata=metadata, status={"phase": phase, "podIP": ip})
    assert sorted(api.pod_addresses("ml", "app=duoserve", 8500)) == ["10.0.0.1:8500", "[fd00::4]:8500"]
