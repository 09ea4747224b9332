"""The error of every failed call: a status code and a message."""

import logging
from typing import NamedTuple

import grpc
import tensorflow as tf

_LOG = logging.getLogger(__name__)

Code = grpc.StatusCode

_BY_NUMBER = {code.value[0]: code for code in Code}


class ServingError(Exception):
    """A status other than OK: a `code`, with TensorFlow's numbers, and the `message` that the stock server sends."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class Failure(NamedTuple):
    """The status of a failed call. Unlike an exception, it keeps no frame alive, and so no request's bytes."""

    code: Code
    message: str


def invalid_argument(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    return ServingError(Code.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, message)


def from_exception(error: BaseException) -> ServingError:
    """The same error as a `ServingError`: TensorFlow's codes kept, anything unforeseen INTERNAL."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        return ServingError(_BY_NUMBER.get(error.error_code, Code.UNKNOWN), error.message or "")
    if isinstance(error, RecursionError):
        return invalid_argument("Expected JSON that is nested a few hundred levels deep at most. Received: more")
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, f"Out of memory: {error}")
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")


def status_of(error: Exception) -> Failure:
    """The status code and message of a failed call; an unexpected error is logged with its stack."""
    failure = from_exception(error)
    if not isinstance(error, ServingError) and failure.code is Code.INTERNAL:
        _LOG.error("A call failed", exc_info=error)
    return Failure(failure.code, failure.message)
