"""The versions and labels of each server, as Prometheus metrics.

The server's own metrics have no version and no label, so they can't show that a label is gone,
that a load failed or that two replicas disagree. This asks every address of a name, over REST.

    python -m serving.exporter --target duoserve-headless:8501 --model emoji --label stable
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import signal
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from duoserve.arguments import port


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """The answer of one server.

    Attributes:
        address: host:port of its REST API.
        up: Whether it answered.
        states: State by version: "AVAILABLE", "LOADING", "END" and so on.
        failed: Versions that ended with an error.
        labels: Version by label, for the labels that answered.
    """

    address: str
    up: bool
    states: dict[int, str] = dataclasses.field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


def ask(address: str, model: str, labels: Iterable[str], timeout: float) -> Replica:
    """Asks one server for its versions and labels. Never raises: for a silent server `up` is False."""
    try:
        versions = _get(address, (model,), timeout).get("model_version_status", [])
        states = {int(entry["version"]): str(entry["state"]) for entry in versions}
        failed = frozenset(
            int(entry["version"])
            for entry in versions
            if entry["state"] == "END" and entry.get("status", {}).get("error_code", "OK") != "OK"
        )
        asked = {label: _get(address, (model, "labels", label, "metadata"), timeout) for label in labels}
        found = {label: int(body["model_spec"]["version"]) for label, body in asked.items() if body}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return Replica(address, up=False)
    return Replica(address, True, states, failed, found)


def _get(address: str, path: Iterable[str], timeout: float) -> dict[str, Any]:
    """The JSON at a path below /v1/models; empty if the status is not OK."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=timeout)) as connection:
        connection.request("GET", "/".join(["/v1/models", *(urllib.parse.quote(part, safe="") for part in path)]))
        reply = connection.getresponse()
        body: dict[str, Any] = json.loads(reply.read())
        return body if reply.status == http.client.OK else {}


_FAMILIES: Final = (
    ("duoserve_replicas", "Servers that the target's name resolves to.", ()),
    ("duoserve_replica_up", "1 when the server answered over REST.", ("replica",)),
    ("duoserve_label_version", "Version that answers for a label; no sample when none does.", ("replica", "label")),
    ("duoserve_version_available", "1 while the version is AVAILABLE, 0 in every other state.", ("replica", "version")),
    ("duoserve_failed_version", "Newest version whose load ended with an error; 0 without.", ("replica",)),
)


class VersionCollector(Collector):
    """Asks all servers at every scrape.

    Args:
        targets: host:port of REST APIs; a name stands for every address it resolves to.
        model: The model's name.
        labels: Version labels to ask for.
        timeout: Seconds for each answer of a server.
    """

    def __init__(self, targets: Sequence[str], model: str, labels: Sequence[str], timeout: float = 3.0) -> None:
        self._targets = tuple(targets)
        self._model = model
        self._labels = tuple(labels)
        self._timeout = timeout

    def describe(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily(name, text, labels=["model", *labels]) for name, text, labels in _FAMILIES]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        addresses = _resolve(self._targets)
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, min(16, len(addresses)))) as pool:
            replicas = list(pool.map(lambda address: ask(address, self._model, self._labels, self._timeout), addresses))
        count, up, label_version, available, failed = families = self.describe()
        count.add_metric([self._model], len(replicas))
        for replica in replicas:
            where = [self._model, replica.address]
            up.add_metric(where, replica.up)
            for label, version in replica.labels.items():
                label_version.add_metric([*where, label], version)
            for version, state in replica.states.items():
                available.add_metric([*where, str(version)], state == "AVAILABLE")
            if replica.up:
                failed.add_metric(where, max(replica.failed, default=0))
        yield from families


def _resolve(targets: Iterable[str]) -> list[str]:
    """Every address of every target; a name that resolves to nothing adds none."""
    found: dict[str, None] = {}
    for target in targets:
        host, _, port = target.rpartition(":")
        try:
            answers = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except socket.gaierror:
            continue
        for *_, address in answers:
            name = str(address[0])
            found[f"[{name}]:{port}" if ":" in name else f"{name}:{port}"] = None
    return sorted(found)


def _target(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise argparse.ArgumentTypeError(f"Expected HOST:PORT. Received: {text!r}")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m serving.exporter",
        description="Versions, labels and failed loads of every server, as Prometheus metrics at /metrics.",
    )
    add = made.add_argument
    target = "REST API; a name stands for all its addresses, so name the headless Service (may be repeated)"
    add("--target", type=_target, action="append", required=True, metavar="HOST:PORT", help=target)
    add("--model", required=True, help="the model's name")
    add("--label", action="append", metavar="LABEL", help="may be repeated (default: stable)")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=port, default=9108, help="port to listen on (default: %(default)s)")
    add("--timeout", type=float, default=3.0, help="seconds for each answer (default: %(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    options = parser().parse_args(arguments)
    registry = CollectorRegistry()
    registry.register(VersionCollector(options.target, options.model, options.label or ["stable"], options.timeout))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server, thread = start_http_server(options.port, options.host, registry)
    except OSError as error:
        sys.stderr.write(f"error: Expected to listen on {options.host}:{options.port}. Received: {error}\n")
        return 1
    sys.stderr.write(f"metrics of {options.model} at http://{options.host}:{options.port}/metrics\n")
    ended.wait()
    server.shutdown()
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
