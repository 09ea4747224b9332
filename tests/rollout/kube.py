"""As much of a Kubernetes API server as the rollout asks: resourceVersions, conflicts, merge patches."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATH = re.compile(r"/(?:api/v1|apis/[\w.]+/v1)/namespaces/([^/?]+)/(configmaps|leases|pods)(?:/([^/?]+))?")
_KINDS = {"configmaps": ("v1", "ConfigMap"), "leases": ("coordination.k8s.io/v1", "Lease"), "pods": ("v1", "Pod")}


class FakeCluster:
    """An API server on this machine; a context manager.

    Attributes:
        objects: By (namespace, kind, name).
        url: Where it listens.
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
                code, reply = cluster.handle(self.command, self.path, body)
                data = json.dumps(reply).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815 -- http.server's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FakeCluster:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, namespace: str, kind: str, name: str, **content: Any) -> None:
        """An object, by somebody else."""
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(next(self._versions))}
        self.objects[namespace, kind, name] = {"metadata": {**metadata, **content.pop("metadata", {})}, **content}

    def handle(self, verb: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
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
                wanted = body.get("metadata", {}).get("resourceVersion")
                if wanted is not None and wanted != current["metadata"]["resourceVersion"]:
                    return 409, _status(409, "Conflict")
                _merge(current, body)
                current["metadata"]["resourceVersion"] = str(next(self._versions))
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
