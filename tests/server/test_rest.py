"""REST: numbers, strings and base64 arrive as tensors, and the errors are the stock server's."""

from __future__ import annotations

import base64
import gzip
import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2

from serving.local.errors import Code, ServingError
from serving.local.rest import bodies, json_text, replies
from serving.local.tensors import fill_proto, to_array
from serving.local.testing import LocalServer


def infos(**dtypes: str) -> dict[str, meta_graph_pb2.TensorInfo]:
    return {name: meta_graph_pb2.TensorInfo(dtype=f"DT_{dtype}") for name, dtype in dtypes.items()}


def tensors(body: Any, **dtypes: str) -> dict[str, np.ndarray]:
    request = predict_pb2.PredictRequest()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    bodies.fill_predict(data, lambda _: infos(**dtypes), request)
    return {name: to_array(proto) for name, proto in request.inputs.items()}


def reply(by_rows: bool, **outputs: Any) -> Any:
    response = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        array = np.asarray(value)
        array = np.asarray(value, dtype=object) if array.dtype.kind == "S" else array
        fill_proto(array, response.outputs[name], as_content=False)
    return json.loads(replies.predict_reply(response, by_rows=by_rows))


def refusal(body: Any, **dtypes: str) -> str:
    with pytest.raises(ServingError) as error:
        tensors(body, **dtypes)
    assert error.value.code is Code.INVALID_ARGUMENT
    return error.value.message


def test_rows_and_columns_give_the_same_tensors() -> None:
    rows = tensors({"instances": [{"a": [1, 2], "b": "x"}, {"a": [3, 4], "b": "y"}]}, a="INT32", b="STRING")
    columns = tensors({"inputs": {"a": [[1, 2], [3, 4]], "b": ["x", "y"]}}, a="INT32", b="STRING")
    for name in ("a", "b"):
        np.testing.assert_array_equal(rows[name], columns[name])
    assert rows["a"].dtype == np.int32
    assert rows["b"].tolist() == [b"x", b"y"]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("FLOAT", 1, 1.0),
        ("FLOAT", 2**25 + 1, 2**25),
        ("FLOAT", 1e39, math.inf),
        ("FLOAT", 10**20, np.float32(1e20)),
        ("DOUBLE", math.nan, math.nan),
        ("FLOAT", 0.1, np.float32(0.1)),
        ("DOUBLE", 0.1, 0.1),
        ("UINT8", 255, 255),
        ("UINT8", 300, 44),
        ("INT8", -1, -1),
        ("INT64", -(2**63), -(2**63)),
        ("UINT64", 2**64 - 1, 2**64 - 1),
        ("UINT32", 2**32 - 1, 2**32 - 1),
        ("BOOL", True, True),
        ("STRING", "äöü", "äöü".encode()),
        ("STRING", {"b64": base64.b64encode(b"\0\xff").decode()}, b"\0\xff"),
        ("STRING", {"b64": "AP8"}, b"\0\xff"),
    ],
)
def test_every_dtype_takes_its_values(dtype: str, value: Any, expected: Any) -> None:
    for body in ({"instances": [value]}, {"inputs": [value]}):
        np.testing.assert_array_equal(tensors(body, x=dtype)["x"], [expected])


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("INT32", 1.5, "JSON Value: 1.5 is not of expected type: int32"),
        ("INT32", "1", 'JSON Value: "1" is not of expected type: int32'),
        ("INT32", True, "JSON Value: true is not of expected type: int32"),
        ("INT32", 2**31, "JSON Value: 2147483648 is not of expected type: int32"),
        ("UINT32", -1, "JSON Value: -1 is not of expected type: uint32"),
        ("FLOAT", None, "JSON Value: null is not of expected type: float"),
        ("INT64", 2**64, "JSON Value: 18446744073709551616 is not of expected type: int64"),
        ("STRING", 1, "JSON Value: 1 is not a string or formatted as base64 data"),
        ("BOOL", 1, "JSON Value: 1 is not of expected type: bool"),
        ("UINT8", {"b64": "AA=="}, 'JSON Value: {\n    "b64": "AA=="\n} is not of expected type: uint8'),
        ("STRING", {"b64": "?"}, "Unable to base64 decode"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(dtype: str, value: Any, message: str) -> None:
    for body in ({"inputs": value}, {"instances": [value]}, {"instances": [{"x": value}]}):
        assert refusal(body, x=dtype) == f"Failed to process input: x. Error: {message}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"instances": [[1], [1, 2]]}, "Expected lists of one size. Received: different ones at level 1"),
        ({"instances": [[[1, 2]], [[1], [2]]]}, "Expected lists of one size. Received: different ones at level 1"),
        ({"instances": [1, {"x": 1}]}, 'JSON Value: {\n    "x": 1\n} is not of expected type: int32'),
        ({"instances": [{"x": 1}, 1]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [{"y": 1}]}, ("Failed to process element: 0 key: y of 'instances' list. Error: "
         "INVALID_ARGUMENT: JSON object: does not have named input: y")),
        ({"instances": {"x": 1}}, "Expected a list as 'instances'. Received: {\n    \"x\": 1\n}"),
        ({"inputs": [[1, 2], [3]]}, "Expected lists of one size. Received: different ones at level 1"),
        ({"inputs": [1, [2]]}, "Expected lists of one size. Received: different ones at level 1"),
        ({"inputs": [[1], 2]}, "Expected lists of one size. Received: different ones at level 1"),
        ({"inputs": [[[1], [2]], [[3], 4]]}, "Expected lists of one size. Received: different ones at level 2"),
        ({"inputs": {"z": 1}}, "Missing named input: x in 'inputs' object."),
        ({"signature_name": 1, "inputs": 1}, "Expected a string as 'signature_name'. Received: 1"),
        ({}, "Missing 'inputs' or 'instances' key"),
        (b"1", "JSON Value: 1 Is not object"),
        (b"[1]", "JSON Value: [1] Is not object"),
    ],
)  # fmt: skip
def test_a_body_of_the_wrong_form_is_refused(body: Any, message: str) -> None:
    assert refusal(body, x="INT32").removeprefix("Failed to process input: x. Error: ") == message


_NESTED = st.recursive(st.integers(0, 9) | st.booleans() | st.none() | st.text(max_size=2), st.lists, max_leaves=8)


@given(_NESTED)
def test_any_nesting_is_a_tensor_or_is_refused(value: Any) -> None:
    try:
        array = tensors({"inputs": value}, x="INT32")["x"]
    except ServingError as error:
        assert error.code is Code.INVALID_ARGUMENT
    else:
        assert array.tolist() == value


def test_plain_lists_need_a_single_input() -> None:
    for key in ("instances", "inputs"):
        assert "multiple input tensors required" in refusal({key: [1]}, a="INT32", b="INT32")


@pytest.mark.parametrize(
    "text",
    [
        "{", '{"a"', '{"a": }', '{"a": 1', '{"a": [1', '{"a": [1,]}', '{"a": "x', '{"a": "\\q"}', "  ", "nope", "\0{}",
        '{"a": 1.}', '{"a": 01}', '{"a": tru}', '{"a": ?}', '{"a": -x}', '{"a": "\0"}', "{/* no */}", "{'a': 1}", "",
        '{"a": 1e400}', '{"a": -1e400}', '{"a": 1' + "0" * 400 + "}", '{"a": 1' + "0" * 5000 + "}", '{"a": Infx}',
        '{"a": "\\ud800"}', '{"a": "\\udc00"}', '{"a": "\\ud800x"}', '{"\\udc00\\ud800": 1}', '{"a": "\\udc80"}',
    ],
)  # fmt: skip
def test_broken_json_is_refused(text: str) -> None:
    assert refusal(text.encode(), x="INT32").startswith("JSON Parse error: ")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'\xef\xbb\xbf{"inputs": ["x"]}', [b"x"]),
        (b' \t\r\n{"inputs": ["x"]}\0', [b"x"]),
        (b'{"inputs": ["x"]} } "\\ud800 1e400 \xff', [b"x"]),
        (b'{"inputs": ["caf\xe9"]}', [b"caf\xe9"]),
        (b'{"inputs": ["\xed\xa0\x80"]}', [b"\xed\xa0\x80"]),
        (rb'{"inputs": ["\ud83d\ude00", "\\ud800", "\u0000"]}', ["\N{GRINNING FACE}".encode(), rb"\ud800", b"\0"]),
        (b'{"inputs": ["first"], "inputs": 1}', [b"first"]),
        (b'{"inputs": ["x"], "y": [NaN, Infinity, -Infinity, 1e-400]}', [b"x"]),
        (b'{"y": [Inf, -Inf, -NaN, "\\"Inf"], "inputs": ["-NaN\\"Inf"]}', [b'-NaN"Inf']),
    ],
)
def test_json_at_its_edges_is_read_as_the_stock_server_reads_it(body: bytes, expected: list[bytes]) -> None:
    assert tensors(body, x="STRING")["x"].tolist() == expected


def test_a_key_given_twice() -> None:
    assert tensors(b'{"instances": [{"x": 1, "x": 2}]}', x="INT32")["x"].tolist() == [1]
    assert tensors(b'{"inputs": {"x": [1], "x": [2]}}', x="INT32")["x"].tolist() == [1]


def test_deep_json_is_refused() -> None:
    with pytest.raises(RecursionError):
        json_text.parse(b'{"inputs": ' + b"[" * 100_000)


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        json_text.parse(data)
    except ServingError as error:
        assert error.code is Code.INVALID_ARGUMENT


@given(st.floats(width=32))
def test_a_float_is_written_so_that_it_reads_back_exactly(value: float) -> None:
    written = reply(True, y=np.float32([value]))["predictions"][0]
    np.testing.assert_array_equal(np.float32(written), np.float32(value))


_PLAIN = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_quoted_values_in_errors_are_json(value: Any) -> None:
    text = json_text.dump(value)
    assert len(text) >= 256 or json.loads(text) == value


def test_an_error_does_not_quote_a_whole_image() -> None:
    assert len(json_text.dump([[255] * 224] * 224)) < 300


def test_replies_have_the_form_of_their_request() -> None:
    assert reply(True, y=[[1.5, 2.0], [3.0, 4.0]]) == {"predictions": [[1.5, 2.0], [3.0, 4.0]]}
    assert reply(False, y=[[1.5, 2.0], [3.0, 4.0]]) == {"outputs": [[1.5, 2.0], [3.0, 4.0]]}
    assert reply(True, a=[1, 2], b=[[b"x"], [b"y"]]) == {"predictions": [{"a": 1, "b": ["x"]}, {"a": 2, "b": ["y"]}]}
    assert reply(False, a=[1, 2], b=[True, False]) == {"outputs": {"a": [1, 2], "b": [True, False]}}


def test_outputs_named_bytes_are_base64() -> None:
    assert reply(True, image_bytes=[b"\0\xff"]) == {"predictions": [{"b64": "AP8="}]}
    assert reply(False, image_bytes=b"\0\xff") == {"outputs": {"b64": "AP8="}}


def test_outputs_that_are_empty() -> None:
    assert reply(True, y=np.zeros((0, 2), np.float32)) == {"predictions": []}
    assert reply(False, y=np.zeros((2, 0), np.int64)) == {"outputs": [[], []]}


@pytest.mark.parametrize("dtype", [np.uint16, np.float16, np.complex64])
def test_outputs_without_a_form_in_json_are_refused(dtype: type) -> None:
    with pytest.raises(ServingError, match="Failed to write JSON value for tensor type: "):
        reply(True, y=np.zeros(1, dtype))


@pytest.mark.parametrize("outputs", [{"y": 1.0}, {"a": [1, 2], "b": [1]}])
def test_rows_need_a_batch_in_every_output(outputs: dict[str, Any]) -> None:
    with pytest.raises(ServingError, match="Expected a row for each instance in every output"):
        reply(True, **outputs)


def test_examples_take_every_kind_of_feature() -> None:
    request = classification_pb2.ClassificationRequest()
    body = {"context": {"c": 1}, "examples": [{"f": [1.5], "i": 3, "s": "t", "b": {"b64": "AA=="}, "t": True, "e": []}]}
    bodies.fill_examples(json.dumps(body).encode(), request)
    features = request.input.example_list_with_context.examples[0].features.feature
    assert features["f"].float_list.value[:] == [1.5]
    assert features["i"].int64_list.value[:] == [3]
    assert features["s"].bytes_list.value[:] == [b"t"]
    assert features["b"].bytes_list.value[:] == [b"\0"]
    assert features["t"].int64_list.value[:] == [1]
    assert features["e"].WhichOneof("kind") is None
    assert request.input.example_list_with_context.context.features.feature["c"].int64_list.value[:] == [1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Expected a list of one or more as 'examples'. Received: null"),
        ({"examples": []}, "Expected a list of one or more as 'examples'. Received: []"),
        ({"examples": [1]}, "Example must be JSON object but got JSON 1"),
        ({"examples": [{"x": None}]}, "Expected strings, integers or floats in feature: x. Received: null"),
        ({"examples": [{"x": [1.5, "a"]}]}, 'Expected strings, integers or floats in feature: x. Received: [1.5, "a"]'),
        ({"examples": [{"x": {"y": 1}}]}, 'JSON Value: {\n    "y": 1\n} is not a string or formatted as base64 data'),
        ({"examples": [{"x": 1 << 63}]}, "Feature: x has an integer beyond 64 bits"),
    ],
)
def test_examples_of_the_wrong_form_are_refused(body: Any, message: str) -> None:
    with pytest.raises(ServingError) as error:
        bodies.fill_examples(json.dumps(body).encode(), classification_pb2.ClassificationRequest())
    assert error.value.message == message


@pytest.fixture(scope="module")
def rest(pair_models: Any) -> Iterator[str]:
    flags = ("--model_name=pair", f"--model_base_path={pair_models}", "--rest_api_enable_cors_support")
    with LocalServer(*flags, rest=True) as server:
        yield server.rest_url


def fetch(url: str, data: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


GOOD = json.dumps({"signature_name": "describe_rows", "instances": [{"key": ""}]}).encode()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/pair:predict", 200),
        ("POST", "/V1/Models/pair:predict", 200),
        ("POST", "/v1/models/pair:PREDICT", 400),
        ("POST", "/v1/models/pair:Classify", 400),
        ("POST", "/v1/MODELS/pair/VERSIONS/3:predict", 200),
        ("POST", "/v1/models/pair:predict?x=1", 400),
        ("POST", "/v1/models/pair?x=1:predict", 404),
        ("POST", "/v1/models/pair/versions/3?x=1:predict", 400),
        ("POST", "/v1/models:predict", 400),
        ("POST", "/v1/models/pair/versions/3:predict", 200),
        ("POST", "/v1/models/pair/versions/1:predict", 404),
        ("POST", "/v1/models/pair/labels/nope:predict", 400),
        ("POST", "/v1/models/pa%69r:predict", 200),
        ("POST", "/v1/models/pair/versions/99999999999999999999:predict", 400),
        ("POST", "/v1/models/pair", 400),
        ("PUT", "/v1/models/pair:predict", 400),
        ("GET", "/v1/models", 400),
        ("GET", "/v1/models/pair/versions/3/metadata", 200),
        ("GET", "/v1/models/pair?x=1", 404),
        ("GET", "/v1/models/pair/", 400),
        ("GET", "/v1/models/pair/versions/3?x=1", 400),
        ("GET", "/v1/models/pair/labels/nope/metadata", 400),
        ("GET", "/v1/models/pair/metadata?x=1", 400),
        ("GET", "/V1/models/pair/METADATA", 200),
        ("GET", "/v1/models/%ff", 404),
        ("GET", "/v1/models/pair?x=%zz", 400),
        ("GET", "/v1/models/pair?x=[1]", 400),
        ("GET", "/v2/models/pair", 404),
        ("GET", "/v1", 404),
    ],
)
def test_paths(rest: str, method: str, path: str, status: int) -> None:
    code, body, _ = fetch(rest + path, GOOD if method != "GET" else None, method)
    assert code == status, body


def test_a_gzipped_body_is_unpacked(rest: str) -> None:
    code, _, _ = fetch(f"{rest}/v1/models/pair:predict", gzip.compress(GOOD), **{"Content-Encoding": "gzip"})
    assert code == 200


def test_a_gzip_bomb_and_a_cut_gzip_are_refused(rest: str) -> None:
    bomb = gzip.compress(bytes(300 << 20))
    for body, problem in ((bomb, "more than"), (gzip.compress(GOOD)[:-9], "cut off"), (b"no gzip", "header")):
        code, answer, _ = fetch(f"{rest}/v1/models/pair:predict", body, **{"Content-Encoding": "gzip"})
        assert (code, problem in answer.decode()) == (400, True)


def test_metadata_in_capitals_is_the_status(rest: str) -> None:
    _, body, _ = fetch(f"{rest}/v1/models/pair/METADATA")
    assert "model_version_status" in json.loads(body)


@pytest.mark.parametrize("path", ["/v1/models/pair", "/v1/models/pair:predict", "/V1/anything?x=1"])
@pytest.mark.parametrize(("origin", "status"), [("https://a.example", 200), ("file:///a", 400), ("", 400)])
def test_a_preflight_request_needs_an_origin(rest: str, path: str, origin: str, status: int) -> None:
    code, body, headers = fetch(rest + path, method="OPTIONS", **({"Origin": origin} if origin else {}))
    assert (code, body) == (status, b"")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "POST, GET"


def test_the_headers_for_browsers_are_on_every_answer(rest: str) -> None:
    for path in ("/v1/models/pair", "/v1/models/nope"):
        assert fetch(rest + path)[2]["Access-Control-Allow-Headers"] == "Content-Type"


def test_the_headers_of_a_reply(rest: str) -> None:
    _, _, headers = fetch(f"{rest}/v1/models/pair:predict", GOOD)
    assert headers["Content-Type"] == "application/json"
    assert "Server" not in headers
