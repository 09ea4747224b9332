"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy.typing as npt

from duoserve import _setup
from duoserve._inputs import SendMode
from duoserve._messages import Outputs, VersionStatus
from duoserve._sync import SyncDriver, SyncLine, open_channel
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.observe import Observer
from duoserve.options import TLS, Connection, Hedge, Retry
from duoserve.preprocess import ImageSource, Preprocessor
from duoserve.results import BatchResult, Prediction, TensorPrediction
from duoserve.routing import Canary, Shadow, ShadowReport

__all__ = ["Client"]

Metadata = Sequence[tuple[str, str]]


class Client:
    """Predicts with one model on TensorFlow Serving. Safe for many threads, and across a fork.

    Nothing is opened until the first call. Use it as a context manager, or call `close`.

    Args:
        address: "host:port", a gRPC target such as "dns:///headless-service:8500", or a list
            of "host:port". Calls go to all servers behind it in turn.
        model: Name of the model.
        label: Version label to ask for, such as "stable". Or
        version: the version to ask for. With neither: the latest version.
        timeout: Total seconds for a call, retries included. Finite, at most an hour.
        send: "tensors" preprocesses here, "bytes" lets the model's graph do it, "auto" takes
            what is smaller on the wire.
        max_batch_size: Rows of a request at most; larger batches are split.
        retry: How often a failed call is sent again.
        hedge: When a slow call is sent a second time. None: never.
        canary: A share of the calls goes to another label.
        shadow: Copies of the calls go to another label, and the answers are compared.
        tls: Encrypts. None: plain text.
        token: Gives a bearer token for each call (cache it yourself). Needs `tls`, or a server on
            this machine.
        metadata: Pairs to send with every call; keys in lower case.
        connection: Name refresh, keepalive, message size, health checks.
        observers: Hear of every call: see `duoserve.metrics` and `duoserve.tracing`.
        channel: A grpc.Channel to use as it is, instead of `address`; it is not closed.

    Raises:
        InvalidInput: An option that is not one.
    """

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
        token: Callable[[], str] | None = None,
        metadata: Metadata = (),
        connection: Connection = Connection(),
        observers: Sequence[Observer] = (),
        channel: grpc.Channel | None = None,
    ) -> None:
        self._session, lines = _setup.build(
            address,
            model=model,
            label=label,
            version=version,
            timeout=timeout,
            send=send,
            max_batch_size=max_batch_size,
            retry=retry,
            hedge=hedge,
            canary=canary,
            shadow=shadow,
            tls=tls,
            token=token,
            metadata=metadata,
            connection=connection,
            observers=observers,
            injected=None if channel is None else SyncLine(channel, owned=False),
            open_line=open_channel,
        )
        self._driver = SyncDriver(lines)

    def predict(
        self,
        image: ImageSource,
        text: str,
        *,
        key: str | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """Classifies one image with its text.

        Args:
            image: A path, the bytes of a JPEG or PNG, a binary file object, a uint8 array of
                shape (height, width, 3), RGB, 0-255, of any size, or a PIL image.
            text: Any text, also an empty one.
            key: Keeps a caller on one side of a canary.
            timeout: Seconds, instead of the client's.
            metadata: Pairs to send along.

        Raises:
            InvalidInput: Refused before anything was sent.
            DuoserveError: The call failed: see `duoserve.errors`.
        """
        return self._driver.run(self._session.predict(image, text, key=key, timeout=timeout, metadata=tuple(metadata)))

    def predict_batch(
        self, pairs: Iterable[tuple[ImageSource, str]], *, timeout: float | None = None, metadata: Metadata = ()
    ) -> BatchResult:
        """Classifies many images with their texts, in requests side by side; the order is kept.

        An item that fails does not fail its neighbours: reading it from the result raises its
        error. `timeout` is for the batch as a whole.
        """
        return self._driver.run(self._session.predict_batch(pairs, timeout=timeout, metadata=tuple(metadata)))

    def predict_tensors(
        self,
        image: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        preprocessor: Preprocessor,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> TensorPrediction:
        """Classifies tensors that `preprocessor` (see the method of that name) made.

        Args:
            image: uint8 array of shape (batch, height, width, 3), RGB, 0-255.
            tokens: int32 array of shape (batch, token_length).
            preprocessor: What prepared them. A version that wants them prepared differently
                gives SpecChanged, never a wrong answer.
        """
        return self._driver.run(
            self._session.predict_tensors(image, tokens, preprocessor, timeout=timeout, metadata=tuple(metadata))
        )

    def run(
        self,
        signature: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Outputs:
        """Runs any signature of any model with the tensors as they are. Nothing is checked.

        Args:
            signature: Name of the signature.
            inputs: Arrays by input name; strings as object arrays of bytes or str.
            outputs: Names of the outputs to return; all when empty.
        """
        return self._driver.run(
            self._session.run(signature, inputs, outputs=outputs, timeout=timeout, metadata=tuple(metadata))
        )

    def preprocessor(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Preprocessor:
        """What prepares input for the version that is served now."""
        return self._driver.run(self._session.preprocessor(timeout=timeout, metadata=tuple(metadata)))

    def describe(self, *, timeout: float | None = None, metadata: Metadata = ()) -> PreprocessingSpec:
        """The spec of the version that is served now, asked for anew."""
        return self._driver.run(self._session.describe(timeout=timeout, metadata=tuple(metadata)))

    def status(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[VersionStatus]:
        """The states of the model's versions on one of the servers, newest first."""
        return self._driver.run(self._session.status(timeout=timeout, metadata=tuple(metadata)))

    def signatures(self, *, timeout: float | None = None, metadata: Metadata = ()) -> dict[str, SignatureSpec]:
        """The signatures of the version that is served now, by name."""
        return self._driver.run(self._session.signatures(timeout=timeout, metadata=tuple(metadata)))

    def shadow_report(self) -> ShadowReport:
        """How the shadow agreed so far."""
        return self._session.shadow_report()

    def close(self) -> None:
        """Closes the connections. Calls under way fail; further ones raise ClientClosed."""
        self._driver.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._session.server!r}, model={self._session.model!r}, target={self._session.target!r})"
