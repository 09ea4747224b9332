"""The async client: the same methods, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc.aio
import numpy.typing as npt

from duoserve._base import BaseClient
from duoserve._checks import expect_kind
from duoserve._transport.async_driver import AsyncChannel, AsyncDriver, open_channel
from duoserve._transport.channel import ChannelPlan
from duoserve._transport.managed_channel import ManagedChannel, OpenChannel
from duoserve._wire.messages import Outputs, VersionStatus
from duoserve.contract import PreprocessingSpec, SignatureSpec
from duoserve.errors import InvalidInput
from duoserve.explanation import Explanation
from duoserve.preprocessing.audio import AudioSource, Clip
from duoserve.preprocessing.images import ImageSource
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Prediction, TensorPrediction

__all__ = ["AsyncClient"]

Metadata = Sequence[tuple[str, str]]


class AsyncClient(BaseClient[grpc.aio.Channel]):
    """`Client` for asyncio: same options, same methods, awaited.

    Images are decoded in the event loop's thread pool, so the loop stays free. Use it as an
    async context manager, or await `close`. One client serves any number of event loops, in any
    number of threads: each loop gets its own channels, which close when the loop has ended.
    """

    def _wrap(self, channel: grpc.aio.Channel) -> Callable[[], OpenChannel]:
        expect_kind("channel", channel, grpc.aio.Channel, "a grpc.aio.Channel")
        adopted = AsyncChannel(channel, owned=False)

        def adopt() -> OpenChannel:
            here = asyncio.get_running_loop()
            if getattr(channel, "_loop", here) is not here:
                raise InvalidInput("Expected a call in the event loop of the channel. Received: another event loop")
            return adopted

        return adopt

    def _open(self, plan: ChannelPlan) -> OpenChannel:
        return open_channel(plan)

    def _start(self, new_managed_channel: Callable[[], ManagedChannel]) -> None:
        self._driver = AsyncDriver(new_managed_channel)

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
            self._operations.predict(image, text, audio=audio, key=key, timeout=timeout, metadata=metadata)
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
        return await self._driver.run(
            self._operations.predict_batch(pairs, key=key, timeout=timeout, metadata=metadata)
        )

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
        return await self._driver.run(
            self._operations.embed(image, text, audio=audio, timeout=timeout, metadata=metadata)
        )

    async def embed_batch(
        self,
        pairs: Iterable[tuple[ImageSource | Clip | None, str | None]],
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> EmbeddingBatch:
        """Like `Client.embed_batch`."""
        return await self._driver.run(self._operations.embed_batch(pairs, timeout=timeout, metadata=metadata))

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
            self._operations.explain(image, text, label=label, audio=audio, timeout=timeout, metadata=metadata)
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
            self._operations.predict_tensors(image, tokens, preprocessor, timeout=timeout, metadata=metadata)
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
            self._operations.run(signature, inputs, outputs=outputs, timeout=timeout, metadata=metadata)
        )

    async def preprocessor(self, *, timeout: float | None = None, metadata: Metadata = ()) -> Preprocessor:
        """Like `Client.preprocessor`."""
        return await self._driver.run(self._operations.preprocessor(timeout=timeout, metadata=metadata))

    async def describe(self, *, timeout: float | None = None, metadata: Metadata = ()) -> PreprocessingSpec:
        """Like `Client.describe`."""
        return await self._driver.run(self._operations.describe(timeout=timeout, metadata=metadata))

    async def status(self, *, timeout: float | None = None, metadata: Metadata = ()) -> list[VersionStatus]:
        """Like `Client.status`."""
        return await self._driver.run(self._operations.status(timeout=timeout, metadata=metadata))

    async def signatures(self, *, timeout: float | None = None, metadata: Metadata = ()) -> dict[str, SignatureSpec]:
        """Like `Client.signatures`."""
        return await self._driver.run(self._operations.signatures(timeout=timeout, metadata=metadata))

    async def close(self) -> None:
        """Like `Client.close`."""
        self._operations.close()
        await self._driver.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
