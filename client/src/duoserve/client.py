"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy.typing as npt

from duoserve._base import BaseClient
from duoserve._checks import expect_kind
from duoserve._transport.channel import ChannelPlan
from duoserve._transport.managed_channel import ManagedChannel, OpenChannel
from duoserve._transport.sync_driver import SyncChannel, SyncDriver, open_channel
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.explanation import Explanation
from duoserve.preprocessing.audio import AudioSource, Clip
from duoserve.preprocessing.images import ImageSource
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Prediction, TensorPrediction

__all__ = ["Client"]

Metadata = Sequence[tuple[str, str]]


class Client(BaseClient[grpc.Channel]):
    """Predicts with one model on TensorFlow Serving. Thread-safe, and safe across a fork.

    Nothing is opened until the first call. Use it as a context manager, or call `close`.
    """

    def _wrap(self, channel: grpc.Channel) -> Callable[[], OpenChannel]:
        expect_kind("channel", channel, grpc.Channel, "a grpc.Channel")
        adopted = SyncChannel(channel, owned=False)
        return lambda: adopted

    def _open(self, plan: ChannelPlan) -> OpenChannel:
        return open_channel(plan)

    def _start(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        self._driver = SyncDriver(new_managed_channel())

    def predict(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        audio: AudioSource | None = None,
        key: str | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """Predicts for one image (or clip) with its text, or for one of them alone if the version allows it.

        Args:
            image: A path, the bytes of a JPEG, PNG or WebP, a binary file object, a uint8 array of
                shape (height, width, 3), RGB, 0-255, of any size, or a PIL image.
                None when there is none.
            text: Any text except an empty one. None when there is none.
            audio: In place of an image, where the model takes clips: a path, the bytes of a WAV,
                FLAC or OGG, a binary file object, or a Clip(samples, sample_rate).
            key: Calls with the same key go to the same side of a canary.
            timeout: Seconds, in place of the client's.
            metadata: Pairs to send with the call.

        Raises:
            InvalidInput: Refused before anything was sent.
            UnsupportedModel: The version takes clips and got an image, or the reverse; or an
                input is missing, and the version was always trained with both: `describe().optional`
                names the inputs that may be missing.
            DuoserveError: The call failed: see `duoserve.errors`.
        """
        return self._driver.run(
            self._operations.predict(image, text, audio=audio, key=key, timeout=timeout, metadata=metadata)
        )

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        key: str | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> BatchResult:
        """Predicts for many images with their texts, in parallel requests; the order is kept.

        None stands for an image or a text that is missing, as in `predict`; Clip(audio) for a clip.
        A row that fails does not fail the others: reading it from the result raises its
        error. `key` and `timeout` apply to the whole batch.
        """
        return self._driver.run(self._operations.predict_batch(pairs, key=key, timeout=timeout, metadata=metadata))

    def embed(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        audio: AudioSource | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Embedding:
        """Makes a vector of one image (or clip) and its text, for search and for finding duplicates.

        Takes the same input as `predict`. It is sent as tensors, and never to a canary: vectors of
        two versions can't be compared.

        Raises:
            UnsupportedModel: As `predict`; or the version has no signature `embed`.
            InvalidInput, DuoserveError: As `predict`.
        """
        return self._driver.run(self._operations.embed(image, text, audio=audio, timeout=timeout, metadata=metadata))

    def embed_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> EmbeddingBatch:
        """Makes vectors of many images with their texts, in parallel requests; the order is kept.

        Takes the same input as `predict_batch`. All vectors are of one version, the one that the
        label names when the call begins, even if another is rolled out meanwhile. A row that fails
        does not fail the others: reading it from the result raises its error.

        Raises:
            UnsupportedModel, InvalidInput, DuoserveError: As `embed`, if no row could be sent.
        """
        return self._driver.run(self._operations.embed_batch(pairs, timeout=timeout, metadata=metadata))

    def explain(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        label: str | None = None,
        audio: AudioSource | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Explanation:
        """Explains which parts of the image and which words decided, and how much each input counts.

        The version leaves out each part in turn and answers again, about a hundred times, many at
        once: it takes several times as long as `predict`. Takes the same input as `predict`, sent as
        tensors, and explains the answer of the client's own label or version, never of a canary.

        Args:
            image: As for `predict`.
            text: As for `predict`.
            label: The class, tag or score to explain; None: the most probable one (or the first score).
            audio: As for `predict`; the parts are those of the spectrogram.
            timeout: Seconds, in place of the client's.
            metadata: Pairs to send with the call.

        Raises:
            UnsupportedModel: As `predict`; or the version was exported without `--explain`, or has no such class.
            InvalidInput, DuoserveError: As `predict`.
        """
        return self._driver.run(
            self._operations.explain(image, text, label=label, audio=audio, timeout=timeout, metadata=metadata)
        )

    def predict_tensors(
        self,
        image: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        preprocessor: Preprocessor,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> TensorPrediction:
        """Predicts for tensors from `preprocessor` (see the method of that name).

        Args:
            image: uint8 array of shape (batch, height, width, 3), RGB, 0-255.
            tokens: int32 array of shape (batch, token_length).
            preprocessor: The one that prepared them. A version that needs them prepared differently
                raises SpecChanged instead of giving a wrong answer.
        """
        return self._driver.run(
            self._operations.predict_tensors(image, tokens, preprocessor, timeout=timeout, metadata=metadata)
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
        """Runs any signature of any model with unchanged, unchecked tensors.

        Args:
            signature: Name of the signature.
            inputs: Arrays by input name; strings as object arrays of bytes or str.
            outputs: Names of the outputs to return; empty: all.
        """
        return self._driver.run(
            self._operations.run(signature, inputs, outputs=outputs, timeout=timeout, metadata=metadata)
        )

    def preprocessor(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Preprocessor:
        """The preprocessor for the version that is served now.

        Versions that prepare input in the same way share one: its `spec.version` can be an earlier one's.
        """
        return self._driver.run(self._operations.preprocessor(timeout=timeout, metadata=metadata))

    def describe(self, *, timeout: float | None = None, metadata: Metadata = ()) -> PreprocessingSpec:
        """The spec of the version that is served now, fetched again."""
        return self._driver.run(self._operations.describe(timeout=timeout, metadata=metadata))

    def status(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[VersionStatus]:
        """The states of the model's versions on one of the servers, newest first."""
        return self._driver.run(self._operations.status(timeout=timeout, metadata=metadata))

    def signatures(self, *, timeout: float | None = None, metadata: Metadata = ()) -> dict[str, SignatureSpec]:
        """The signatures of the version that is served now, by name."""
        return self._driver.run(self._operations.signatures(timeout=timeout, metadata=metadata))

    def close(self) -> None:
        """Closes the connections. Calls in progress fail; further calls raise ClientClosed."""
        self._operations.close()
        self._driver.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
