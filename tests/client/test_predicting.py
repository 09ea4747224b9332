"""One call: image and text in, a typed answer out, whichever way they are sent, from either client."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import inspect
import logging
import pickle
import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

import duoserve
from duoserve import (
    AsyncClient,
    BadReply,
    Client,
    ClientClosed,
    DuoserveError,
    InvalidInput,
    MessageTooLarge,
    ModelNotFound,
    PermissionDenied,
    PreprocessingSpec,
    Preprocessor,
    RequestRejected,
    ServerBusy,
    ServerUnavailable,
    UnsupportedModel,
)
from duoserve._calls.inputs import FEW
from duoserve._calls.version_follower import _all_finite
from tests.client.conftest import encoded, photo
from tests.client.fake import Abort, FakeServer, Version

MakeClient = Callable[..., Any]


def expected(spec: PreprocessingSpec, image: bytes, text: str) -> np.ndarray:
    preprocessor = Preprocessor(spec)
    return Version(spec).probabilities(preprocessor.image(image)[None], preprocessor.tokens(text)[None])[0]


@pytest.mark.parametrize("send", ["tensors", "bytes", "auto"])
def test_the_answer_is_the_models(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec, jpeg: bytes, send: str
) -> None:
    answer = make_client(server.address, label="stable", send=send).predict(jpeg, "red heart")
    probabilities = expected(spec1, jpeg, "red heart")
    np.testing.assert_allclose(answer.probabilities, probabilities, rtol=1e-6)
    assert answer.labels == spec1.labels and answer.label == spec1.labels[int(probabilities.argmax())]
    assert answer.probability == pytest.approx(float(probabilities.max()))
    assert answer.version == 1 and answer.target == "stable"
    assert answer.sent == ("bytes" if send == "bytes" else "tensors")


def test_top_is_sorted_and_stops_at_the_number_of_classes(server: FakeServer, jpeg: bytes) -> None:
    with Client(server.address, model="pairs") as client:
        answer = client.predict(jpeg, "x")
    scores = [scored.probability for scored in answer.top(10)]
    assert len(scores) == len(answer.labels) and scores == sorted(scores, reverse=True)
    assert answer.top(1)[0] == (answer.label, answer.probability) and answer.top(0) == ()


def test_answers_can_not_be_changed(server: FakeServer, jpeg: bytes) -> None:
    with Client(server.address, model="pairs") as client:
        answer = client.predict(jpeg, "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.label = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        answer.probabilities[0] = 1


@pytest.mark.parametrize(("options", "version"), [({"label": "canary"}, 2), ({"version": 1}, 1), ({}, 3)])
def test_label_version_or_the_latest(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, options: dict[str, Any], version: int
) -> None:
    assert make_client(server.address, **options).predict(jpeg, "x").version == version


def test_auto_sends_what_is_smaller_and_says_which(make_client: MakeClient, server: FakeServer) -> None:
    client = make_client(server.address, version=1)
    small, large = encoded(photo(8, 8).quantize(4), "PNG"), encoded(photo(300, 300))
    assert len(small) < 16 * 16 * 3 < len(large)
    assert client.predict(small, "x").sent == "bytes"
    assert client.predict(large, "x").sent == "tensors"
    assert client.predict(photo(), "x").sent == "tensors"


def test_auto_sends_pixels_of_what_an_older_graph_may_not_read(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec
) -> None:
    small = encoded(photo(8, 8), "WEBP")
    assert make_client(server.address, version=1).predict(small, "x").sent == "tensors"
    server.versions[6] = Version(dataclasses.replace(spec1, version=6, background=(255, 255, 255)))
    assert make_client(server.address, version=6).predict(small, "x").sent == "bytes"


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_refused(make_client: MakeClient, server: FakeServer, jpeg: bytes, text: str) -> None:
    with pytest.raises(InvalidInput, match="Expected text to have visible characters"):
        make_client(server.address, version=1).predict(jpeg, text)
    assert not server.predictions()


def test_a_client_asks_for_the_spec_once(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable")
    for _ in range(5):
        client.predict(jpeg, "x")
    assert len(server.predictions("describe")) == 1 and len(server.predictions()) == 5


def test_prepared_tensors_are_predicted(
    make_client: MakeClient, server: FakeServer, spec1: PreprocessingSpec, jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable")
    preprocessor = client.preprocessor()
    image, tokens = preprocessor.image(jpeg), preprocessor.tokens("red heart")
    found = client.predict_tensors(np.stack([image] * 3), np.stack([tokens] * 3), preprocessor)
    assert found.version == 1 and found.labels == spec1.labels
    np.testing.assert_allclose(found.probabilities, [expected(spec1, jpeg, "red heart")] * 3, rtol=1e-6)


def test_any_signature_with_any_tensors(make_client: MakeClient, server: FakeServer) -> None:
    found = make_client(server.address, version=2).run("describe", {"key": np.array(["a", b"b"], object)})
    assert found.version == 2 and list(found.tensors) == ["spec"] and len(found.tensors["spec"]) == 2


def test_describe_status_and_signatures(make_client: MakeClient, server: FakeServer, spec2: PreprocessingSpec) -> None:
    client = make_client(server.address, label="canary")
    assert client.describe() == spec2
    assert [(item.version, item.state, item.error) for item in client.status()] == [
        (3, "AVAILABLE", ""),
        (2, "AVAILABLE", ""),
        (1, "AVAILABLE", ""),
    ]
    served, promised = client.signatures(), duoserve.contract.signatures(spec2)
    assert served.keys() == promised.keys()
    for name, signature in promised.items():
        assert set(served[name].inputs) == set(signature.inputs)
        assert set(served[name].outputs) == set(signature.outputs)


WRONG_INPUT = {
    "image of no kind": (lambda client, jpeg: client.predict(7, "x"), "image"),
    "missing file": (lambda client, jpeg: client.predict(Path("missing.jpg"), "x"), "image"),
    "text of no kind": (lambda client, jpeg: client.predict(jpeg, b"x"), "text"),
    "lone surrogate": (lambda client, jpeg: client.predict(jpeg, "\udc00"), "text"),
    "endless timeout": (lambda client, jpeg: client.predict(jpeg, "x", timeout=float("inf")), "timeout"),
    "no time": (lambda client, jpeg: client.predict(jpeg, "x", timeout=0), "timeout"),
    "metadata in upper case": (lambda client, jpeg: client.predict(jpeg, "x", metadata=[("Key", "v")]), "metadata"),
    "metadata that is not ascii": (lambda client, jpeg: client.predict(jpeg, "x", metadata=[("k", "ü")]), "metadata"),
    "no timeout": (lambda client, jpeg: client.predict(jpeg, "x", timeout="5"), "timeout"),
}


@pytest.mark.parametrize(("call", "named"), WRONG_INPUT.values(), ids=WRONG_INPUT.keys())
def test_wrong_input_is_refused_before_the_wire(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, call: Any, named: str
) -> None:
    client = make_client(server.address)
    with pytest.raises(InvalidInput, match=f"Expected.*{named}.*Received"):
        call(client, jpeg)
    assert not server.calls


def test_pixels_can_not_be_sent_as_bytes(make_client: MakeClient, server: FakeServer) -> None:
    with pytest.raises(InvalidInput, match="encoded image"):
        make_client(server.address, send="bytes").predict(photo(), "x")
    assert not server.predictions("serving_bytes") and not server.predictions()


GOOD_IMAGE, GOOD_TOKENS = np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 8), np.int32)
MANY_IMAGES = np.zeros((100, 16, 16, 3), np.uint8)


def one_of_many(value: int) -> np.ndarray:
    tokens = np.zeros((100, 8), np.int32)
    tokens[50, 3] = value
    return tokens


WRONG_TENSORS = {
    "float pixels": (GOOD_IMAGE.astype(np.float32), GOOD_TOKENS, "image to be uint8"),
    "other size": (np.zeros((2, 16, 8, 3), np.uint8), GOOD_TOKENS, r"\(batch, 16, 16, 3\)"),
    "no batch": (GOOD_IMAGE[0], GOOD_TOKENS, r"\(16, 16, 3\)"),
    "int64 tokens": (GOOD_IMAGE, GOOD_TOKENS.astype(np.int64), "tokens to be int32"),
    "other length": (GOOD_IMAGE, GOOD_TOKENS[:, :5], r"\(batch, 8\)"),
    "rows differ": (GOOD_IMAGE, GOOD_TOKENS[:1], "as many rows"),
    "no rows": (GOOD_IMAGE[:0], GOOD_TOKENS[:0], "at least one row"),
    "list": (GOOD_IMAGE.tolist(), GOOD_TOKENS, "list"),
    "negative token": (GOOD_IMAGE, GOOD_TOKENS - 1, "-1 to -1"),
    "token out of the vocabulary": (GOOD_IMAGE, GOOD_TOKENS + 100_000, "100000"),
    # Many tokens are looked through in another way than few.
    "a negative one of many": (MANY_IMAGES, one_of_many(-1), "-1 to 0"),
    "one of many out of the vocabulary": (MANY_IMAGES, one_of_many(100_000), "0 to 100000"),
}


@pytest.mark.parametrize(("image", "tokens", "named"), WRONG_TENSORS.values(), ids=WRONG_TENSORS.keys())
def test_wrong_tensors_are_refused_before_the_wire(
    make_client: MakeClient, server: FakeServer, image: Any, tokens: Any, named: str
) -> None:
    client = make_client(server.address, label="stable")
    preprocessor = client.preprocessor()
    with pytest.raises(InvalidInput, match=named):
        client.predict_tensors(image, tokens, preprocessor)
    assert not server.predictions()


WRONG_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model"),
    ({"label": "a", "version": 1}, "label or a version"),
    ({"label": ""}, "label"),
    ({"version": 0}, "version"),
    ({"version": True}, "version"),
    ({"timeout": None}, "timeout"),
    ({"timeout": float("nan")}, "timeout"),
    ({"send": "json"}, "send"),
    ({"max_batch_size": 0}, "max_batch_size"),
    ({"address": "localhost"}, "host:port"),
    ({"address": "localhost:0"}, "host:port"),
    ({"address": "http://localhost:8500"}, "host:port"),
    ({"address": "::1:8500"}, "host:port"),
    ({"address": []}, "host:port"),
    ({"address": ["a:1", "dns:///b:1"]}, "host:port"),
    ({"address": None}, "address or a channel"),
    ({"metadata": [("k", 1)]}, "metadata"),
    ({"address": "far.example:8500", "token": lambda: "secret"}, "tls"),
]


@pytest.mark.parametrize(("options", "named"), WRONG_OPTIONS, ids=lambda value: None)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_wrong_options_are_refused_at_once(kind: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        kind(**{"address": "localhost:8500", "model": "pairs", **options})


@pytest.mark.parametrize("make", [lambda: duoserve.Retry(attempts=9), lambda: duoserve.TLS(cert="a")])
def test_options_are_checked_when_they_are_made(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput, match=r"Expected.*Received"):
        make()


STATUS = grpc.StatusCode
MEANINGS = [
    (STATUS.NOT_FOUND, "Servable not found for request: Latest(pairs)", ModelNotFound),
    (STATUS.INVALID_ARGUMENT, "Unrecognized servable version label: stable", ModelNotFound),
    (STATUS.INVALID_ARGUMENT, "indices[0,0] = 10 is not in [0, 10)", RequestRejected),
    (STATUS.FAILED_PRECONDITION, "Could not find variable Variable.", RequestRejected),
    (STATUS.FAILED_PRECONDITION, 'Serving signature key "serving_default" not found.', UnsupportedModel),
    (STATUS.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full", ServerBusy),
    (STATUS.UNAVAILABLE, "anything", ServerUnavailable),
    (STATUS.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted", ServerBusy),
    (STATUS.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue", ServerBusy),
    (STATUS.RESOURCE_EXHAUSTED, "Received message larger than max (8000046 vs. 4194304)", MessageTooLarge),
    (STATUS.PERMISSION_DENIED, "no", PermissionDenied),
    (STATUS.UNAUTHENTICATED, "who?", PermissionDenied),
    (STATUS.UNIMPLEMENTED, "", RequestRejected),
    (STATUS.INTERNAL, "a bug", RequestRejected),
    (STATUS.INTERNAL, "Received RST_STREAM with error code 2", ServerUnavailable),
    (STATUS.UNKNOWN, "Stream removed", ServerUnavailable),
]


@pytest.mark.parametrize(("code", "details", "kind"), MEANINGS, ids=lambda value: getattr(value, "name", None))
def test_every_status_has_its_error_and_says_where(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, code: grpc.StatusCode, details: str, kind: type
) -> None:
    client = make_client(server.address, label="stable", retry=duoserve.Retry(attempts=1))
    client.predict(jpeg, "x")

    def fail(request: Any, context: Any) -> None:
        raise Abort(code, details)

    server.on_predict = fail
    with pytest.raises(DuoserveError) as caught:
        client.predict(jpeg, "x")
    error = caught.value
    assert type(error) is kind and error.code == code.name and error.model == "pairs" and error.server == server.address
    assert error.retryable == issubclass(kind, ServerUnavailable) and isinstance(error.__cause__, grpc.RpcError)
    assert "Expected" in str(error) and (details or code.name) in str(error) and "label stable" in str(error)


@pytest.mark.parametrize("details", ["x" * 5000, "first line\nsecond line with user data"])
def test_a_long_message_of_the_graph_is_cut(server: FakeServer, jpeg: bytes, details: str) -> None:
    def fail(request: Any, context: Any) -> None:
        raise Abort(STATUS.INVALID_ARGUMENT, details)

    server.on_predict = fail
    with Client(server.address, model="pairs", version=1) as client, pytest.raises(RequestRejected) as caught:
        client.predict(jpeg, "x")
    assert len(str(caught.value)) < 500 and "user data" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 10, FEW, FEW + 1, 5000])
def test_one_number_that_is_not_finite_is_seen(count: int) -> None:
    for value, finite in [(0.5, True), (3e38, True), (-3e38, True), (np.nan, False), (np.inf, False), (-np.inf, False)]:
        values = np.full((1, count), 3e38 if finite else 0.1, np.float32)
        values[0, count // 2] = value
        assert _all_finite(values) is finite
    assert not _all_finite(np.array([[np.inf, -np.inf] * count], np.float32))


@pytest.mark.parametrize("edit", ["rows", "nan", "missing", "double", "empty", "version"])
def test_replies_against_the_contract_are_refused(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, edit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = FakeServer._answer

    def dishonest(self: FakeServer, request: Any, version: Version) -> bytes:
        data = honest(self, request, version)
        if request.model_spec.signature_name == "describe":
            return data
        reply = duoserve._wire.wire_pb2.PredictResponse.FromString(data)
        tensor = reply.outputs["probabilities"]
        if edit == "rows":
            tensor.tensor_shape.dim[0].size = 2
        elif edit == "nan":
            tensor.float_val[0] = float("nan")
        elif edit == "missing":
            del reply.outputs["probabilities"]
            reply.outputs["other"].dtype = 1
        elif edit == "double":
            tensor.dtype = 2
        elif edit == "version":
            reply.ClearField("model_spec")
        return b"" if edit == "empty" else bytes(reply.SerializeToString())

    monkeypatch.setattr(FakeServer, "_answer", dishonest)
    with pytest.raises(BadReply, match=r"Expected.*Received"):
        make_client(server.address, label="stable", send="tensors").predict(jpeg, "x")


def test_a_model_that_does_not_describe_itself_is_named(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreprocessingSpec, "to_json", lambda self: "{}")
    with pytest.raises(UnsupportedModel, match="PreprocessingSpec"):
        make_client(server.address, label="stable").predict(jpeg, "x")


def test_a_tokenizer_that_can_not_be_loaded_is_the_models_fault(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    server.versions[4] = Version(PreprocessingSpec(16, 16, 8, b"no tokenizer", ("a",), 4))
    with pytest.raises(UnsupportedModel, match="SentencePiece"):
        make_client(server.address, version=4).predict(jpeg, "x")


def test_a_closed_client_raises_client_closed(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address)
    client.predict(jpeg, "x")
    client.close()
    with pytest.raises(ClientClosed):
        client.predict(jpeg, "x")
    client.close()


def test_errors_survive_pickling() -> None:
    error = ModelNotFound("Expected a model.", server="a:1", model="pairs", version=3, code="NOT_FOUND")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ModelNotFound and str(copy) == str(error) and copy.__dict__ == error.__dict__


def test_metadata_is_sent_along(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    seen: list[dict[str, str]] = []
    server.on_predict = lambda request, context: seen.append(dict(context.invocation_metadata()))
    client = make_client(server.address, metadata=[("team", "vision")], token=lambda: "secret")
    client.predict(jpeg, "x", metadata=[("call", "7")])
    assert seen
    for metadata in seen:
        assert metadata["team"] == "vision" and metadata["call"] == "7"
        assert metadata["authorization"] == "Bearer secret"


def test_the_log_has_one_line_per_call_and_no_user_data(
    server: FakeServer, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "duoserve"), Client(server.address, model="pairs", label="stable") as client:
        client.predict(jpeg, "my private text")
        with pytest.raises(InvalidInput):
            client.predict(b"", "my private text")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("duoserve")]
    assert len(lines) == 2 and "my private text" not in caplog.text
    assert "version=1" in lines[0] and "outcome=OK" in lines[0] and "outcome=InvalidInput" in lines[1]


def test_the_public_surface_is_sorted_documented_and_complete() -> None:
    names = duoserve.__all__
    assert names == sorted(names, key=lambda name: (name.upper() != name, name))
    for name in names:
        assert getattr(duoserve, name).__doc__


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_methods_can_be_inspected_and_pickled(kind: type) -> None:
    for name in ("predict", "predict_batch", "embed", "embed_batch", "explain", "predict_tensors", "run", "status"):
        method = getattr(kind, name)
        assert method.__qualname__ == f"{kind.__name__}.{name}" and method.__code__.co_name == name
        assert pickle.loads(pickle.dumps(method)) is method is inspect.unwrap(method)
        assert typing.get_type_hints(method).keys() == inspect.signature(method).parameters.keys() - {"self"} | {
            "return"
        }
        assert inspect.signature(method).return_annotation == typing.get_type_hints(method)["return"]
    hints = typing.get_type_hints(kind.predict)
    assert hints["return"] is duoserve.Prediction and Image.Image in typing.get_args(hints["image"])


def test_a_wrong_argument_names_the_method_of_the_client() -> None:
    with Client("localhost:1", model="pairs") as client:
        with pytest.raises(TypeError, match=r"^Client\.predict\(\) got an unexpected keyword argument 'txt'"):
            client.predict(txt="x")
        with pytest.raises(TypeError, match=r"^Client\.run\(\) missing 2 required positional arguments"):
            client.run()


def test_a_closed_client_leaves_no_resource_open(server: FakeServer) -> None:
    async def use() -> None:
        async with AsyncClient(server.address, model="pairs") as client:
            await client.predict(photo(), "x")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
        caught.clear()  # of other tests
        with Client(server.address, model="pairs") as client:
            client.predict(photo(), "x")
        del client
        asyncio.run(use())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_an_invalid_token_is_refused_and_not_shown(make_client: MakeClient, server: FakeServer) -> None:
    with pytest.raises(InvalidInput, match="authorization") as caught:
        make_client(server.address, token=lambda: "secret\n").predict(photo(), "x")
    assert "secret" not in str(caught.value) and not server.calls
