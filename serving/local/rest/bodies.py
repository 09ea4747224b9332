"""JSON bodies to requests: tensors by rows ("instances") or by columns ("inputs"), and tf.Examples."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from serving.local.errors import ServingError, invalid_argument
from serving.local.rest import json_text
from serving.local.rest.values import bytes_of, flat_array, is_object, signature_name
from serving.local.tensors import Array, fill_proto

Infos = Mapping[str, meta_graph_pb2.TensorInfo]


def _array(value: Any, dtype: int) -> Array:
    """Nested lists as an array; all lists of one level have one size."""
    nested = np.array(value, dtype=object)  # lists of different sizes stay lists
    flat = nested.ravel().tolist()
    if list in set(map(type, flat)):
        raise invalid_argument(f"Expected lists of one size. Received: different ones at level {nested.ndim}")
    return flat_array(flat, dtype).reshape(nested.shape)


def _only_input(value: Any, infos: Infos, key: str) -> dict[str, Any]:
    """The value of the only input, written without its name."""
    if len(infos) > 1:
        raise invalid_argument(f"{key} is a plain value/list, but expecting objects as multiple input tensors required")
    return {next(iter(infos)): value}


def _columns_of_rows(rows: Any, infos: Infos) -> dict[str, Any]:
    if not isinstance(rows, list):
        raise invalid_argument(f"Expected a list as 'instances'. Received: {json_text.dump(rows)}")
    if not is_object(rows[0]):
        return _only_input(rows, infos, "instances")
    for index, row in enumerate(rows):
        if not is_object(row):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        for name in row:
            if name not in infos:
                raise invalid_argument(
                    f"Failed to process element: {index} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: "
                    f"JSON object: does not have named input: {name}"
                )
        if row.keys() != infos.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {json_text.dump(row)} keys must "
                f"be equal to: {','.join(sorted(infos))}"
            )
    return {name: [row[name] for row in rows] for name in infos}


def _columns(value: Any, infos: Infos) -> dict[str, Any]:
    if not is_object(value):
        return _only_input(value, infos, "inputs")
    for name in sorted(infos):
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    return {name: value[name] for name in infos}


def fill_predict(data: bytes, infos_of: Callable[[str], Infos], request: predict_pb2.PredictRequest) -> bool:
    """Fills a request from a body; returns True when it came by rows ("instances"), False by columns ("inputs")."""
    body = json_text.parse(data)
    name = request.model_spec.signature_name = signature_name(body)
    infos = infos_of(name)
    if not infos:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    by_rows = "instances" in body
    if by_rows and "inputs" in body:
        raise invalid_argument(
            f"JSON Value: {json_text.dump(body)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if not by_rows and "inputs" not in body:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    if by_rows and body["instances"] == []:
        raise invalid_argument(f"JSON Value: {json_text.dump(body)} No values in 'instances' array")
    columns = _columns_of_rows(body["instances"], infos) if by_rows else _columns(body["inputs"], infos)
    for alias, column in columns.items():
        dtype = infos[alias].dtype
        try:
            array = _array(column, dtype)
        except ServingError as error:
            raise ServingError(error.code, f"Failed to process input: {alias}. Error: {error.message}") from error
        fill_proto(array, request.inputs[alias], as_content=dtype != types_pb2.DT_STRING)
    return by_rows


def fill_examples(
    data: bytes, request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest
) -> None:
    """Fills a classify or regress request from a body with "examples" and maybe a "context"."""
    body = json_text.parse(data)
    request.model_spec.signature_name = signature_name(body)
    target: Any = request.input.example_list
    if "context" in body:
        target = request.input.example_list_with_context
        _fill_example(body["context"], target.context)
    examples = body.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid_argument(f"Expected a list of one or more as 'examples'. Received: {json_text.dump(examples)}")
    for example in examples:
        _fill_example(example, target.examples.add())


def _fill_example(value: Any, example: example_pb2.Example) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {json_text.dump(value)}")
    for key, content in value.items():
        name, items = json_text.readable(key), content if isinstance(content, list) else [content]
        feature = example.features.feature[name]
        types = set(map(type, items))
        if not items:
            continue  # A feature without a kind.
        if types == {float}:
            feature.float_list.value.extend(items)
        elif types <= {int, bool}:
            if not -(1 << 63) <= min(items) <= max(items) < 1 << 63:
                raise invalid_argument(f"Feature: {name} has an integer beyond 64 bits")
            feature.int64_list.value.extend(map(int, items))
        elif types <= {str, dict}:
            feature.bytes_list.value.extend(map(bytes_of, items))
        else:
            raise invalid_argument(
                f"Expected strings, integers or floats in feature: {name}. Received: {json_text.dump(content)}"
            )
