"""The async client: the same surface, awaited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc.aio
import numpy.typing as npt

from duoserve._base import Shell
from duoserve._checks import expect_kind
from duoserve._transport.async_driver import AsyncDriver, AsyncLine, open_channel
from duoserve._transport.channel import Plan
from duoserve._transport.managed_channel import Line, Lines
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.explanation import Explanation
from duoserve.preprocessing.audio import AudioSource, Clip
from duoserve.preprocessing.images import ImageSource
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Prediction, TensorPrediction

__all__ = ["AsyncClient"]

Metadata = Sequence[tuple[str, str]]


class AsyncClient(Shell[grpc.aio.Channel]):
    """`Client` for asyncio: same options, same methods, awaited.

    Images are decoded in the event loop's thread pool, so the loop stays free. Use it as an
    async context manager, or await `close`.
    """

    def _wrap(self, channel: grpc.aio.Channel) -> Line:
        expect_kind("channel", channel, grpc.aio.Channel, "a grpc.aio.Channel")
        return AsyncLine(channel, owned=False)

    def _open(self, plan: Plan) -> Line:
        return open_channel(plan)

    def _start(self, lines: Lines) -> None:
        self._driver = AsyncDriver(lines)

    async def predict(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        audio: AudioSource | None = None,
        key: str | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """Like `Client.predict`."""
        return await self._driver.run(
            self._session.predict(image, text, audio=audio, key=key, timeout=timeout, metadata=metadata)
        )

    async def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        key: str | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> BatchResult:
        """Like `Client.predict_batch`."""
        return await self._driver.run(self._session.predict_batch(pairs, key=key, timeout=timeout, metadata=metadata))

    async def embed(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        audio: AudioSource | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Embedding:
        """Like `Client.embed`."""
        return await self._driver.run(self._session.embed(image, text, audio=audio, timeout=timeout, metadata=metadata))

    async def embed_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> EmbeddingBatch:
        """Like `Client.embed_batch`."""
        return await self._driver.run(self._session.embed_batch(pairs, timeout=timeout, metadata=metadata))

    async def explain(
        self,
        image: ImageSource | Clip | None = None,
        text: str | None = None,
        *,
        label: str | None = None,
        audio: AudioSource | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Explanation:
        """Like `Client.explain`."""
        return await self._driver.run(
            self._session.explain(image, text, label=label, audio=audio, timeout=timeout, metadata=metadata)
        )

    async def predict_tensors(
        self,
        image: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        preprocessor: Preprocessor,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> TensorPrediction:
        """Like `Client.predict_tensors`."""
        return await self._driver.run(
            self._session.predict_tensors(image, tokens, preprocessor, timeout=timeout, metadata=metadata)
        )

    async def run(
        self,
        signature: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Outputs:
        """Like `Client.run`."""
        return await self._driver.run(
            self._session.run(signature, inputs, outputs=outputs, timeout=timeout, metadata=metadata)
        )

    async def preprocessor(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Preprocessor:
        """Like `Client.preprocessor`."""
        return await self._driver.run(self._session.preprocessor(timeout=timeout, metadata=metadata))

    async def describe(self, *, timeout: float | None = None, metadata: Metadata = ()) -> PreprocessingSpec:
        """Like `Client.describe`."""
        return await self._driver.run(self._session.describe(timeout=timeout, metadata=metadata))

    async def status(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[VersionStatus]:
        """Like `Client.status`."""
        return await self._driver.run(self._session.status(timeout=timeout, metadata=metadata))

    async def signatures(self, *, timeout: float | None = None, metadata: Metadata = ()) -> dict[str, SignatureSpec]:
        """Like `Client.signatures`."""
        return await self._driver.run(self._session.signatures(timeout=timeout, metadata=metadata))

    async def close(self) -> None:
        """Like `Client.close`."""
        self._session.close()
        await self._driver.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
