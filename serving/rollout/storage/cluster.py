"""Config, lock, history and replicas as objects of a Kubernetes cluster, by the `kubernetes` package.

Every write names the resourceVersion that was read, so the API server refuses one that would
undo somebody else's. The operator needs, in the namespace: get, create and patch on configmaps
and leases, and list on pods.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from serving.rollout.errors import Busy, RolloutError, SettingsError
from serving.rollout.storage import history
from serving.rollout.storage.targets import Snapshot

__all__ = ["ConfigMapHistory", "ConfigMapTarget", "LeaseLock", "connect", "pod_addresses"]

_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_HISTORY_KEY: Final = "history.jsonl"
_HISTORY_BYTES: Final = 800_000  # a ConfigMap holds 1 MiB; the oldest entries go first
_TIMEOUT: Final = 20
_LEASE_SECONDS: Final = 30
_TRIES: Final = 20


def connect(context: str | None) -> Any:
    """An ApiClient from the kubeconfig, or, in a pod that has none, from the pod's own account.

    Args:
        context: The kubeconfig's context; None takes the current one, or the pod's account.

    Raises:
        SettingsError: The package or a configuration is missing, or the configuration is broken.
    """
    try:
        import kubernetes
        import yaml
    except ImportError as error:
        raise SettingsError(f"Expected the package kubernetes, for a cluster. Received: {error}") from error
    config_error = kubernetes.config.ConfigException
    configuration = kubernetes.client.Configuration()
    try:
        # Not load_config: it prints to stdout, and hands the context to a loader that takes none.
        if context is None and _in_pod():
            kubernetes.config.load_incluster_config(configuration)
        else:
            kubernetes.config.load_kube_config(_kubeconfig(), context, configuration)
    except (config_error, yaml.YAMLError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise SettingsError(f"Expected a kubeconfig or a pod's account. Received: {_told(error)}") from error
    return kubernetes.client.ApiClient(configuration)


def _kubeconfig() -> str:
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _in_pod() -> bool:
    """Whether there is an account of the pod's and no kubeconfig that somebody put there to be used."""
    named = os.environ.get("KUBECONFIG") or Path(_kubeconfig()).exists()
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and not named


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def pod_addresses(api: Any, namespace: str, selector: str, port: int) -> tuple[str, ...]:
    """The addresses of the running pods that a label selector finds, ready or not."""
    with _explained(f"pods {selector} in {namespace}"):
        pods = _core(api).list_namespaced_pod(namespace, label_selector=selector, _request_timeout=_TIMEOUT).items
    hosts = [
        pod.status.pod_ip
        for pod in pods
        if pod.status.pod_ip and pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None
    ]
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)


class ConfigMapTarget:
    """models.config in a ConfigMap that the pods mount as a folder, and that no kustomization carries."""

    def __init__(self, api: Any, namespace: str, name: str, key: str) -> None:
        self.name = f"configmap/{name} in {namespace}, {key}"
        self._api = api
        self._where = (name, namespace)
        self._key = key

    def read(self) -> Snapshot:
        """The entry now, with the resourceVersion as its revision."""
        with _explained(self.name):
            found = _core(self._api).read_namespaced_config_map(*self._where, _request_timeout=_TIMEOUT)
        text = (found.data or {}).get(self._key)
        if text is None:
            raise RolloutError(f"Expected {self.name}. Received: the keys {', '.join(found.data or ()) or 'none'}")
        return Snapshot(text, found.metadata.resource_version)

    def write(self, text: str, over: Snapshot) -> Snapshot:
        """Patches the one entry, if the ConfigMap is still the one that was read."""
        patch = {"metadata": {"resourceVersion": over.revision}, "data": {self._key: text}}
        with _explained(self.name):
            done = _core(self._api).patch_namespaced_config_map(*self._where, patch, _request_timeout=_TIMEOUT)
        return Snapshot(text, done.metadata.resource_version)


class ConfigMapHistory:
    """The audit log beside the config, for every operator to see; the newest 800 kB of it."""

    def __init__(self, api: Any, namespace: str, name: str) -> None:
        self._api = api
        self._where = (name, namespace)
        self._what = f"configmap/{name} in {namespace}"

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds an entry, again if somebody else did in the meantime."""
        for attempt in range(_TRIES):
            try:
                with _explained(self._what):
                    return self._append(history.line(record))
            except Busy:
                if attempt == _TRIES - 1:
                    raise
        return None

    def _append(self, line: str) -> None:
        text, revision = self._read()
        text += line
        while len(text.encode("utf-8")) > _HISTORY_BYTES:
            text = text.partition("\n")[2]
        metadata = {"name": self._where[0]} if revision is None else {"resourceVersion": revision}
        body = {"metadata": metadata, "data": {_HISTORY_KEY: text}}
        if revision is None:
            _core(self._api).create_namespaced_config_map(self._where[1], body, _request_timeout=_TIMEOUT)
        else:
            _core(self._api).patch_namespaced_config_map(*self._where, body, _request_timeout=_TIMEOUT)

    def read(self) -> list[dict[str, Any]]:
        """The entries that are kept."""
        with _explained(self._what):
            return history.parse(self._read()[0])

    def _read(self) -> tuple[str, str | None]:
        try:
            found = _core(self._api).read_namespaced_config_map(*self._where, _request_timeout=_TIMEOUT)
        except Exception as error:
            if getattr(error, "status", None) == _NOT_FOUND:
                return "", None
            raise
        return (found.data or {}).get(_HISTORY_KEY, ""), found.metadata.resource_version


class LeaseLock:
    """A Lease, renewed while the command runs; free again 30 seconds after a holder died."""

    def __init__(self, api: Any, namespace: str, name: str) -> None:
        self._api = api
        self._where = (name, namespace)
        self._what = f"lease/{name} in {namespace}"
        self._holder = ""
        self._lost = ""
        self._ended = threading.Event()
        self._putting = threading.Lock()

    @contextlib.contextmanager
    def held(self, who: str, what: str) -> Iterator[None]:
        """Holds the Lease for a block."""
        holder = self._holder = f"{who}, for: {what}"
        self._take(holder)
        self._lost = ""
        self._ended.clear()
        renewing = threading.Thread(target=self._renew, args=(holder,), name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self._ended.set()
            renewing.join()
            with contextlib.suppress(RolloutError):
                self._put(holder, release=True)

    def check(self) -> None:
        """Renews at once: the renewals are seconds apart, and an edit may follow."""
        if self._lost:
            raise Busy(f"Expected to hold {self._what}. Received: {self._lost}")
        self._put(self._holder, release=False)

    def _take(self, holder: str) -> None:
        coordination = self._coordination()
        with _explained(self._what):
            try:
                lease = coordination.read_namespaced_lease(*self._where, _request_timeout=_TIMEOUT)
            except Exception as error:
                if getattr(error, "status", None) != _NOT_FOUND:
                    raise
                body = {"metadata": {"name": self._where[0]}, "spec": self._spec(holder)}
                coordination.create_namespaced_lease(self._where[1], body, _request_timeout=_TIMEOUT)
                return
            if not _free(lease.spec):
                raise Busy(f"Expected {self._what} to be free. Received: held by {lease.spec.holder_identity}")
            body = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": self._spec(holder)}
            coordination.patch_namespaced_lease(*self._where, body, _request_timeout=_TIMEOUT)

    def _renew(self, holder: str) -> None:
        deadline = _now() + timedelta(seconds=_LEASE_SECONDS)
        while not self._ended.wait(_LEASE_SECONDS / 4):
            try:
                self._put(holder, release=False)
                deadline = _now() + timedelta(seconds=_LEASE_SECONDS)
            except Busy as error:
                self._lost = str(error)
                return
            except RolloutError as error:  # the API server is away: we hold it until it runs out
                if _now() > deadline:
                    self._lost = str(error)
                    return

    def _put(self, holder: str, *, release: bool) -> None:
        coordination = self._coordination()
        with self._putting, _explained(self._what):  # or our own renewals conflict with each other
            lease = coordination.read_namespaced_lease(*self._where, _request_timeout=_TIMEOUT)
            if lease.spec.holder_identity != holder:
                raise Busy(f"Expected {self._what} to be ours. Received: held by {lease.spec.holder_identity}")
            spec = {"holderIdentity": None} if release else self._spec(holder)
            body = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec}
            coordination.patch_namespaced_lease(*self._where, body, _request_timeout=_TIMEOUT)

    def _spec(self, holder: str) -> dict[str, Any]:
        now = _now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {"holderIdentity": holder, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}

    def _coordination(self) -> Any:
        import kubernetes

        return kubernetes.client.CoordinationV1Api(self._api)


def _free(spec: Any) -> bool:
    if not spec.holder_identity or spec.renew_time is None:
        return True
    ends: datetime = spec.renew_time + timedelta(seconds=spec.lease_duration_seconds or _LEASE_SECONDS)
    return _now() > ends


def _core(api: Any) -> Any:
    import kubernetes

    return kubernetes.client.CoreV1Api(api)


def _now() -> datetime:
    return datetime.now(timezone.utc)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """The API's errors as ours."""
    import kubernetes
    import urllib3

    try:
        yield
    except kubernetes.client.ApiException as error:
        if error.status == _CONFLICT:
            raise Busy(f"Expected {what} to be as it was read. Received: a change by somebody else") from error
        raise RolloutError(f"Expected access to {what}. Received: {error.status} {error.reason}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RolloutError(f"Expected the cluster's API to answer about {what}. Received: {error}") from error
