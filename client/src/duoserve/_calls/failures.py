"""Turns a failed gRPC call into one of our errors, and decides whether another attempt can help."""

import re
from typing import Final, NamedTuple

import grpc

from duoserve import errors
from duoserve.errors import DuoserveError


class Failure(NamedTuple):
    """The error to raise, and whether another attempt can help."""

    error: DuoserveError
    transient: bool = False  # another attempt can help: a full server, a broken connection
    turned_away: bool = False  # the server had no free thread and did no work


# Words that reveal a broken connection under a code other than UNAVAILABLE.
_BROKEN: Final = re.compile(
    r"RST_STREAM|GOAWAY|Stream removed|Connection reset|Socket closed|Broken pipe|Endpoint closed|closed connection"
    r"|transport|http2|HTTP/?2|SSL|tsi|TLS|[Ff]rame (size|type)|hpack|compress",
)
_BATCH_LIMIT: Final = re.compile(r"Task size \d+ is larger than maximum input batch size (\d+)")
_NO_SIGNATURE: Final = re.compile(r'Serving signature key "(.{1,200})" not found')
_TRANSPORT_CODES: Final = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)


def classify(code: grpc.StatusCode, details: str, *, server: str, model: str, version: int | str | None) -> Failure:
    """What a status code and its message mean, for a server of TensorFlow Serving's kind."""

    # Graph errors continue with a stack of node names, and can contain much of the input.
    line = details.split("\n", 1)[0].strip()
    received = (line if len(line) <= 300 else line[:300] + "…") or code.name

    def make(kind: type[DuoserveError], expected: str, advice: str = "") -> DuoserveError:
        text = f"Expected {expected}. Received: {received}{advice}"
        return kind(text, server=server, model=model, version=version, code=code.name)

    status = grpc.StatusCode
    if code is status.DEADLINE_EXCEEDED:
        return Failure(make(errors.DeadlineExceeded, "an answer within the deadline"))
    if code is status.UNAVAILABLE:
        if "queue" in details and "full" in details:
            return Failure(make(errors.ServerBusy, "a server with room in its batching queue"), transient=True)
        return Failure(make(errors.ServerUnavailable, "a reachable server"), transient=True)
    if code is status.RESOURCE_EXHAUSTED:
        if "message larger than max" in details:
            advice = " (raise Connection.max_message_bytes, or send fewer rows)"
            return Failure(make(errors.MessageTooLarge, "a message within the limit", advice))
        # "Run() timeout exceeded while waiting in batching queue" counts as a failure: the call did wait.
        turned_away = "Threadpool Exhausted" in details
        return Failure(make(errors.ServerBusy, "a server with a free thread"), transient=True, turned_away=turned_away)
    if code is status.NOT_FOUND or "Unrecognized servable version label" in details:
        return Failure(make(errors.ModelNotFound, "a model, version or label that the server has"))
    if code in (status.UNAUTHENTICATED, status.PERMISSION_DENIED):
        return Failure(make(errors.PermissionDenied, "credentials that the server accepts"))
    signature = _NO_SIGNATURE.search(details)
    if code is status.FAILED_PRECONDITION and signature:
        return Failure(make(errors.UnsupportedModel, f"a model with the signature {signature[1]}"))
    if code is status.FAILED_PRECONDITION and "from different tasks have different shapes" in details:
        # The server batched this request with another client's, which was prepared differently.
        return Failure(make(errors.RequestRejected, "requests of one shape in a batch of the server"), transient=True)
    if code is status.UNIMPLEMENTED:
        return Failure(make(errors.RequestRejected, "a server that speaks the TensorFlow Serving protocol"))
    if code in _TRANSPORT_CODES and _BROKEN.search(details):
        return Failure(make(errors.ServerUnavailable, "an unbroken connection"), transient=True)
    return Failure(make(errors.RequestRejected, "the model to accept the request"))


def batch_limit(error: DuoserveError) -> int | None:
    """The server's max_batch_size, if the error reports that a request exceeded it."""
    found = _BATCH_LIMIT.search(error.message)
    return int(found[1]) if found else None
