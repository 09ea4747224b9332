"""What the blocking and the async client share: the options, and the parts made from them."""

import functools
import inspect
import math
import types
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from duoserve._calls.inputs import SendMode
from duoserve._calls.observing import Observers
from duoserve._calls.operations import Operations
from duoserve._calls.retrying import Rpc
from duoserve._checks import check_metadata, expect_kind, expect_name, expect_whole, resolve_target, timeout_seconds
from duoserve._transport.channel import ChannelPlan, parse_address, plan_channel
from duoserve._transport.managed_channel import BaseChannel, ManagedChannel
from duoserve.errors import InvalidInput
from duoserve.observe import Observer
from duoserve.options import TLS, Connection, Hedge, Retry
from duoserve.routing import Canary, Shadow, ShadowReport

ChannelT = TypeVar("ChannelT")
F = TypeVar("F", bound=Callable[..., Any])

_MOST_ROWS = 1 << 20  # of a request


def named(operation: F, owner: str) -> F:
    """A copy of the operation that errors about its arguments name as a method of a public class."""
    name = operation.__name__
    copy: Any = types.FunctionType(operation.__code__, operation.__globals__, name, operation.__defaults__)
    copy.__kwdefaults__ = operation.__kwdefaults__
    functools.update_wrapper(copy, operation).__qualname__ = f"{owner}.{name}"
    return cast(F, copy)


def documented(method: F, operation: Callable[..., Any]) -> F:
    """The method, with the name, parameters and docstring of the operation that it performs."""
    documented: Any = functools.update_wrapper(method, operation, ("__name__", "__qualname__", "__doc__"))
    del documented.__wrapped__  # returns steps
    documented.__code__ = documented.__code__.replace(co_name=operation.__name__)  # in tracebacks
    hints = inspect.get_annotations(operation, eval_str=True)
    performed = hints["return"].__args__[-1]
    documented.__annotations__ = {**hints, "return": performed}
    documented.__signature__ = inspect.signature(operation).replace(return_annotation=performed)
    return method


class BaseClient(Generic[ChannelT]):
    """Base of `Client` and `AsyncClient`. Nothing is opened until the first call."""

    _open: Callable[[ChannelPlan], BaseChannel]

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
            open_channel = self._adopt(channel)
            if address is not None:
                raise InvalidInput("Expected an address or a channel. Received: both")
            if tls is not None:
                raise InvalidInput("Expected tls to be set up in the channel itself. Received: both tls and channel")
            server, moves, interval = "channel", False, math.inf
            plan: Callable[[], ChannelPlan] = functools.partial(ChannelPlan, "", (), None, "")
        elif address is None:
            raise InvalidInput("Expected an address or a channel. Received: neither")
        else:
            place = parse_address(address)
            server, moves = place.text, place.moves
            if token is not None and tls is None and not place.is_local():
                raise InvalidInput(f"Expected tls with a token: plain text would expose it. Received: {server}")
            interval = min(connection.refresh if moves else math.inf, tls.reload if tls else math.inf)
            plan = functools.partial(plan_channel, place, connection, retry, tls)
            open_channel = self._open
        # Our own channel retries by its service config; whether an injected one does is unknown.
        rpc = Rpc(retry, hedge, check_metadata(metadata), token, retry_unavailable=channel is not None)
        expect_name("model", model)
        if send not in ("auto", "tensors", "bytes"):
            raise InvalidInput(f"Expected send to be auto, tensors or bytes. Received: {send!r:.80}")
        expect_whole("max_batch_size", max_batch_size, 1, _MOST_ROWS)
        target, timeout, watched = resolve_target(label, version), timeout_seconds(timeout), Observers(observers)
        self._operations = Operations(
            rpc, server, model, target, timeout, send, max_batch_size, canary, shadow, watched
        )
        self._start(functools.partial(ManagedChannel, plan, open_channel, moves=moves, interval=interval))

    def _adopt(self, channel: ChannelT) -> Callable[[ChannelPlan], BaseChannel]:
        raise NotImplementedError

    def _start(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        raise NotImplementedError

    def shadow_report(self) -> ShadowReport:
        """How far the shadow has agreed so far."""
        return self._operations.tally.report()

    def __repr__(self) -> str:
        operations = self._operations
        return f"{type(self).__name__}({operations.server!r}, model={operations.model!r}, target={operations.target!r})"
