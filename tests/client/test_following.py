"""While a rollout changes how input is prepared, no answer is of another version's input, and no call fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from duoserve import (
    Client,
    ModelNotFound,
    PreprocessingSpec,
    Preprocessor,
    RequestRejected,
    SpecChanged,
)
from duoserve.results import Prediction
from tests.client.conftest import encoded, photo
from tests.client.fake import Abort, FakeServer, Restless, Version

MakeClient = Callable[..., Any]


def check(answer: Prediction, specs: dict[int, PreprocessingSpec], image: bytes, text: str) -> None:
    """The answer is what its version says to the input as that version wants it."""
    spec = specs[answer.version]
    preprocessor = Preprocessor(spec)
    probabilities = Version(spec).probabilities(preprocessor.image(image)[None], preprocessor.tokens(text)[None])[0]
    np.testing.assert_allclose(answer.probabilities, probabilities, rtol=1e-6)
    assert answer.labels == spec.labels and answer.label == spec.labels[int(probabilities.argmax())]


@pytest.fixture
def specs(spec1: PreprocessingSpec, spec2: PreprocessingSpec, spec3: PreprocessingSpec) -> dict[int, PreprocessingSpec]:
    return {1: spec1, 2: spec2, 3: spec3}


@pytest.mark.parametrize("after", [2, 3], ids=["other shapes", "same shapes, other tokenizer"])
@pytest.mark.parametrize("send", ["tensors", "bytes"])
def test_a_moved_label_is_followed(
    make_client: MakeClient,
    server: FakeServer,
    specs: dict[int, PreprocessingSpec],
    jpeg: bytes,
    after: int,
    send: str,
) -> None:
    client = make_client(server.address, label="stable", send=send)
    for version in (1, after, 1):
        server.labels["stable"] = version
        for _ in range(2):
            answer = client.predict(jpeg, "red heart")
            assert answer.version == version
            check(answer, specs, jpeg, "red heart")


def test_the_second_question_is_pinned_to_the_version_that_answered(server: FakeServer, jpeg: bytes) -> None:
    with Client(server.address, model="pairs", label="stable", send="tensors") as client:
        client.predict(jpeg, "x")
        server.labels["stable"] = 3
        server.calls.clear()
        client.predict(jpeg, "x")
        first, second = server.predictions()
        assert first.model_spec.version_label == "stable" and second.model_spec.version.value == 3
        server.calls.clear()
        client.predict(jpeg, "x")
        assert [call.model_spec.version_label for call in server.predictions()] == ["stable"]


def test_a_version_that_prepares_alike_costs_no_second_question(server: FakeServer, spec1: PreprocessingSpec) -> None:
    twin = PreprocessingSpec(16, 16, 8, spec1.tokenizer, spec1.labels, 4)
    server.versions[4] = Version(twin)
    with Client(server.address, model="pairs", label="stable", send="tensors") as client:
        client.predict(photo(), "x")
        server.labels["stable"] = 4
        server.calls.clear()
        assert client.predict(photo(), "x").version == 4
        assert len(server.predictions()) == 1
        assert client.describe().version == 4


def test_a_version_that_vanishes_between_the_questions(
    make_client: MakeClient, server: FakeServer, specs: dict[int, PreprocessingSpec], jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable")
    client.predict(jpeg, "x")
    server.labels["stable"] = 3

    def unload(request: Any, context: Any) -> None:
        if request.model_spec.version.value == 3:  # it answered, its spec is asked for, and it is gone
            server.labels["stable"] = 2
            server.versions.pop(3, None)

    server.on_predict = unload
    answer = client.predict(jpeg, "x")
    assert answer.version == 2
    check(answer, specs, jpeg, "x")


def test_a_rollback_removes_the_new_version(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable")
    server.labels["stable"] = 2
    assert client.predict(jpeg, "x").version == 2
    del server.versions[2]
    server.labels["stable"] = 1
    assert client.predict(jpeg, "x").version == 1


def test_a_label_whose_version_is_gone_for_a_moment(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable")
    client.predict(jpeg, "x")
    server.labels["stable"] = 9
    threading.Timer(0.15, lambda: server.labels.update(stable=3)).start()
    assert client.predict(jpeg, "x").version == 3


def test_a_missing_version_or_model_is_an_error_at_once(make_client: MakeClient, server: FakeServer) -> None:
    for options in ({"version": 9}, {"label": "nope"}, {"model": "nope"}):
        with pytest.raises(ModelNotFound):
            make_client(server.address, **options).predict(photo(), "x")
    assert len(server.calls) == 3


def test_a_rejected_first_describe_is_not_sent_again(make_client: MakeClient, server: FakeServer) -> None:
    def reject(request: Any, context: Any) -> None:
        raise Abort(grpc.StatusCode.INVALID_ARGUMENT, "key is broken")

    server.on_predict = reject
    with pytest.raises(RequestRejected, match="key is broken"):
        make_client(server.address, label="stable").embed(photo(), "x")
    assert len(server.calls) == 1


def test_versions_that_keep_changing_are_an_error_of_the_client(server: FakeServer) -> None:
    server.on_predict = Restless(server)
    with Client(server.address, model="pairs", label="stable", send="tensors") as client:
        with pytest.raises(SpecChanged, match="kept changing"):
            client.predict(photo(), "x")
        assert client.predict(photo(), "x").version == 3


def test_a_rejected_call_is_settled_by_asking_the_version_once_more(
    make_client: MakeClient, server: FakeServer
) -> None:
    client = make_client(server.address, label="stable", send="tensors")
    client.predict(photo(), "x")

    def reject(request: Any, context: Any) -> None:
        if request.model_spec.signature_name == "serving_default":
            raise Abort(grpc.StatusCode.INVALID_ARGUMENT, "indices[0,0] = 10 is not in [0, 10)")

    server.on_predict = reject
    server.calls.clear()
    with pytest.raises(RequestRejected, match="indices"):
        client.predict(photo(), "x")
    assert [call.model_spec.version.value for call in server.predictions()] == [0, 1]


def test_prepared_tensors_of_an_old_version_are_never_answered(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable")
    preprocessor = client.preprocessor()
    image, tokens = preprocessor.image(jpeg)[None], preprocessor.tokens("x")[None]
    server.labels["stable"] = 3
    with pytest.raises(SpecChanged, match="version 3"):
        client.predict_tensors(image, tokens, preprocessor)
    fresh = client.preprocessor()
    found = client.predict_tensors(fresh.image(jpeg)[None], fresh.tokens("x")[None], fresh)
    assert found.version == 3


def test_a_rollout_under_load(make_client: MakeClient, server: FakeServer, specs: dict[int, PreprocessingSpec]) -> None:
    """Labels move, versions come and go; every answer is right, no call fails."""
    images = [encoded(photo(40 + 7 * i, 60, seed=i)) for i in range(4)]
    client = make_client(server.address, label="stable")
    stop = threading.Event()
    seen: set[int] = set()

    def caller(worker: int) -> int:
        count = 0
        while not stop.is_set():
            image, text = images[(worker + count) % 4], f"red heart {count % 3}"
            if count % 5 == 4:
                for answer in client.predict_batch([(image, text)] * 3):
                    check(answer, specs, image, text)
            else:
                answer = client.predict(image, text)
                check(answer, specs, image, text)
            seen.add(answer.version)
            count += 1
        return count

    def rollout(to: int, spec: PreprocessingSpec) -> None:
        old = server.labels["stable"]
        server.versions[to] = Version(spec)
        time.sleep(0.05)
        server.labels["stable"] = to
        time.sleep(0.1)
        del server.versions[old]
        time.sleep(0.05)

    with ThreadPoolExecutor(6) as pool:
        callers = [pool.submit(caller, worker) for worker in range(6)]
        try:
            for _ in range(3):
                for to in (2, 3, 1):
                    rollout(to, specs[to])
        finally:
            stop.set()
        assert sum(future.result() for future in callers) > 20
    assert seen == {1, 2, 3}


def test_replicas_that_move_at_different_times(
    make_client: MakeClient, specs: dict[int, PreprocessingSpec], jpeg: bytes
) -> None:
    """For a while one replica's label is on the new version and the other's is not; one lacks the new version."""
    with (
        FakeServer(Version(specs[1]), Version(specs[2]), labels={"stable": 2}) as new,
        FakeServer(Version(specs[1]), labels={"stable": 1}) as old,
    ):
        client = make_client([new.address, old.address], label="stable")
        seen = set()
        for _ in range(20):
            answer = client.predict(jpeg, "x")
            check(answer, specs, jpeg, "x")
            seen.add(answer.version)
        assert seen <= {1, 2}, "which of them depends on whose turn it is; right are all"
