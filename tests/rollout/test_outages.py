"""Short outages of the cluster's API, and changes of metadata, do not disturb a rollout."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.rollout import Busy, Rollout, RolloutError, Stopped
from serving.rollout.errors import Away
from serving.rollout.replicas import discovery
from serving.rollout.reporter import Reporter
from serving.rollout.storage import api as storage_api
from serving.rollout.storage.api import ClusterApi
from serving.rollout.storage.cluster import ConfigMapEntry, ConfigMapHistory, LeaseLock
from serving.rollout.storage.files import ConfigFile
from tests.rollout import models
from tests.rollout.kube import FAULTS, FakeCluster
from tests.rollout.site import WAITS, Site

TEXT = "model_config_list {}\n"
OTHER = "model_config_list { }\n"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    monkeypatch.setattr(storage_api, "_TIMEOUT", 0.3)
    with FakeCluster() as found:
        monkeypatch.setenv("KUBECONFIG", found.kubeconfig(tmp_path))
        found.put("ml", "configmaps", "models", data={"models.config": TEXT})
        yield found


def lease(cluster: FakeCluster) -> dict[str, object]:
    spec: dict[str, object] = cluster.objects["ml", "leases", "models"]["spec"]
    return spec


Call = Callable[[ClusterApi], object]


def hold(api: ClusterApi) -> object:
    with LeaseLock(api, "ml", "models").held("ada", "run 2"):
        return "held"


CALLS: dict[str, Call] = {
    "config read": lambda api: ConfigMapEntry(api, "ml", "models", "models.config").read(),
    "config written": lambda api: ConfigMapEntry(api, "ml", "models", "models.config").write(OTHER, TEXT),
    "history begun": lambda api: ConfigMapHistory(api, "ml", "new").append({"event": "test"}),
    "history continued": lambda api: ConfigMapHistory(api, "ml", "old").append({"event": "test"}),
    "history read": lambda api: ConfigMapHistory(api, "ml", "old").read(),
    "lock": hold,
    "lock of a dead holder": hold,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_any_call_outlasts_any_outage_and_is_made_once(cluster: FakeCluster, call: str, fault: str) -> None:
    cluster.put("ml", "configmaps", "old", data={"history.jsonl": '{"event": "old"}\n'})
    if call == "lock of a dead holder":
        cluster.put("ml", "leases", "models", spec={"holderIdentity": None})
    api = ClusterApi("here")
    ending = cluster.outage_of(0.4, fault)
    try:
        CALLS[call](api)
    finally:
        ending.join()
    if call == "config written":
        assert ConfigMapEntry(api, "ml", "models", "models.config").read() == OTHER
    for name, before in (("new", 0), ("old", 1)) if call.startswith("history") else ():
        events = [record["event"] for record in ConfigMapHistory(api, "ml", name).read()]
        assert events.count("test") <= 1 and len(events) >= before
    if call.startswith("lock"):
        assert not lease(cluster).get("holderIdentity")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lock_is_renewed_after_an_outage_even_when_it_ran_out_meanwhile(cluster: FakeCluster, fault: str) -> None:
    lock = LeaseLock(ClusterApi("here"), "ml", "models")
    with lock.held("ada", "run 2"):
        lease(cluster)["renewTime"] = "2026-01-01T00:00:00.000000Z"
        ending = cluster.outage_of(0.4, fault)
        lock.check()
        ending.join()
        assert str(lease(cluster)["renewTime"]) > "2026-01-02"
        lease(cluster)["holderIdentity"] = "bob, for: run 3"
        with pytest.raises(Busy, match="held by bob"):
            lock.check()
    assert lease(cluster)["holderIdentity"] == "bob, for: run 3"


def test_an_api_that_stays_away_is_an_error_after_the_limit(cluster: FakeCluster) -> None:
    entry = ConfigMapEntry(ClusterApi("here", patience=0.5), "ml", "models", "models.config")
    entry.read()
    with cluster.outage("503"), pytest.raises(Away, match="503"):
        entry.write(OTHER, TEXT)
    assert entry.read() == TEXT


def storm(cluster: FakeCluster, ended: threading.Event) -> threading.Thread:
    """Annotations that change all the time."""

    def run() -> None:
        while not ended.wait(0.02):
            cluster.touch()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_changing_metadata_does_not_count_as_an_edit(cluster: FakeCluster) -> None:
    ended = threading.Event()
    thread = storm(cluster, ended)
    try:
        api = ClusterApi("here")
        entry, history = ConfigMapEntry(api, "ml", "models", "models.config"), ConfigMapHistory(api, "ml", "history")
        lock = LeaseLock(api, "ml", "models")
        with lock.held("ada", "run 2"):
            for number in range(20):
                before, after = (TEXT, OTHER) if number % 2 == 0 else (OTHER, TEXT)
                assert entry.read() == before
                cluster.touch()
                lock.check()
                history.append({"event": "edit", "number": number})
                entry.write(after, before)
        assert [record["number"] for record in history.read()] == list(range(20))
        cluster.objects["ml", "configmaps", "models"]["data"]["models.config"] = "theirs"
        with pytest.raises(Busy, match="an edit by somebody else"):
            entry.write(OTHER, TEXT)
    finally:
        ended.set()
        thread.join()


def test_a_file_that_is_absent_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(TEXT)
    config = ConfigFile(path)
    config.read()
    path.unlink()
    threading.Timer(0.3, lambda: path.write_text(OTHER)).start()
    assert config.read() == OTHER
    path.unlink()
    threading.Timer(0.3, lambda: path.write_text(OTHER)).start()
    config.write(TEXT, OTHER)
    assert path.read_text() == TEXT
    with pytest.raises(RolloutError, match="readable text file"):
        ConfigFile(tmp_path / "nothing").read()


class Outages(Reporter):
    """An outage of a second at every new step that the rollout reports."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._faults = itertools.cycle(FAULTS)
        self._ending: threading.Thread | None = None
        self.steps: list[str] = []

    def report(self, step: str, text: str) -> None:
        if step in self.steps[-1:]:
            return
        self.steps.append(step)
        self.end()
        self._ending = self._cluster.outage_of(1, next(self._faults))

    def end(self) -> None:
        if self._ending is not None:
            self._ending.join()


@contextlib.contextmanager
def kubelet(cluster: FakeCluster, site: Site) -> Iterator[None]:
    """Writes what the ConfigMap says into the file that the replicas read."""
    cluster.put("ml", "configmaps", "models", data={"models.config": site.config.read_text()})
    ended = threading.Event()

    def run() -> None:
        text = site.config.read_text()
        while not ended.wait(0.1):
            now = cluster.objects["ml", "configmaps", "models"]["data"]["models.config"]
            if now != text:
                site.write(now)
                text = now

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def in_the_cluster(cluster: FakeCluster, site: Site, **changes: object) -> dict[str, object]:
    """Settings: the config is in the cluster, and one of the replicas is found there."""
    first, second = (replica.address for replica in site.replicas)
    host, _, port = first.rpartition(":")
    host = {"localhost": "127.0.0.1"}.get(host, host)
    cluster.put("ml", "pods", "duoserve-0", status={"phase": "Running", "podIP": host})
    return {
        "config": "configmap:ml/models", "context": "here",
        "replicas": (f"pods:ml/app=duoserve:{port}", second), **changes,
    }  # fmt: skip


def test_a_rollout_outlasts_an_outage_of_the_api_at_each_of_its_steps(cluster: FakeCluster, site: Site) -> None:
    ended = threading.Event()
    outages = Outages(cluster)
    with kubelet(cluster, site):
        settings = site.settings(**in_the_cluster(cluster, site))
        thread = storm(cluster, ended)
        try:
            with Rollout(settings, reporter=outages) as rollout:
                rollout.run(models.GOOD)
                assert rollout.status()[0].labels == {"stable": 2, "canary": 2, "previous": 1}
                rollout.rollback()
                state, _, found = rollout.status()
                events = [record["event"] for record in rollout.history()]
        finally:
            outages.end()
            ended.set()
            thread.join()
    assert state.labels["stable"] == 1 and not found
    assert {"load", "check", "canary", "bake", "stable", "watch", "rollback"} <= {*outages.steps}
    assert events.count("edit") == 4 and events.count("finished") == 2


def test_a_rollback_is_done_although_the_replicas_can_not_be_found(cluster: FakeCluster, site: Site) -> None:
    with site.rollout() as rollout:
        rollout.canary(models.GOOD)
    changes = in_the_cluster(cluster, site, config=str(site.config), replicas=("pods:ml/app=duoserve:8500",))
    waits = {"waits": type(WAITS)(step=1, missing=0.5, poll=0.1, call=1)}
    with cluster.outage("refused"), Rollout(site.settings(**changes, **waits)) as rollout:
        outcome = rollout.rollback()
    assert outcome.text == "rolled back: stable is version 1"
    assert any("there may be more replicas" in warning for warning in outcome.warnings)
    assert 'key: "canary" value: 1' in site.config.read_text()


def test_a_discovery_that_fails_for_too_long_stops_the_rollout_and_undoes_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = discovery.socket.getaddrinfo
    broken = threading.Event()

    def getaddrinfo(name: str, *rest: object, **options: object) -> object:
        if name == "duoserve-headless" and broken.is_set():
            raise discovery.socket.gaierror(discovery.socket.EAI_AGAIN, "try again")
        return resolve("127.0.0.1" if name == "duoserve-headless" else name, *rest, **options)  # type: ignore[arg-type]

    class Break(Reporter):
        def report(self, step: str, text: str) -> None:
            if step == "check":
                broken.set()

    monkeypatch.setattr(discovery.socket, "getaddrinfo", getaddrinfo)
    first, second = (replica.address for replica in site.replicas)
    settings = site.settings(
        replicas=(f"dns:duoserve-headless:{first.rpartition(':')[2]}", second),
        waits=type(WAITS)(step=120, missing=8, poll=0.2, call=5, bake=1, watch=1),
    )
    with Rollout(settings, reporter=Break()) as rollout, pytest.raises(Stopped) as stopped:
        rollout.run(models.GOOD)
    assert stopped.value.step == "canary" and stopped.value.undone
    assert any("discovery" in line and "try again" in line for line in stopped.value.findings), stopped.value.findings
