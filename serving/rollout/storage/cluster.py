"""Config, lock and history as objects of a Kubernetes cluster.

The API server refuses a write that would undo another one: JSON patches test the old
content of the object, so a change of its metadata doesn't matter. The operator needs, in the namespace:
get, create and patch on configmaps and leases, and list on pods.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from serving.rollout.errors import Busy, RolloutError
from serving.rollout.storage import entries
from serving.rollout.storage.api import ApiError, ClusterApi

_NOT_FOUND: Final = 404
_UNPROCESSABLE: Final = 422  # the answer to a JSON patch whose test failed
_HISTORY_KEY: Final = "history.jsonl"
_HISTORY_BYTES: Final = 800_000  # a ConfigMap holds 1 MiB; the oldest entries go first
_LEASE_SECONDS: Final = 30
_RELEASE_SECONDS: Final = 5.0


class _Object:
    """An object that the API may hold, of a kind in a group of the `kubernetes` package."""

    kind, group = "config_map", "core"

    def __init__(self, api: ClusterApi, namespace: str, name: str) -> None:
        self._api = api
        self._where = (name, namespace)
        self._what = f"{self.kind.replace('_', '')}/{name} in {namespace}"

    def _call(self, verb: str, *body: Any) -> Any:
        method = getattr(getattr(self._api, self.group), f"{verb}_namespaced_{self.kind}")
        place = self._where[1:] if verb == "create" else self._where
        return self._api.ask(self._what, method, *place, *body)

    def _find(self) -> Any:
        """The object; None without one."""
        try:
            return self._call("read")
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def _save(self, found: Any, **content: Any) -> None:
        """Creates the object, or changes what was found, unless somebody else did since."""
        if found is None:
            self._call("create", {"metadata": {"name": self._where[0]}, **content})
        else:
            self._call("patch", {"metadata": {"resourceVersion": found.metadata.resource_version}, **content})


class ConfigMapEntry(_Object):
    """models.config in a ConfigMap that the pods mount as a folder, and that no kustomization carries."""

    def __init__(self, api: ClusterApi, namespace: str, name: str, key: str) -> None:
        super().__init__(api, namespace, name)
        self.name = self._what = f"{self._what}, {key}"
        self._key = key

    def read(self) -> str:
        """The text now."""
        return self._api.patiently(self._read)

    def write(self, text: str, over: str) -> None:
        """Patches the one entry, if it still has the text that was read."""
        path = "/data/" + self._key.replace("~", "~0").replace("/", "~1")
        patch = [{"op": "test", "path": path, "value": over}, {"op": "replace", "path": path, "value": text}]

        def attempt() -> None:
            try:
                self._call("patch", patch)
            except ApiError as error:
                if error.status != _UNPROCESSABLE:
                    raise
                now = self._read()
                if now == text:
                    return  # an earlier attempt succeeded, but its reply was lost
                if now == over:
                    raise
                raise Busy(f"Expected {self.name} to be unchanged. Received: an edit by somebody else") from error

        self._api.patiently(attempt)

    def _read(self) -> str:
        data = self._call("read").data or {}
        if self._key not in data:
            raise RolloutError(f"Expected {self.name}. Received: the keys {', '.join(data) or 'none'}")
        return str(data[self._key])


class ConfigMapHistory(_Object):
    """The audit log beside the config, for every operator to see; the newest 800 kB of it."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds an entry, after those that others add meanwhile."""
        line = entries.line(record)
        self._api.patiently(lambda: self._append(line))

    def read(self) -> list[dict[str, Any]]:
        """The entries that are kept."""
        return entries.parse(_text(self._api.patiently(self._find)))

    def _append(self, line: str) -> None:
        found = self._find()
        text = _text(found)
        if line in text:
            return  # an earlier attempt succeeded, but its reply was lost
        text += line
        while len(text.encode("utf-8")) > _HISTORY_BYTES:
            text = text.partition("\n")[2]
        self._save(found, data={_HISTORY_KEY: text})


class LeaseLock(_Object):
    """A Lease, renewed while the command runs; free again 30 seconds after a holder died."""

    kind, group = "lease", "coordination"

    def __init__(self, api: ClusterApi, namespace: str, name: str) -> None:
        super().__init__(api, namespace, name)
        self._holder = ""
        self._lost = ""
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self, who: str, what: str) -> Iterator[None]:
        """Holds the Lease for a block."""
        self._holder = f"{who}, for: {what}"
        self._api.patiently(self._take)
        self._lost = ""
        self._ended.clear()
        renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            self._ended.set()
            renewing.join()
            release = {"op": "remove", "path": "/spec/holderIdentity"}
            with contextlib.suppress(RolloutError):
                self._api.patiently(lambda: self._put(release), _RELEASE_SECONDS)

    def check(self) -> None:
        """Renews at once: the renewals are seconds apart, and an edit may follow.

        A Lease that expired while the API was away is still ours if nobody took it.
        """
        if self._lost:
            raise Busy(self._lost)
        self._api.patiently(self._put_time)

    def _take(self) -> None:
        lease = self._find()
        # Ours already: the reply to an earlier attempt was lost.
        if lease is not None and lease.spec.holder_identity != self._holder and not _free(lease.spec):
            raise Busy(f"Expected {self._what} to be free. Received: held by {lease.spec.holder_identity}")
        self._save(lease, spec=self._spec())

    def _renew(self) -> None:
        while not self._ended.wait(_LEASE_SECONDS / 4):
            try:
                self._put_time()
            except Busy as error:
                self._lost = str(error)
                return
            except RolloutError:  # the API server is away: `check` decides
                continue

    def _put_time(self) -> None:
        self._put({"op": "add", "path": "/spec/renewTime", "value": self._spec()["renewTime"]})

    def _put(self, change: Mapping[str, Any]) -> None:
        """Changes the Lease, if it is ours."""
        patch = [{"op": "test", "path": "/spec/holderIdentity", "value": self._holder}, change]
        try:
            self._call("patch", patch)
        except ApiError as error:
            if error.status not in (_NOT_FOUND, _UNPROCESSABLE):
                raise
            lease = self._find()
            holder = f"held by {lease.spec.holder_identity or 'nobody'}" if lease else "no such lease"
            raise Busy(f"Expected {self._what} to be ours. Received: {holder}") from error

    def _spec(self) -> dict[str, Any]:
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {"holderIdentity": self._holder, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}


def _text(found: Any) -> str:
    return (found.data or {}).get(_HISTORY_KEY, "") if found else ""


def _free(spec: Any) -> bool:
    if not spec.holder_identity or spec.renew_time is None:
        return True
    ends: datetime = spec.renew_time + timedelta(seconds=spec.lease_duration_seconds or _LEASE_SECONDS)
    return datetime.now(timezone.utc) > ends
