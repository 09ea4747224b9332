"""Every error of the client: `except DuoserveError` catches all. Where a built-in error fits, ours is one too.

Retry only an error that is `retryable` (DeadlineExceeded, ServerUnavailable, ServerBusy), and later: the client's own
retries have failed. After InvalidInput, which is a ValueError, the input must change.
"""

import copy
from typing import Any, ClassVar


class DuoserveError(Exception):
    """Base of every error of the client.

    Attributes:
        message: What went wrong, without server, model and version.
        server: The address that was asked, None when nothing was sent.
        model: Name of the model.
        version: Version (int) or label (str) that was asked for or answered, None if neither is known.
        code: Name of the gRPC status code, None without a reply.
        retryable: Whether the same call can succeed later, unchanged.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        server: str | None = None,
        model: str | None = None,
        version: int | str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.server = server
        self.model = model
        self.version = version
        self.code = code

    def __str__(self) -> str:
        version = "version" if isinstance(self.version, int) else "label"
        parts = (("model ", self.model), (f"{version} ", self.version), ("at ", self.server), ("", self.code))
        place = ", ".join(f"{title}{value}" for title, value in parts if value is not None)
        return f"{self.message} [{place}]" if place else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call cls(*args) and lose the keywords: errors cross process pools.
        return _rebuild, (type(self), self.message, copy.copy(self.__dict__))


def _rebuild(kind: type[DuoserveError], message: str, state: dict[str, Any]) -> DuoserveError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class InvalidInput(DuoserveError, ValueError):
    """Refused before anything was sent: a wrong shape, dtype, image, text or option."""


class ModelNotFound(DuoserveError, LookupError):
    """The server has no such model, version or label (now)."""


class DeadlineExceeded(DuoserveError, TimeoutError):
    """The call's total time ran out, retries included. The server may have done the work."""

    retryable = True


class ServerUnavailable(DuoserveError, ConnectionError):
    """No server could be reached, or the connection broke, retries included."""

    retryable = True


class ServerBusy(ServerUnavailable):
    """Until the deadline, the server had no free thread, or no room in its queue."""


class MessageTooLarge(DuoserveError):
    """The reply is over `Connection.max_message_bytes`, or the request over the server's limit: ask for fewer rows."""


class PermissionDenied(DuoserveError):
    """The server, or a proxy before it, did not accept the credentials."""


class RequestRejected(DuoserveError):
    """The server understood the request and refused it, or the model failed on it."""


class BadReply(DuoserveError):
    """The answer is not what the contract promises: unreadable, wrong shape, not finite."""


class UnsupportedModel(DuoserveError):
    """The model is served, but lacks what the call needs: a signature, or training without the missing input."""


class NotAnswered(DuoserveError, AttributeError):
    """A part of an answer that the version does not give, such as the label of tags. The message names its parts."""


class SpecChanged(DuoserveError):
    """The version that answered, `version`, needs tensors of another spec; or versions changed faster than a call."""


class ClientClosed(DuoserveError, RuntimeError):
    """A call on a client that was closed."""
