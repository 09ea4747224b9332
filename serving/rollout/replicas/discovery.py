"""Discovers the replicas, each time again, so that a replica that joins later counts."""

import socket
from collections.abc import Callable, Sequence

from serving.rollout.errors import Away, SettingsError
from serving.rollout.storage.api import ClusterApi, joined

Discovery = Callable[[], tuple[str, ...]]
"""The current addresses, host:port, sorted; raises a RolloutError if they can't be determined."""


def discovery(sources: Sequence[str], context: str | None = None) -> Discovery:
    """The discovery of the replicas of all sources, in the forms of `Settings.replicas`; pods by a kubeconfig context.

    Raises:
        SettingsError: A source is in none of these forms, or the cluster's configuration is missing.
    """
    parts = [_source(source, context) for source in sources]

    def find() -> tuple[str, ...]:
        return tuple(sorted({address for part in parts for address in part()}))

    return find


def _source(source: str, context: str | None) -> Discovery:
    kind, separator, rest = source.partition(":")
    place, _, port = (rest if separator and kind in ("dns", "pods") else source).rpartition(":")
    if not place or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(
            f'Expected a replica "HOST:PORT", "dns:NAME:PORT" or "pods:NAMESPACE/SELECTOR:PORT". Received: {source!r}'
        )
    if place == source.rpartition(":")[0]:
        return lambda: (source,)
    if kind == "dns":
        return lambda: _resolve(place, int(port))
    namespace, _, selector = place.partition("/")
    if not namespace or not selector:
        raise SettingsError(f'Expected "pods:NAMESPACE/SELECTOR:PORT". Received: {source!r}')
    api = ClusterApi(context)
    return lambda: api.pod_addresses(namespace, selector, int(port))


def _resolve(name: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return ()  # a headless Service without ready pods has no addresses
        raise Away(f"Expected {name} to resolve. Received: {error}") from error
    return tuple({joined(str(address[0]), port) for *_, address in found})
