"""Specs of versions that prepare their input differently, scripted servers for them, and both clients as one."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sentencepiece
from PIL import Image

from duoserve import AsyncClient, Client, PreprocessingSpec
from tests.client.fake import FakeServer, Version


def train(texts: list[str], vocabulary: int, **options: Any) -> bytes:
    """A small SentencePiece model of the kind that export makes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 30),
        model_writer=model,
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=4,
        **options,
    )
    return model.getvalue()


def photo(height: int = 90, width: int = 120, seed: int = 0) -> Image.Image:
    """An RGB image with detail at several scales."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@pytest.fixture(scope="session")
def tokenizers() -> tuple[bytes, bytes]:
    return train(["red heart", "grinning face", "flag of Germany"], 300), train(["blue car", "smile", "tree"], 290)


@pytest.fixture(scope="session")
def spec1(tokenizers: tuple[bytes, bytes]) -> PreprocessingSpec:
    return PreprocessingSpec(16, 16, 8, tokenizers[0], ("cat", "dog", "owl"), 1)


@pytest.fixture(scope="session")
def spec2(tokenizers: tuple[bytes, bytes]) -> PreprocessingSpec:
    """Another image size, tokenizer, token length and set of labels."""
    return PreprocessingSpec(24, 20, 6, tokenizers[1], ("dog", "bee", "cat", "elk"), 2)


@pytest.fixture(scope="session")
def spec3(tokenizers: tuple[bytes, bytes]) -> PreprocessingSpec:
    """Shapes of version 1, but another tokenizer and order of labels: a server can't tell them apart."""
    return PreprocessingSpec(16, 16, 8, tokenizers[1], ("owl", "cat", "dog"), 3)


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encoded(photo())


@pytest.fixture
def server(spec1: PreprocessingSpec, spec2: PreprocessingSpec, spec3: PreprocessingSpec) -> Iterator[FakeServer]:
    versions = Version(spec1), Version(spec2, tensor_content=True), Version(spec3)
    with FakeServer(*versions, labels={"stable": 1, "canary": 2}) as running:
        yield running


class Blocking:
    """An AsyncClient that is called like a Client: each call runs in one event loop, in its own thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not asyncio.iscoroutinefunction(method):
            return method
        return lambda *args, **options: asyncio.run_coroutine_threadsafe(method(*args, **options), self._loop).result(
            60
        )

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of either kind; closes them at the end."""
    opened: list[Any] = []

    def make(address: Any, **options: Any) -> Any:
        kind = Client if request.param == "sync" else Blocking
        client = kind(address, **{"model": "pairs", **options})
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)
