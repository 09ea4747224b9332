"""The part of a Kubernetes API server that the rollout uses: resourceVersions, conflicts, patches; and outages."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PATH = re.compile(r"/(?:api/v1|apis/[\w.]+/v1)/namespaces/([^/?]+)/(configmaps|leases|pods)(?:/([^/?]+))?")
FAULTS = ("refused", "500", "503", "429", "cut before", "cut after", "hangs")
"""How a call fails: nothing listens, a status, or the connection ends before or after the call did its work."""

_KINDS = {"configmaps": ("v1", "ConfigMap"), "leases": ("coordination.k8s.io/v1", "Lease"), "pods": ("v1", "Pod")}


class FakeCluster:
    """An API server on this machine; a context manager.

    Attributes:
        objects: By (namespace, kind, name).
        url: Where it listens.
        fault: One of FAULTS, what comes of every call now; None: it answers.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._versions = iter(range(100, 10**9))
        self._lock = threading.Lock()
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                fault = cluster.fault
                if fault == "hangs":
                    time.sleep(1)
                if fault in ("cut before", "hangs"):
                    return
                code, reply = (int(fault), _status(int(fault), "Fault")) if fault in ("429", "500", "503") else (0, {})
                if not code:
                    code, reply = cluster.handle(self.command, self.path, body)
                if fault == "cut after":
                    return
                data = json.dumps(reply).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815 -- http.server's names

        self._handler = Handler
        self.fault: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeCluster:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def outage(self, fault: str) -> Iterator[None]:
        """Every call fails during the block."""
        if fault == "refused":
            self.__exit__()
            try:
                yield
            finally:
                self._server = ThreadingHTTPServer(self._server.server_address, self._handler)
                self.__enter__()
            return
        self.fault = fault
        try:
            yield
        finally:
            self.fault = None

    def outage_of(self, seconds: float, fault: str) -> threading.Thread:
        """An outage that begins now and ends by itself."""
        began = threading.Event()

        def run() -> None:
            with self.outage(fault):
                began.set()
                time.sleep(seconds)

        thread = threading.Thread(target=run)
        thread.start()
        began.wait()
        return thread

    def touch(self) -> None:
        """New metadata for every object, by somebody else: their content stays."""
        with self._lock:
            for found in self.objects.values():
                version = str(next(self._versions))
                found["metadata"] |= {"resourceVersion": version, "annotations": {"touched": version}}

    def kubeconfig(self, folder: Path) -> str:
        """The path of a kubeconfig for it."""
        content = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(content))
        return str(path)

    def put(self, namespace: str, kind: str, name: str, **content: Any) -> None:
        """An object, by somebody else."""
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(next(self._versions))}
        self.objects[namespace, kind, name] = {"metadata": {**metadata, **content.pop("metadata", {})}, **content}

    def handle(self, verb: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        found = _PATH.match(path)
        assert found, path
        namespace, kind, name = found.groups()
        version, title = _KINDS[kind]
        with self._lock:
            if verb == "GET" and name is None:
                items = [
                    value for (place, what, _), value in self.objects.items() if (place, what) == (namespace, kind)
                ]
                return 200, {"apiVersion": version, "kind": f"{title}List", "metadata": {}, "items": items}
            if verb == "POST":
                assert body is not None
                name = body["metadata"]["name"]
                if (namespace, kind, name) in self.objects:
                    return 409, _status(409, "AlreadyExists")
                self.put(namespace, kind, name, **body)
            current = self.objects.get((namespace, kind, name))
            if current is None:
                return 404, _status(404, "NotFound")
            if verb == "PATCH":
                assert body is not None
                if isinstance(body, list):
                    return self._json_patch(version, title, current, body)
                wanted = body.get("metadata", {}).get("resourceVersion")
                if wanted is not None and wanted != current["metadata"]["resourceVersion"]:
                    return 409, _status(409, "Conflict")
                _merge(current, body)
                current["metadata"]["resourceVersion"] = str(next(self._versions))
            return 200, {"apiVersion": version, "kind": title, **current}

    def _json_patch(
        self, version: str, title: str, current: dict[str, Any], patch: list[dict[str, Any]]
    ) -> tuple[int, dict[str, Any]]:
        """All of a patch or nothing; a test that fails is 422, as in the API server."""
        changed = copy.deepcopy(current)
        for change in patch:
            *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:])
            place = changed
            for part in parents:
                place = place.get(part, {})
            if (change["op"] == "test" and place.get(last) != change["value"]) or (
                change["op"] in ("replace", "remove") and last not in place
            ):
                return 422, _status(422, "Invalid")
            if change["op"] == "remove":
                del place[last]
            elif change["op"] != "test":
                place[last] = change["value"]
        changed["metadata"]["resourceVersion"] = str(next(self._versions))
        current.clear()
        current.update(changed)
        return 200, {"apiVersion": version, "kind": title, **current}


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _status(code: int, reason: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}
