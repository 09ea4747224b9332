"""Batching: each caller gets its rows or a clear error."""

from __future__ import annotations

import concurrent.futures
import itertools
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from serving.local.configs_pb2 import BatchingParameters
from serving.local.errors import Code, ServingError
from serving.local.metrics import Metrics
from serving.local.model.batching import Batcher
from serving.local.model.batching_parameters import Batching
from tests.conformance.pair import predict_request

X, Y = "x:0", "y:0"
Array = np.ndarray[Any, Any]


class Model:
    """Doubles its input; records the shapes it ran and can be blocked."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.inputs: list[Array] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, feeds: Mapping[str, Array], _: Sequence[str], __: float | None) -> list[Array]:
        self.gate.wait(20)
        self.shapes.append(feeds[X].shape)
        self.inputs.append(feeds[X])
        if self.error:
            raise self.error
        return [feeds[X] * 2]


Make = Callable[..., tuple[Batcher, Model, Metrics]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Batchers over a `Model`, by their parameters as a text proto."""
    made: list[tuple[Batcher, Model]] = []

    def build(text: str) -> tuple[Batcher, Model, Metrics]:
        model, metrics = Model(), Metrics()
        batching = Batching.from_proto(text_format.Parse(text, BatchingParameters()), 2)
        made.append((Batcher(model, [([X], [Y])], batching, "m", metrics), model))
        return *made[-1], metrics

    yield build
    for batcher, model in made:
        model.gate.set()
        batcher.close()


def ask(batcher: Batcher, rows: Array, seconds: float | None = None) -> Array:
    return batcher.run({X: rows}, [Y], seconds and time.monotonic() + seconds)[0]


def together(
    batcher: Batcher, *requests: Array, seconds: float | None = None
) -> list[concurrent.futures.Future[Array]]:
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        return [pool.submit(ask, batcher, rows, seconds) for rows in requests]


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size { value: 4 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 1000 }",
        "max_batch_size { value: 8 } allowed_batch_sizes: [1, 4, 8] max_enqueued_batches { value: 1000 }",
        """max_batch_size { value: 16 } enable_large_batch_splitting { value: true } batch_timeout_micros { value: 500 }
           max_execution_batch_size { value: 3 } max_enqueued_batches { value: 1000 }""",
    ],
)
def test_many_callers_each_get_their_own_rows(make: Make, text: str) -> None:
    batcher, _, _ = make(text)
    generator = np.random.default_rng(0)
    requests = [generator.integers(0, 1 << 30, (int(generator.integers(1, 5)), 3)) for _ in range(200)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for request, reply in zip(requests, pool.map(lambda rows: ask(batcher, rows), requests), strict=True):
            np.testing.assert_array_equal(reply, request * 2)


def test_concurrent_calls_share_a_run(make: Make) -> None:
    batcher, model, _ = make("max_batch_size { value: 8 } batch_timeout_micros { value: 200000 }")
    for reply in together(batcher, *[np.full((2, 1), i) for i in range(4)]):
        assert reply.result().shape == (2, 1)
    assert model.shapes == [(8, 1)]


def test_a_batch_is_padded_to_an_allowed_size_with_valid_rows(make: Make) -> None:
    batcher, model, metrics = make("max_batch_size { value: 8 } allowed_batch_sizes: [2, 8]")
    np.testing.assert_array_equal(ask(batcher, np.array([[5], [6], [7]])), [[10], [12], [14]])
    assert model.inputs[0].ravel().tolist() == [5, 6, 7, 5, 5, 5, 5, 5]
    assert 'processed_batch_size_v2{model_name="m",batch_size="8"} 1' in metrics.page()


def test_large_calls_are_split_and_joined_again(make: Make) -> None:
    batcher, model, _ = make(
        """max_batch_size { value: 32 } enable_large_batch_splitting { value: true }
           max_execution_batch_size { value: 4 } allowed_batch_sizes: [2, 4]"""
    )
    rows = np.arange(10).reshape(10, 1)
    np.testing.assert_array_equal(ask(batcher, rows), rows * 2)
    assert max(shape[0] for shape in model.shapes) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((9, 1)), "Task size 9 is larger than maximum input batch size 8"),
        (np.zeros((0, 1)), "Expected a batch of 1 row or more, as requests are batched. Received: 0 rows"),
        (np.zeros(()), "Batching Run() input tensors must have at least one dimension"),
    ],
)
def test_inputs_that_cannot_be_batched_are_refused(make: Make, rows: Array, message: str) -> None:
    batcher, _, _ = make("max_batch_size { value: 8 }")
    with pytest.raises(ServingError) as refused:
        ask(batcher, rows)
    assert (refused.value.code, refused.value.message) == (Code.INVALID_ARGUMENT, message)


def test_a_full_queue_is_unavailable_at_once(make: Make) -> None:
    batcher, model, _ = make(
        "max_batch_size { value: 1 } max_enqueued_batches { value: 1 } num_batch_threads { value: 1 }"
    )
    model.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(ask, batcher, np.ones((1, 1))) for _ in range(6)]
        first = list(itertools.islice(concurrent.futures.as_completed(futures, timeout=15), 3))
        ran_before = list(model.shapes)
        model.gate.set()
    assert not ran_before
    refused = [error for future in futures if (error := future.exception())]
    assert 3 <= len(refused) < 6 and all(future.exception() for future in first)
    for error in refused:
        assert isinstance(error, ServingError)
        assert error.code is Code.UNAVAILABLE
        assert error.message.startswith("The batch scheduling queue to which this task was submitted is full")


def test_different_shapes_in_one_batch_fail_unless_they_are_padded(make: Make) -> None:
    text = "max_batch_size { value: 2 } batch_timeout_micros { value: 1000000 }"
    batcher, _, _ = make(text)
    for future in together(batcher, np.ones((1, 2)), np.ones((1, 3))):
        with pytest.raises(ServingError, match="different shapes and padding is turned off") as refused:
            future.result()
        assert refused.value.code is Code.FAILED_PRECONDITION


def test_short_rows_are_padded_with_their_own_first_element(make: Make) -> None:
    batcher, model, _ = make(
        "max_batch_size { value: 2 } batch_timeout_micros { value: 1000000 } pad_variable_length_inputs: true"
    )
    for future in together(batcher, np.full((1, 1), 7), np.full((1, 3), 9)):
        assert future.result().shape == (1, 3)
    assert sorted(model.inputs[0].tolist()) == [[7, 7, 7], [9, 9, 9]]
    nul = np.full((2, 3), None)
    nul[:] = b"x\0"
    together(batcher, nul[:1, :1], nul[:1])
    assert model.inputs[1].tolist() == nul.tolist()


def test_one_bad_row_fails_its_batch_and_nothing_after_it(make: Make) -> None:
    batcher, model, _ = make("max_batch_size { value: 2 } batch_timeout_micros { value: 1000000 }")
    model.error = ServingError(Code.INVALID_ARGUMENT, "bad row")
    errors = [future.exception() for future in together(batcher, np.ones((1, 1)), np.ones((1, 1)))]
    assert [str(error) for error in errors] == ["INVALID_ARGUMENT: bad row"] * 2
    assert errors[0] is not errors[1]
    model.error = None
    assert ask(batcher, np.ones((2, 1))).tolist() == [[2.0], [2.0]]


def test_a_call_that_waited_past_its_deadline_is_not_run(make: Make) -> None:
    batcher, model, _ = make("max_batch_size { value: 1 } num_batch_threads { value: 1 }")
    model.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, batcher, np.ones((1, 1)))
        time.sleep(0.1)
        late = pool.submit(ask, batcher, np.ones((1, 1)), 0.05)
        time.sleep(0.2)
        model.gate.set()
        first.result(10)
        with pytest.raises(ServingError, match="timeout exceeded while waiting in batching queue") as refused:
            late.result(10)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert len(model.shapes) == 1


def test_outputs_that_are_not_rows_are_refused(make: Make) -> None:
    batcher, model, _ = make("max_batch_size { value: 2 }")
    model.__class__ = type("Scalar", (Model,), {"__call__": lambda *_: [np.float32(1).reshape(())]})
    with pytest.raises(ServingError, match="0th dimension does not equal"):
        ask(batcher, np.ones((1, 1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 8 } allowed_batch_sizes: [1, 4]", "Last entry in allowed_batch_sizes must match"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 1, 8]", "monotonically increasing"),
        ("max_batch_size { value: 0 }", "Expected max_batch_size of 1 or more. Received: 0"),
        ("batch_timeout_micros { value: -1 }", "Expected batch_timeout_micros of 0 or more. Received: -1"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(text: str, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        Batching.from_proto(text_format.Parse(text, BatchingParameters()), 2)


@given(st.lists(st.integers(1, 64), min_size=1, unique=True).map(sorted), st.integers(1, 64))
def test_rounding_gives_the_smallest_allowed_size_that_fits(sizes: list[int], rows: int) -> None:
    text = f"max_batch_size {{ value: {sizes[-1]} }} allowed_batch_sizes: {sizes}"
    rounded = Batching.from_proto(text_format.Parse(text, BatchingParameters()), 2).rounded(rows)
    fitting = [size for size in sizes if size >= rows]
    assert rounded == (fitting[0] if fitting else rows)


def test_more_callers_than_threads_never_wait_for_each_other(
    serve: Callable[..., Any], stub: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    """As many batches as TensorFlow has threads once deadlocked, each waiting for its model."""
    parameters = tmp_path / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 4 } num_batch_threads { value: 8 } max_enqueued_batches { value: 100 }"
    )
    server = serve(
        "--enable_batching",
        f"--batching_parameters_file={parameters}",
        "--grpc_max_threads=64",
        "--tensorflow_inter_op_parallelism=1",
    )
    predict = stub(server).Predict
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda _: predict(predict_request(), timeout=20), range(400)))
    assert len(replies) == 400


def test_a_version_with_its_own_parameters(
    serve: Callable[..., Any], stub: Callable[..., Any], store: pathlib.Path
) -> None:
    (store / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    predict = stub(serve("--enable_batching", "--enable_per_model_batching_parameters")).Predict
    with pytest.raises(grpc.RpcError) as refused:
        predict(predict_request(rows=3), timeout=60)
    assert refused.value.details() == "Task size 3 is larger than maximum input batch size 2"
    assert predict(predict_request(rows=2), timeout=60).outputs["probabilities"].tensor_shape.dim[0].size == 2
