"""Whole calls with prepared tensors, compared with a raw gRPC stub and the official sample."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import sentencepiece

from benchmarks._rounds import interleave, microseconds, ratio, row, spread, times
from duoserve import AsyncClient, Client, PreprocessingSpec
from duoserve._wire import messages as _messages
from duoserve._wire import wire_pb2 as wire

ROOT = pathlib.Path(__file__).resolve().parents[1]
CALLERS = (1, 2, 4, 8, 16, 32, 64)
LABELS = tuple(f"class {i}" for i in range(10))


class EmptyServer:
    """`benchmarks._empty_server` in a separate process, and the tensors to send to it."""

    def __init__(self) -> None:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["red heart", "grinning face", "flag of Germany"] * 30),
            model_writer=model,
            vocab_size=300,
            hard_vocab_limit=False,
            byte_fallback=True,
            minloglevel=4,
        )
        spec = PreprocessingSpec(224, 224, 32, model.getvalue(), LABELS, 1)
        self.image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
        self.tokens = np.ones((1, 32), np.int32)
        self.request = _messages.encode_predict(
            "pairs", "stable", "serving_default", {"image": self.image, "tokens": self.tokens}
        )
        described, answered = wire.PredictResponse(), wire.PredictResponse()
        for reply in (described, answered):
            reply.model_spec.name, reply.model_spec.version.value = "pairs", 1
        described.outputs["spec"].dtype = 7
        described.outputs["spec"].tensor_shape.dim.add(size=1)
        described.outputs["spec"].string_val.append(spec.to_json().encode())
        answered.outputs["probabilities"].dtype = 1
        for size in (1, len(LABELS)):
            answered.outputs["probabilities"].tensor_shape.dim.add(size=size)
        answered.outputs["probabilities"].float_val.extend([0.1] * len(LABELS))
        given = {"reply": answered.SerializeToString().hex(), "spec": described.SerializeToString().hex()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._empty_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        self.address = f"127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> EmptyServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()


def calls(rounds: int, server: EmptyServer) -> dict[str, Any]:
    """One caller, blocking and async."""
    loop = asyncio.new_event_loop()
    with raw_stub(server) as raw, Client(server.address, model="pairs", label="stable") as client:
        preprocessor = client.preprocessor()
        found = interleave(
            {
                "raw stub": lambda: times(raw, 40),
                "duoserve": lambda: times(
                    lambda: client.predict_tensors(server.image, server.tokens, preprocessor), 40
                ),
            },
            rounds,
        )
        rows = [row("a whole call, sync", "raw stub", ratio(found, "duoserve", "raw stub"), 1.15)]

    async def timed(call: Callable[[], Any], count: int) -> list[float]:
        values = []
        for _ in range(count):
            began = time.perf_counter()
            await call()
            values.append(time.perf_counter() - began)
        return values

    async def opened() -> tuple[AsyncClient, Any]:
        channel = grpc.aio.insecure_channel(server.address)
        return AsyncClient(server.address, model="pairs", label="stable"), channel

    aclient, channel = loop.run_until_complete(opened())
    stub = channel.unary_unary(_messages.PREDICT, None, None)
    awaited = interleave(
        {
            "raw stub": lambda: loop.run_until_complete(timed(lambda: stub(server.request, timeout=10), 40)),
            "duoserve": lambda: loop.run_until_complete(
                timed(lambda: aclient.predict_tensors(server.image, server.tokens, preprocessor), 40)
            ),
        },
        rounds,
    )
    rows.append(row("a whole call, async", "raw stub", ratio(awaited, "duoserve", "raw stub"), 1.15))
    loop.run_until_complete(aclient.close())
    loop.run_until_complete(channel.close())
    loop.close()
    return {"rows": rows, "microseconds": {"sync": microseconds(found), "async": microseconds(awaited)}}


def throughput(rounds: int, seconds: float, server: EmptyServer) -> dict[str, Any]:
    """Calls a second from 1 to 64 threads."""
    with (
        raw_stub(server) as raw,
        official_sample(server) as official,
        Client(server.address, model="pairs", label="stable") as client,
    ):
        preprocessor = client.preprocessor()
        contenders: dict[str, Callable[[], Any]] = {
            "raw stub": raw,
            "official sample": official,
            "duoserve": lambda: client.predict_tensors(server.image, server.tokens, preprocessor),
        }
        found: dict[str, dict[int, list[float]]] = {name: {n: [] for n in CALLERS} for name in contenders}
        for _ in range(rounds):
            for n in CALLERS:
                for name, call in contenders.items():
                    found[name][n].append(_per_second(call, n, seconds))
    rows = []
    for n in CALLERS:
        for peer, aim in (("official sample", 1.0), ("raw stub", None)):
            pairs = zip(found["duoserve"][n], found[peer][n], strict=True)
            rows.append(
                row(f"throughput, {n} callers", peer, spread([a / b for a, b in pairs]), aim, more_is_better=True)
            )
    return {"rows": rows, "per_second": {name: {n: spread(v) for n, v in by.items()} for name, by in found.items()}}


def _per_second(call: Callable[[], Any], callers: int, seconds: float) -> float:
    counts = [0] * callers
    stop = time.perf_counter() + seconds

    def work(i: int) -> None:
        while time.perf_counter() < stop:
            call()
            counts[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


@contextlib.contextmanager
def raw_stub(server: EmptyServer) -> Iterator[Callable[[], bytes]]:
    """A plain channel that sends prepared bytes and does not read the reply."""
    with grpc.insecure_channel(server.address) as channel:
        stub = channel.unary_unary(_messages.PREDICT, None, None)
        yield lambda: stub(server.request, timeout=10)


@contextlib.contextmanager
def official_sample(server: EmptyServer) -> Iterator[Callable[[], Any]]:
    """tensorflow-serving-api as its samples use it."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call() -> Any:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "pairs"
            request.inputs["image"].CopyFrom(tf.make_tensor_proto(server.image))
            request.inputs["tokens"].CopyFrom(tf.make_tensor_proto(server.tokens))
            return tf.make_ndarray(stub.Predict(request, 10).outputs["probabilities"])

        yield call
