"""The record of each call, for the debug log and for observers."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Final, Protocol

__all__ = ["CallRecord", "Observer"]

logger: Final = logging.getLogger("duoserve")


@dataclasses.dataclass(slots=True)
class CallRecord:
    """One call of a client's method, with all its requests. No user data.

    Attributes:
        operation: "predict", "predict_batch", "predict_tensors", "embed", "embed_batch", "explain",
            "run", "describe", "status", "signatures" or "shadow".
        server: The address that the client was given.
        model: Name of the model.
        target: The label or version that was asked for, None for the latest.
        version: The version that answered, None when none did.
        sent: "tensors" or "bytes", None when nothing was sent.
        rows: Rows in the call.
        request_bytes: Bytes of all requests, retries and hedges included.
        attempts: Requests that were sent (retries inside gRPC are not counted).
        hedges: The number of these that were sent because an answer was slow.
        reprepared: How often the input was prepared again because another version answered.
        seconds: Time from start to end.
        outcome: "OK", or the name of the error's class.
        row_errors: Rows of a batch that failed.
    """

    operation: str
    server: str
    model: str
    target: int | str | None
    version: int | None = None
    sent: str | None = None
    rows: int = 1
    request_bytes: int = 0
    attempts: int = 0
    hedges: int = 0
    reprepared: int = 0
    seconds: float = 0.0
    outcome: str = "OK"
    row_errors: int = 0


class Observer(Protocol):
    """Is notified of every call. Must be thread-safe, and should be quick.

    An exception in it fails no call: the first one is logged as a warning, and `finished` is not
    called if `started` failed.
    """

    def started(self, record: CallRecord) -> tuple[Any, Sequence[tuple[str, str]]]:
        """A call begins. Returns a state that is passed to `finished`, and metadata to send."""

    def finished(self, state: Any, record: CallRecord) -> None:
        """The call ended: see `record.outcome`."""


def log(record: CallRecord) -> None:
    """The one debug line of a call."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "%(operation)s model=%(model)s target=%(target)s version=%(version)s sent=%(sent)s rows=%(rows)d"
            " bytes=%(request_bytes)d attempts=%(attempts)d ms=%(ms).1f outcome=%(outcome)s",
            {**dataclasses.asdict(record), "ms": record.seconds * 1000},
        )
