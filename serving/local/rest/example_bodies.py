"""Classify and regress bodies to requests: JSON objects as tf.Examples."""

from __future__ import annotations

from typing import Any

from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.local.errors import invalid_argument
from serving.local.rest import json_text
from serving.local.rest.values import decode_b64, is_object, signature_name


def fill(data: bytes, request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest) -> None:
    """Fill a classify or regress request from a body with "examples" and maybe a "context"."""
    body = json_text.parse(data)
    request.model_spec.signature_name = signature_name(body)
    source: input_pb2.Input = request.input
    target: Any = source.example_list
    if "context" in body:
        _fill_example(body["context"], source.example_list_with_context.context)
        target = source.example_list_with_context
    if "examples" not in body:
        raise invalid_argument(
            f"JSON Value: {json_text.dump(body)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = body["examples"]
    if not isinstance(examples, list):
        raise invalid_argument(f"JSON Value: {json_text.dump(body)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid_argument(f"JSON Value: {json_text.dump(body)} 'examples' value is an empty array")
    for example in examples:
        _fill_example(example, target.examples.add())


def _fill_example(value: Any, example: example_pb2.Example) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {json_text.type_name(value)}")
    for key, content in json_text.members(value):
        name = json_text.readable(key)
        feature = example.features.feature[name]
        feature.Clear()  # of a key given twice, the last counts here
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)


def _add_to_feature(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if value is None or isinstance(value, list) or is_object(value):
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {json_text.type_name(value)}")
    converted: Any = value
    if isinstance(value, (dict, str)):
        kind, converted = (
            "bytes",
            decode_b64(value) if isinstance(value, dict) else value.encode("utf-8", "surrogateescape"),
        )
    elif isinstance(value, float):
        kind = "float"
    else:
        kind, converted = "int64", int(value)
    has = feature.WhichOneof("kind")
    if has not in (None, f"{kind}_list"):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {str(has).removesuffix('_list')}"
        )
    if kind == "int64" and converted >= 1 << 63:
        raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    getattr(feature, f"{kind}_list").value.append(converted)
