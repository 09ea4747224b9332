"""Options of a client: frozen, one idea each, checked when they are created."""

import dataclasses
import os

from duoserve._checks import expect_kind, expect_name, expect_number, expect_whole
from duoserve.errors import InvalidInput

__all__ = ["TLS", "Connection", "Hedge", "Retry"]


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a call is sent again. Predict changes nothing on the server, so that is safe.

    gRPC itself retries UNAVAILABLE (a full batching queue included) on the next replica. The client retries
    errors that only their message identifies (a cut connection under another code, too long a wait in the
    batching queue). Both stop at the deadline.

    A server without a free thread ("Server Threadpool Exhausted") refuses a call before any work. The call is
    sent again until the deadline, with the same waits, and costs neither `attempts` nor `budget`; with
    `attempts=1` it is not sent again. Neither is a message over a limit.

    Attributes:
        attempts: Number of calls, including the first, 1 to 5 (the most that gRPC allows). 1 switches all retries off.
        initial_backoff: Seconds before the second attempt, at most (the wait is random).
        max_backoff: Upper limit of that wait, which doubles each time.
        budget: Retries stop while too many calls fail: each failure takes one of this many
            tokens, each success returns a tenth, and below half of them no call is retried.
    """

    attempts: int = 4
    initial_backoff: float = 0.05
    max_backoff: float = 1.0
    budget: int = 200

    def __post_init__(self) -> None:
        expect_whole("attempts", self.attempts, 1, 5)
        expect_number("initial_backoff", self.initial_backoff, 0.001, 60)
        expect_number("max_backoff", self.max_backoff, self.initial_backoff, 60)
        expect_whole("budget", self.budget, 1, 1000)


@dataclasses.dataclass(frozen=True, slots=True)
class Hedge:
    """Sends a slow call a second time, to the next replica, and takes the first answer.

    Attributes:
        after: Seconds without an answer before the second call. A good start is the 95th percentile of
            your latency: then 5 % of the calls are sent twice.
    """

    after: float

    def __post_init__(self) -> None:
        expect_number("after", self.after, 0.001, 600)


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """How the client stays connected.

    Attributes:
        refresh: Seconds after which names are resolved again, so that new replicas get traffic.
        keepalive: Seconds of silence during a call before the server is probed. It has 3 more to answer; then
            the call goes elsewhere. Keep it below the deadline, so that a dead replica fails no call.
        max_message_bytes: Largest reply that is accepted.
        wait_for_ready: Wait for a server, up to the deadline, instead of failing when none can be reached.
        health_check: Send no calls to replicas whose grpc.health service reports that they are not serving.
            Needs `--enable_grpc_healthcheck_service`; a server without the service counts as healthy.
    """

    refresh: float = 30.0
    keepalive: float = 5.0
    max_message_bytes: int = 256 << 20
    wait_for_ready: bool = False
    health_check: bool = False

    def __post_init__(self) -> None:
        expect_number("refresh", self.refresh, 0.1, 86400)
        expect_number("keepalive", self.keepalive, 1, 7200)
        expect_whole("max_message_bytes", self.max_message_bytes, 1 << 10, (1 << 31) - 1)
        expect_kind("wait_for_ready", self.wait_for_ready, bool, "True or False")
        expect_kind("health_check", self.health_check, bool, "True or False")


@dataclasses.dataclass(frozen=True, slots=True)
class TLS:
    """Encrypts the connection and checks the server's certificate.

    The files are read again every `reload` seconds. If they changed, a new connection is
    opened beside the old one and replaces it once it works, so a half-written rotation is harmless.

    Attributes:
        ca: PEM file with the certificates to trust. None: those included in gRPC.
        cert: PEM file with this client's certificate chain (mutual TLS), with `key`.
        key: PEM file with the private key of `cert`.
        server_name: Name to expect in the server's certificate, when it is not the address.
        reload: Seconds between checks of the files.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None
    reload: float = 30.0

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            path = getattr(self, name)
            if path is not None:
                expect_kind(f"TLS {name}", path, (str, os.PathLike), "the path of a PEM file")
        if self.server_name is not None:
            expect_name("server_name", self.server_name)
        if (self.cert is None) != (self.key is None):
            raise InvalidInput("Expected TLS cert and key together. Received: only one of them")
        expect_number("reload", self.reload, 0.1, 86400)

    def check(self) -> None:
        """Reads the files as a connection would, to report errors now instead of at the first call.

        Raises:
            InvalidInput: A file that can't be read or is not PEM, or a certificate and key that do not match.
        """
        from duoserve._transport.channel import read_credentials  # loads gRPC, which the options do not need

        read_credentials(self.ca, self.key, self.cert)
