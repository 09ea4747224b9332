"""From a client's options to its parts, the same for both clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from duoserve._channel import Plan, make_plan, parse_address
from duoserve._lines import Line, Lines
from duoserve._session import Session
from duoserve.errors import InvalidInput
from duoserve.options import TLS, Connection, Retry

__all__ = ["build"]


def build(
    address: str | Sequence[str] | None,
    *,
    retry: Retry,
    tls: TLS | None,
    token: Callable[[], str] | None,
    connection: Connection,
    injected: Line | None,
    open_line: Callable[[Plan], Line],
    **options: Any,
) -> tuple[Session, Lines]:
    """The session and the channels of a client. Opens nothing."""
    if (address is None) == (injected is None):
        raise InvalidInput("Expected an address or a channel. Received: both or neither")
    if injected is not None:
        if tls is not None:
            raise InvalidInput("Expected tls to be set up in the channel itself. Received: both tls and channel")
        # gRPC retries what the channel's own service config says, which is unknown here.
        session = Session(server="channel", retry=retry, token=token, retry_unavailable=True, **options)
        plan = Plan("", (), None, "")
        return session, Lines(lambda: plan, lambda _: injected, moves=False, interval=math.inf)
    assert address is not None
    place = parse_address(address)
    if token is not None and tls is None and not place.is_local():
        raise InvalidInput(f"Expected tls with a token, which plain text would give away. Received: {place.text}")
    session = Session(server=place.text, retry=retry, token=token, retry_unavailable=False, **options)
    interval = min(connection.refresh if place.moves else math.inf, tls.reload if tls else math.inf)
    return session, Lines(
        lambda: make_plan(place, connection, retry, tls), open_line, moves=place.moves, interval=interval
    )
