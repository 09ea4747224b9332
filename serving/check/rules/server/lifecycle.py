"""A server's life: probes that ask for the right thing, and a drain that loses no call."""

import re
from collections.abc import Iterator

from serving.check.findings import Finding, Place, finding
from serving.check.manifests.objects import PROBES, Container, Manifests, Probe
from serving.check.manifests.servers import Server, is_ours, servers
from serving.check.manifests.values import integer, mapping, quantity, strings, text

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?/?")
_ABSENT = {"curl", "wget", "grpc_health_probe", "nc", "python", "python3"}
_LATEST = 300
_MARGIN = 5
_DNS = 30  # seconds for which callers may keep a name's addresses: the default of CoreDNS in Kubernetes
_SHORTEST_AGE_MS = 10_000


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        for kind in PROBES:
            yield from _port(container, kind)
        data = mapping(container.data, "readinessProbe")
        period, limit = integer(data, "periodSeconds") or 10, integer(data, "timeoutSeconds") or 1
        if limit > period:
            yield finding("probe-timeout", container, "readinessProbe.timeoutSeconds", limit, period=period)
    for server in [server for server in servers(manifests) if server.pod.is_service]:
        startup, readiness, liveness = map(server.probe, PROBES)
        for kind, probe in (("readinessProbe", readiness), ("startupProbe", startup)):
            yield from _http(server, f"{kind}.httpGet", probe)
        if readiness is None or not readiness.way:
            yield finding("no-readiness", server, "readinessProbe", "none")
        elif readiness.way != "httpGet":
            yield finding("readiness-blind", server, f"readinessProbe.{readiness.way}", readiness.way)
        yield from _liveness(server, liveness)
        if liveness and not startup:
            yield finding("no-startup", server, "startupProbe", "none")
        elif startup and startup.first + startup.seconds < 60:
            yield finding("startup-short", server, "startupProbe", f"{startup.first + startup.seconds} s")
        yield from _pace(server, "readinessProbe", least=1, most=60)
        yield from _pace(server, "livenessProbe", least=30, most=600)
        for field in [f"{kind}.exec.command" for kind in PROBES]:
            for word in re.split(r"[\s;&|]+", " ".join(strings(server.data, field))):
                if word.rpartition("/")[2] in _ABSENT:
                    yield finding("probe-program", server, field, word)
    yield from _shutdown(manifests)


def _port(container: Container, kind: str) -> Iterator[Finding]:
    """A port that is not there. A number need not be declared; our own containers declare theirs."""
    probe = container.probe(kind)
    port = probe.asks.get("port") if probe else None
    number, declared = container.port_number(port), [entry.get("containerPort") for entry in container.ports]
    strict = declared and is_ours(container)
    if probe and port is not None and (number is None or (strict and number not in declared)):
        known = {f"{entry.get('name')}={entry.get('containerPort')}" for entry in container.ports}
        yield finding("probe-port", container, f"{kind}.{probe.way}.port", repr(port), known=known)


def _pace(server: Server, kind: str, *, least: int, most: int) -> Iterator[Finding]:
    """How long a probe fails before the kubelet acts."""
    probe = server.probe(kind)
    if probe and not (least <= probe.seconds <= most and probe.first <= _LATEST):
        rule = "probe-strict" if probe.seconds < least else "probe-late"
        shown = f"{probe.seconds} s, after {probe.first} s"
        yield finding(rule, server, kind, shown, least=least, most=most, first=_LATEST)


def _http(server: Server, field: str, probe: Probe | None) -> Iterator[Finding]:
    """It asks at the REST port for the metadata of a label of the server's config."""
    if probe is None or probe.way != "httpGet":
        return
    port, scheme, path = probe.asks.get("port"), text(probe.asks, "scheme"), text(probe.asks, "path")
    number, names = server.port_number(port), server.names()
    if scheme not in ("", "HTTP"):
        yield finding("probe-scheme", server, f"{field}.scheme", scheme)
    if number is not None and number != server.rest_port:
        known = server.rest_port or "which is off"
        yield finding("probe-not-rest", server, f"{field}.port", f"{port} ({number})", port=known)
    match = _PATH.fullmatch(path)
    if match is None or (names and match[1] not in names):
        yield finding("probe-model", server, f"{field}.path", repr(path), known=names)
        return
    for model in [model for model in server.models() if model.name == match[1]]:
        if match[3] and match[3] not in model.labels:
            values = {"model": model.name, "known": model.labels.keys()}
            yield finding("probe-label", server, f"{field}.path", repr(match[3]), **values)
    if not match[4]:
        yield finding("probe-status", server, f"{field}.path", repr(path))
    elif match[2]:
        yield finding("probe-version", server, f"{field}.path", f"version {match[2]}")


def _liveness(server: Server, probe: Probe | None) -> Iterator[Finding]:
    if probe is None or not probe.way:
        yield finding("no-liveness", server, "livenessProbe", "none")
        return
    field = f"livenessProbe.{probe.way}"
    if probe.way == "httpGet":
        yield finding("liveness-model", server, field, "httpGet of a model")
    elif probe.way == "grpc":
        service, port = probe.asks.get("service"), probe.asks.get("port")
        if server.tls:
            yield finding("liveness-tls", server, field, "grpc")
        elif not server.on("enable_grpc_healthcheck_service"):
            yield finding("liveness-health", server, field, "the flag is off")
        elif service:
            yield finding("liveness-service", server, f"{field}.service", repr(service))
        if server.port_number(port) not in (None, server.grpc_port):
            yield finding("probe-not-grpc", server, f"{field}.port", repr(port), port=server.grpc_port)


def _shutdown(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers(init=False):
        stop, drain, given = _pre_stop(container), _drain_seconds(container), _grace(container)
        needed = stop + drain + _MARGIN
        if stop + drain and given < needed:
            values = {"needed": needed, "stop": stop, "drain": drain, "margin": _MARGIN}
            shown = container.pod.spec.get("terminationGracePeriodSeconds", "30 (the default)")
            yield finding("grace-short", container.pod, "terminationGracePeriodSeconds", shown, **values)
    for server in servers(manifests):
        if server.pod.is_service:
            yield from _drain(server)


def _grace(container: Container) -> int:
    given = integer(container.pod.spec, "terminationGracePeriodSeconds")
    return 30 if given is None else given


def _pre_stop(container: Container) -> float:
    """How long a preStop hook waits, in seconds."""
    hook = mapping(container.data, "lifecycle.preStop")
    if (seconds := quantity(hook, "sleep.seconds")) is not None:
        return seconds
    command = " ".join(strings(hook, "exec.command"))
    return sum(float(found) for found in re.findall(r"\bsleep\s+(\d+(?:\.\d+)?)", command))


def _drain_seconds(container: Container) -> float:
    return quantity(container.variable("DUOSERVE_DRAIN_SECONDS")) or 0.0


def _drain(server: Server) -> Iterator[Finding]:
    written = server.flags.get("grpc_channel_arguments", "")
    arguments = dict(part.partition("=")[::2] for part in written.split(",") if part)
    age = quantity(arguments.get("grpc.max_connection_age_ms"))
    grace = quantity(arguments.get("grpc.max_connection_age_grace_ms")) or 0.0
    if not age:
        yield finding("no-connection-age", server, "args", written or "none")
        return
    if age < _SHORTEST_AGE_MS:
        yield finding("connection-age-short", server, "args", f"{age:g}", least=_SHORTEST_AGE_MS)
    if not grace:
        yield finding("no-age-grace", server, "args", "none")
    where: Place
    if server.entrypoint == "duoserve":
        where, field, how = server, "env[DUOSERVE_DRAIN_SECONDS]", "preStop and drain"
        serving = _pre_stop(server) + _drain_seconds(server)
    else:  # as PID 1 it ignores SIGTERM, and so serves for the whole grace period
        where, field, how = server.pod, "terminationGracePeriodSeconds", "a grace period"
        serving = float(_grace(server))
    values = {"dns": _DNS, "age": age / 1000, "grace": grace / 1000}
    if serving < (needed := _DNS + (1.1 * age + grace) / 1000):
        yield finding("drain-short", where, field, f"{serving:g} s", how=how, needed=needed, **values)
