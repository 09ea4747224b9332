"""Whole calls with prepared tensors, compared with a raw gRPC stub and the official sample."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks._empty_server import empty_server
from benchmarks._load import in_threads
from benchmarks._rounds import alternate, interleave, microseconds, row, spread, times, versus
from benchmarks.client_parts import reply
from duoserve import AsyncClient, Client, PreprocessingSpec
from duoserve._wire import messages as _messages
from export.training.tokenizer import train_tokenizer

CALLERS = (1, 2, 4, 8, 16, 32, 64)
LABELS = tuple(f"class {i}" for i in range(10))
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
TOKENS = np.ones((1, 32), np.int32)
REQUEST = _messages.encode_predict("pairs", "stable", "serving_default", {"image": IMAGE, "tokens": TOKENS})


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of an empty server that describes itself and answers with ten probabilities."""
    tokenizer = train_tokenizer(["red heart", "grinning face", "flag of Germany"] * 30, vocabulary=300)
    spec = PreprocessingSpec(224, 224, 32, tokenizer, LABELS, 1).to_json().encode()
    answered = reply("probabilities", 1, (1, len(LABELS)), float_val=[0.1] * len(LABELS))
    with empty_server(answered, reply("spec", 7, (1,), string_val=[spec])) as address:
        yield address


def calls(rounds: int, address: str) -> dict[str, Any]:
    """One caller, blocking and async."""
    with raw_stub(address) as raw, duoserve(address) as ours:
        found = interleave({"raw stub": lambda: times(raw, 40), "duoserve": lambda: times(ours, 40)}, rounds)
    loop = asyncio.new_event_loop()
    raw_async, ours_async, close = loop.run_until_complete(_opened(address))
    awaited = interleave(
        {
            "raw stub": lambda: loop.run_until_complete(_times(raw_async, 40)),
            "duoserve": lambda: loop.run_until_complete(_times(ours_async, 40)),
        },
        rounds,
    )
    loop.run_until_complete(close())
    loop.close()
    kinds = {"sync": found, "async": awaited}
    return {
        "rows": [versus(each, f"a whole call, {kind}", "raw stub", 1.15) for kind, each in kinds.items()],
        "microseconds": {kind: microseconds(each) for kind, each in kinds.items()},
    }


async def _opened(address: str) -> tuple[Callable[[], Awaitable[Any]], ...]:
    """A call of a raw stub, one of the async client, and what closes both."""
    channel = grpc.aio.insecure_channel(address)
    stub = channel.unary_unary(_messages.PREDICT, None, None)
    client = AsyncClient(address, model="pairs", label="stable")
    preprocessor = await client.preprocessor()

    async def close() -> None:
        await client.close()
        await channel.close()

    return lambda: stub(REQUEST, timeout=10), lambda: client.predict_tensors(IMAGE, TOKENS, preprocessor), close


async def _times(call: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    values = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        values.append(time.perf_counter() - began)
    return values


def throughput(rounds: int, seconds: float, address: str) -> dict[str, Any]:
    """Calls a second from 1 to 64 threads."""
    with raw_stub(address) as raw, official_sample(address) as official, duoserve(address) as ours:
        ways = {
            "raw stub": lambda n, seconds: in_threads(n, seconds, raw),
            "official sample": lambda n, seconds: in_threads(n, seconds, official),
            "duoserve": lambda n, seconds: in_threads(n, seconds, ours),
        }
        seen = alternate(ways, CALLERS, rounds, seconds)
    rates = {name: {n: [each["per_second"] for each in seen[name, n]] for n in CALLERS} for name in ways}
    rows = []
    for n in CALLERS:
        for peer, aim in (("official sample", 1.0), ("raw stub", None)):
            ratios = spread(a / b for a, b in zip(rates["duoserve"][n], rates[peer][n], strict=True))
            rows.append(row(f"throughput, {n} callers", peer, ratios, aim, more_is_better=True))
    return {"rows": rows, "per_second": {name: {n: spread(v) for n, v in by.items()} for name, by in rates.items()}}


@contextlib.contextmanager
def duoserve(address: str) -> Iterator[Callable[[], Any]]:
    """The client with prepared tensors."""
    with Client(address, model="pairs", label="stable") as client:
        preprocessor = client.preprocessor()
        yield lambda: client.predict_tensors(IMAGE, TOKENS, preprocessor)


@contextlib.contextmanager
def raw_stub(address: str) -> Iterator[Callable[[], bytes]]:
    """A plain channel that sends prepared bytes and does not read the reply."""
    with grpc.insecure_channel(address) as channel:
        stub = channel.unary_unary(_messages.PREDICT, None, None)
        yield lambda: stub(REQUEST, timeout=10)


@contextlib.contextmanager
def official_sample(address: str) -> Iterator[Callable[[], Any]]:
    """tensorflow-serving-api as its samples use it."""
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call() -> Any:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "pairs"
            request.inputs["image"].CopyFrom(tf.make_tensor_proto(IMAGE))
            request.inputs["tokens"].CopyFrom(tf.make_tensor_proto(TOKENS))
            return tf.make_ndarray(stub.Predict(request, 10).outputs["probabilities"])

        yield call
