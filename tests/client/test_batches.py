"""Any number of rows: split to the server's batch size, in order, and one bad row fails alone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from duoserve import InvalidInput, Pair, Prediction, RequestRejected, ServerUnavailable
from tests.client.conftest import encoded, photo
from tests.client.fake import Abort, FakeServer, texts

MakeClient = Callable[..., Any]


def rows(request: Any) -> int:
    return int(next(iter(request.inputs.values())).tensor_shape.dim[0].size)


@pytest.mark.parametrize("send", ["tensors", "bytes"])
@pytest.mark.parametrize("count", [1, 4, 5, 23])
def test_a_batch_answers_like_single_calls(make_client: MakeClient, server: FakeServer, send: str, count: int) -> None:
    client = make_client(server.address, label="stable", send=send, max_batch_size=4)
    pairs = [(encoded(photo(20 + i, 30, seed=i)), f"text {i}") for i in range(count)]
    found = client.predict_batch(pairs)
    requests = server.predictions("serving_bytes" if send == "bytes" else None)
    assert sorted(map(rows, requests), reverse=True) == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    assert len(found) == count and not found.errors
    for answer, (image, text) in zip(found, pairs, strict=True):
        alone = client.predict(image, text)
        assert answer.label == alone.label and answer.sent == send
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, rtol=1e-6)


def test_nothing_is_sent_for_no_rows(make_client: MakeClient, server: FakeServer) -> None:
    assert list(make_client(server.address).predict_batch([])) == []
    assert not server.calls


def test_pairs_tuples_and_generators(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    found = make_client(server.address).predict_batch(item for item in (Pair(jpeg, "x"), (jpeg, "y"), [jpeg, "z"]))
    assert len(found) == 3 and len(found[1:]) == 2 and isinstance(found[-1], Prediction)


def test_invalid_rows_fail_alone(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    bad = [(b"", "x"), (None, None), ("missing.jpg", "x"), jpeg, (jpeg, "x", "y"), (jpeg[:-100], "x"), None]
    found = make_client(server.address, max_batch_size=4).predict_batch([(jpeg, "a"), *bad, (jpeg, "b")])
    assert set(found.errors) == set(range(1, 8)) and len(found.outcomes) == 9
    assert found[0].version == found[8].version == 3
    for i in range(1, 8):
        with pytest.raises(InvalidInput, match="Expected"):
            found[i]
    with pytest.raises(InvalidInput):
        list(found)
    assert repr(found) == "BatchResult(9 rows, 7 errors)"


@pytest.mark.parametrize("bad", [{0}, {3, 4}, {7}, set(range(8))])
def test_rows_that_the_model_fails_on_fail_alone(make_client: MakeClient, server: FakeServer, bad: set[int]) -> None:
    def reject(request: Any, context: Any) -> None:
        for text in texts(request):
            if text.startswith(b"bad"):
                raise Abort(grpc.StatusCode.INVALID_ARGUMENT, "Unknown image file format.")

    server.on_predict = reject
    client = make_client(server.address, label="stable", send="bytes")
    pairs = [(encoded(photo(seed=i)), f"{'bad' if i in bad else 'good'} {i}") for i in range(8)]
    found = client.predict_batch(pairs)
    assert set(found.errors) == bad
    assert all(isinstance(error, RequestRejected) for error in found.errors.values())


def test_a_row_that_is_not_finite_fails_alone(
    make_client: MakeClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.client.fake import Version

    honest = Version.probabilities

    def broken(self: Version, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        found = honest(self, image, tokens)
        found[1, 0] = np.nan
        return found

    monkeypatch.setattr(Version, "probabilities", broken)
    found = make_client(server.address).predict_batch([(photo(), "x")] * 3)
    assert set(found.errors) == {1}


def test_a_smaller_limit_of_the_server_is_detected(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    def limit(request: Any, context: Any) -> None:
        if rows(request) > 8:
            size = rows(request)
            raise Abort(grpc.StatusCode.INVALID_ARGUMENT, f"Task size {size} is larger than maximum input batch size 8")

    server.on_predict = limit
    client = make_client(server.address, label="stable", max_batch_size=64)
    assert not client.predict_batch([(jpeg, str(i)) for i in range(40)]).errors
    server.calls.clear()
    assert not client.predict_batch([(jpeg, str(i)) for i in range(40)]).errors
    assert [rows(request) for request in server.predictions()] == [8] * 5


def test_a_model_that_fails_on_everything_is_not_asked_for_every_row(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    def broken(request: Any, context: Any) -> None:
        if request.model_spec.signature_name != "describe":
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "Could not find variable Variable.")

    server.on_predict = broken
    found = make_client(server.address, max_batch_size=16).predict_batch([(jpeg, "x")] * 32)
    assert len(found.errors) == 32
    assert len(server.predictions()) == 4, "each part twice: by label, and the version behind it"


def test_parts_that_fail_leave_the_others(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    def second_part(request: Any, context: Any) -> None:
        if any(b"lost" in text for text in texts(request)):
            raise Abort(grpc.StatusCode.UNAVAILABLE, "gone")

    server.on_predict = second_part
    client = make_client(server.address, send="bytes", max_batch_size=4)
    found = client.predict_batch([(jpeg, "lost" if 4 <= i < 8 else "fine") for i in range(12)])
    assert set(found.errors) == {4, 5, 6, 7}
    assert all(isinstance(error, ServerUnavailable) for error in found.errors.values())


def test_parts_run_side_by_side_but_only_a_few(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def count(request: Any, context: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    server.on_predict = count
    make_client(server.address, max_batch_size=1).predict_batch([(jpeg, str(i)) for i in range(20)])
    assert 2 <= most <= 4


def test_large_files_are_not_put_into_one_message(make_client: MakeClient, server: FakeServer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    from PIL import Image

    data = encoded(Image.fromarray(noise), "PNG")
    assert len(data) > 6 << 20
    found = make_client(server.address, send="bytes", version=1).predict_batch([(data, "x")] * 4)
    assert not found.errors
    assert [rows(request) for request in server.predictions("serving_bytes")] == [2, 2]


def test_the_error_of_a_row_says_what_was_expected(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    found = make_client(server.address).predict_batch([(jpeg, 5)])
    assert re.search("Expected text to be a str. Received: int", str(found.errors[0]))
