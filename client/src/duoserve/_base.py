"""What the blocking and the async client share: the options, and the parts made from them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from duoserve._calls.inputs import SendMode
from duoserve._calls.operations import Operations
from duoserve._calls.retrying import Rpc, check_metadata
from duoserve._checks import expect_kind
from duoserve._transport.channel import ChannelPlan, parse_address, plan_channel
from duoserve._transport.managed_channel import ManagedChannel, OpenChannel
from duoserve.errors import InvalidInput
from duoserve.observe import Observer
from duoserve.options import TLS, Connection, Hedge, Retry
from duoserve.routing import Canary, Shadow, ShadowReport

__all__ = ["BaseClient"]

ChannelT = TypeVar("ChannelT")


class BaseClient(Generic[ChannelT]):
    """Base of `Client` and `AsyncClient`. Nothing is opened until the first call."""

    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        *,
        model: str,
        label: str | None = None,
        version: int | None = None,
        timeout: float = 10.0,
        send: SendMode = "auto",
        max_batch_size: int = 32,
        retry: Retry = Retry(),
        hedge: Hedge | None = None,
        canary: Canary | None = None,
        shadow: Shadow | None = None,
        tls: TLS | None = None,
        token: Callable[[], str | Awaitable[str]] | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        connection: Connection = Connection(),
        observers: Sequence[Observer] = (),
        channel: ChannelT | None = None,
    ) -> None:
        """Takes the options, and checks them.

        Args:
            address: "host:port", a gRPC target such as "dns:///headless-service:8500", or a
                list of "host:port". Calls go to all servers behind it in turn.
            model: Name of the model.
            label: Version label to ask for, such as "stable". Or
            version: the version to ask for. With neither: the latest version.
            timeout: Total seconds for a call, retries included. Finite, at most an hour.
            send: "tensors" preprocesses here, "bytes" lets the model's graph do it, "auto"
                takes what is smaller on the wire.
            max_batch_size: Most rows of a request; larger batches are split.
            retry: How often a failed call is sent again.
            hedge: When a slow call is sent a second time. None: never.
            canary: A share of the calls goes to another label.
            shadow: Copies of the calls go to another label, and the answers are compared.
            tls: Encryption. None: plain text.
            token: Returns the bearer token for a call (cache it yourself; an AsyncClient takes
                an async function too). Needs `tls`, or a server on this machine.
            metadata: Pairs to send with every call; keys in lower case.
            connection: Name refresh, keepalive, message size, health checks.
            observers: Notified of every call: see `duoserve.metrics` and `duoserve.tracing`.
            channel: A channel to use unchanged, instead of `address`. It is not closed.

        Raises:
            InvalidInput: An invalid option.
        """
        for name, option, kind in (
            ("retry", retry, Retry),
            ("hedge", hedge, Hedge),
            ("canary", canary, Canary),
            ("shadow", shadow, Shadow),
            ("tls", tls, TLS),
            ("connection", connection, Connection),
        ):
            if option is not None or name in ("retry", "connection"):
                expect_kind(name, option, kind, f"a {kind.__name__}")
        if token is not None and not callable(token):
            raise InvalidInput(f"Expected token to be a function that returns one. Received: {type(token).__name__}")
        expect_kind("observers", observers, Iterable, "a list of observers")
        observers = tuple(observers)
        for observer in observers:
            if not (hasattr(observer, "started") and hasattr(observer, "finished")):
                raise InvalidInput(
                    "Expected observers with the methods started and finished."
                    f" Received: {observer.__name__ if isinstance(observer, type) else type(observer).__name__}"
                )
        if channel is not None:
            adopt = self._wrap(channel)
            if address is not None:
                raise InvalidInput("Expected an address or a channel. Received: both")
            if tls is not None:
                raise InvalidInput("Expected tls to be set up in the channel itself. Received: both tls and channel")
            server, plan = "channel", ChannelPlan("", (), None, "")

            def new_managed_channel() -> ManagedChannel:
                return ManagedChannel(lambda: plan, lambda _: adopt(), moves=False, interval=math.inf)

        elif address is None:
            raise InvalidInput("Expected an address or a channel. Received: neither")
        else:
            place = parse_address(address)
            if token is not None and tls is None and not place.is_local():
                raise InvalidInput(f"Expected tls with a token: plain text would expose it. Received: {place.text}")
            server = place.text
            interval = min(connection.refresh if place.moves else math.inf, tls.reload if tls else math.inf)

            def new_managed_channel() -> ManagedChannel:
                return ManagedChannel(
                    lambda: plan_channel(place, connection, retry, tls),
                    self._open,
                    moves=place.moves,
                    interval=interval,
                )

        rpc = Rpc(
            retry=retry,
            hedge=hedge,
            metadata=check_metadata(metadata),
            token=token,
            # Our own channel retries by its service config; whether an injected one does is unknown.
            retry_unavailable=channel is not None,
        )
        self._operations = Operations(
            rpc,
            server=server,
            model=model,
            label=label,
            version=version,
            timeout=timeout,
            send=send,
            max_batch_size=max_batch_size,
            canary=canary,
            shadow=shadow,
            observers=observers,
        )
        self._start(new_managed_channel)

    def _wrap(self, channel: ChannelT) -> Callable[[], OpenChannel]:
        raise NotImplementedError

    def _open(self, plan: ChannelPlan) -> OpenChannel:
        raise NotImplementedError

    def _start(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        raise NotImplementedError

    def shadow_report(self) -> ShadowReport:
        """How far the shadow has agreed so far."""
        return self._operations.shadow_report()

    def __repr__(self) -> str:
        operations = self._operations
        return f"{type(self).__name__}({operations.server!r}, model={operations.model!r}, target={operations.target!r})"
