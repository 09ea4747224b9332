"""How to open a channel: target, options, service config, credentials."""

import dataclasses
import hashlib
import json
import os
import socket
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from duoserve.errors import InvalidInput, ServerUnavailable
from duoserve.hosts import ip_of, is_loopback
from duoserve.options import TLS, Connection, Retry

PemPath = str | os.PathLike[str] | None

_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where the servers are."""

    text: str  # for messages, as the user gave it
    target: str | None  # gRPC's target, None when `hosts` have to be resolved first
    hosts: tuple[tuple[str, int], ...]  # that it names; empty where gRPC's target does not show them
    moves: bool  # whether it contains names, whose addresses can change

    def is_local(self) -> bool:
        """Whether no byte leaves this machine."""
        if self.target is not None and self.target.startswith("unix"):
            return True
        return bool(self.hosts) and all(is_loopback(host) for host, _ in self.hosts)


def parse_address(address: str | Sequence[str]) -> Address:
    """Reads "host:port", a gRPC target ("dns:///name:port", "unix:path"), or a list of "host:port"."""
    if isinstance(address, str):
        if address.startswith(_SCHEMES):
            return Address(address, address, _hosts_of(address), moves=address.startswith(("dns:", "xds:")))
        host, port = _host_port(address)
        return Address(address, f"dns:///{address}", ((host, port),), moves=ip_of(host) is None)
    if not isinstance(address, Sequence) or not address:
        raise InvalidInput(f"Expected address as host:port or a list of these. Received: {address!r}")
    hosts = tuple(_host_port(entry) for entry in address)
    return Address(",".join(address), None, hosts, moves=any(ip_of(host) is None for host, _ in hosts))


def _hosts_of(target: str) -> tuple[tuple[str, int], ...]:
    """The hosts of a gRPC target that names some: dns:///name:port, ipv4:ip:port,ip:port, ipv6:…"""
    scheme, _, path = target.partition(":")
    if scheme not in ("dns", "ipv4", "ipv6"):
        return ()
    try:
        return tuple(_host_port(urllib.parse.unquote(entry)) for entry in path.rpartition("/")[2].split(","))
    except InvalidInput:
        return ()  # gRPC checks it: a port may be left out


def _host_port(entry: Any) -> tuple[str, int]:
    if isinstance(entry, str) and not entry.startswith(_SCHEMES) and "/" not in entry:
        host, colon, port = entry.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if colon and bare and port.isdecimal() and 0 < int(port) < 65536 and (":" not in bare or bare != host):
            return bare, int(port)
    raise InvalidInput(f"Expected address as host:port. Received: {entry!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelPlan:
    """A channel to open."""

    target: str
    options: tuple[tuple[str, Any], ...]
    credentials: grpc.ChannelCredentials | None
    fingerprint: str  # equal for plans that would connect in the same way


def plan_channel(address: Address, connection: Connection, retry: Retry, tls: TLS | None) -> ChannelPlan:
    """Reads the TLS files and resolves the names of a list, now."""
    target, authority = address.target, None
    if target is None:
        target, authority = _resolve(address), address.hosts[0][0]
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", service_config(connection, retry)),
        # Only our own config counts: a TXT record can't replace it, and is not looked up.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", 1),
        # A larger request is not buffered, hence not retried. The default of 256 KiB holds a batch of one.
        ("grpc.per_rpc_retry_buffer_size", 256 << 20),
        ("grpc.max_receive_message_length", connection.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Pings only during calls: servers refuse them on an idle connection ("too_many_pings").
        ("grpc.keepalive_time_ms", int(connection.keepalive * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),
        # Set both: which of the two closes a connection differs between gRPC releases.
        ("grpc.keepalive_timeout_ms", int(min(connection.keepalive, 3) * 1000)),
        ("grpc.http2.ping_timeout_ms", int(min(connection.keepalive, 3) * 1000)),
        ("grpc.dns_min_time_between_resolutions_ms", int(min(connection.refresh, 5) * 1000)),
        # A restarted replica is found again within seconds; gRPC's default grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 10_000),  # how long an attempt may take, on a busy replica
        ("grpc.max_reconnect_backoff_ms", 5000),
    ]
    if address.is_local() or len(address.hosts) > 1:  # gRPC's proxy support takes one server only
        options.append(("grpc.enable_http_proxy", 0))
    credentials, digest = None, ""
    if tls is not None:
        credentials, digest = read_credentials(tls.ca, tls.key, tls.cert)
        if tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
            authority = tls.server_name
    if authority is not None:
        options.append(("grpc.default_authority", authority))
    return ChannelPlan(target, tuple(options), credentials, f"{target} {digest}")


def service_config(connection: Connection, retry: Retry) -> str:
    """The service config: round robin, retries of UNAVAILABLE with a budget, health checks."""
    method: dict[str, Any] = {"name": [{}], "waitForReady": connection.wait_for_ready}
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [method]}
    if retry.attempts > 1:
        method["retryPolicy"] = {
            "maxAttempts": retry.attempts,
            "initialBackoff": f"{retry.initial_backoff:.3f}s",
            "maxBackoff": f"{retry.max_backoff:.3f}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["retryThrottling"] = {"maxTokens": retry.budget, "tokenRatio": 0.1}
    if connection.health_check:
        config["healthCheckConfig"] = {"serviceName": ""}
    return json.dumps(config)


def _resolve(address: Address) -> str:
    """The target of a list. Names are looked up here: gRPC takes only addresses in a list."""
    v4, v6 = list[str](), list[str]()
    failure: OSError | None = None
    for host, port in address.hosts:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            continue
        entries = sorted({(info[0], str(info[4][0])) for info in infos})
        found = [f"{ip}:{port}" for family, ip in entries if family == socket.AF_INET]
        v4 += found
        v6 += [f"[{ip}]:{port}" for family, ip in entries if family == socket.AF_INET6 and not found]
    if not v4 and not v6:
        text = f"Expected names that can be resolved. Received: {failure}"
        raise ServerUnavailable(text, server=address.text) from failure
    return ("ipv4:" if v4 else "ipv6:") + ",".join(dict.fromkeys(v4 or v6))


def read_credentials(ca: PemPath, key: PemPath, cert: PemPath) -> tuple[grpc.ChannelCredentials, str]:
    """What gRPC needs, and a digest that changes with the files."""
    parts = _read(ca, key, cert)
    _check(parts[0], key, cert)
    if _read(ca, key, cert) != parts:  # the files that were checked are not those that were read
        raise InvalidInput("Expected TLS files not to change while they are read. Received: changed ones")
    digest = hashlib.sha256(b"\0".join(part or b"" for part in parts)).hexdigest()
    return grpc.ssl_channel_credentials(*parts), digest


def _read(ca: PemPath, key: PemPath, cert: PemPath) -> list[bytes | None]:
    parts: list[bytes | None] = []
    for name, path in (("ca", ca), ("key", key), ("cert", cert)):
        try:
            parts.append(None if path is None else Path(path).read_bytes())
        except OSError as error:
            raise InvalidInput(f"Expected TLS {name} to be a readable file. Received: {error}") from error
    return parts


def _check(ca: bytes | None, key: PemPath, cert: PemPath) -> None:
    # gRPC ends the process ("Check failed: cert_chain != nullptr") on an invalid certificate,
    # and a rotated file is invalid for a moment.
    import ssl  # slow to load, and most clients have no TLS

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput(f"Expected TLS ca to hold PEM certificates. Received: {error}") from error
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password="")  # empty: never prompt on the terminal
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InvalidInput(f"Expected TLS cert and key to be a pair of PEM files. Received: {error}") from error
