"""Replies to REST bodies, in the stock server's layout."""

from __future__ import annotations

import base64
import math

import numpy as np
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from serving.local.errors import invalid_argument
from serving.local.rest import json_text
from serving.local.tensors import Array, dtype_enum, to_array, type_name


def _texts(array: Array, as_b64: bool) -> list[str]:
    """Each element as JSON."""
    flat = array.reshape(-1)
    if array.dtype == object:
        if as_b64:
            return ['{\n    "b64": ' + json_text.quote(base64.b64encode(text).decode()) + "\n}" for text in flat]
        return [json_text.quote(text.decode("utf-8", "replace")) for text in flat]
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return [json_text.decimal_text(value) for value in flat]
    if array.dtype.kind == "b":
        return ["true" if value else "false" for value in flat]
    if array.dtype.kind in "iu" and array.dtype != np.uint16:
        return [str(value) for value in flat.tolist()]
    raise invalid_argument(f"Failed to write JSON value for tensor type: {type_name(dtype_enum(array))}")


def _nested(texts: list[str], shape: tuple[int, ...]) -> str:
    """Elements in their nested lists, on one line."""
    for size in reversed(shape):
        if size == 0:
            return "[]" if len(shape) == 1 else _empty(shape)
        texts = [f"[{', '.join(texts[at : at + size])}]" for at in range(0, len(texts), size)]
    return texts[0]


def _empty(shape: tuple[int, ...]) -> str:
    return "[]" if not shape or shape[0] == 0 else f"[{', '.join([_empty(shape[1:])] * shape[0])}]"


def _is_bytes_name(name: str, array: Array) -> bool:
    return array.dtype == object and name.endswith("_bytes")


def predict_reply(response: predict_pb2.PredictResponse, *, by_rows: bool) -> str:
    """The body of an answered predict, in the form of its request."""
    arrays = {name: to_array(proto) for name, proto in response.outputs.items()}
    if not arrays:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if not by_rows:
        items = {name: _nested(_texts(a, _is_bytes_name(name, a)), a.shape) for name, a in sorted(arrays.items())}
        if len(items) == 1:
            return '{\n    "outputs": ' + next(iter(items.values())) + "\n}"
        members = ",\n        ".join(f"{json_text.quote(name)}: {text}" for name, text in items.items())
        return '{\n    "outputs": {\n        ' + members + "\n    }\n}"
    rows = _rows(arrays)
    if len(arrays) == 1:
        return '{\n    "predictions": [' + ", ".join(row[0][1] for row in rows) + "\n    ]\n}"
    objects = (
        "        {\n" + ",\n".join(f"            {json_text.quote(name)}: {text}" for name, text in row) + "\n        }"
        for row in rows
    )
    return '{\n    "predictions": [\n' + ",\n".join(objects) + "\n    ]\n}"


def _rows(arrays: dict[str, Array]) -> list[list[tuple[str, str]]]:
    count = 0
    for name, array in sorted(arrays.items()):
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if len(array) < 1:
            raise invalid_argument(f"Tensor name: {name} has invalid batch size: {len(array)}")
        if count and len(array) != count:
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    rows: list[list[tuple[str, str]]] = [[] for _ in range(count)]
    for name, array in sorted(arrays.items()):
        texts, size = _texts(array, _is_bytes_name(name, array)), math.prod(array.shape[1:])
        for index, row in enumerate(rows):
            row.append((name, _nested(texts[index * size : (index + 1) * size], array.shape[1:])))
    return rows


def _pair(entry: classification_pb2.Class) -> str:
    return f"[{json_text.quote(entry.label)}, {json_text.decimal_text(np.float32(entry.score))}]"


def classify_reply(response: classification_pb2.ClassificationResponse) -> str:
    """Each example as a list of [label, score]."""
    rows = response.result.classifications
    if not rows:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    texts = (
        "["
        + ", ".join(f"[{json_text.quote(c.label)}, {json_text.decimal_text(np.float32(c.score))}]" for c in row.classes)
        + "]"
        for row in rows
    )
    return '{\n    "results": [' + ", ".join(texts) + "\n    ]\n}"


def regress_reply(response: regression_pb2.RegressionResponse) -> str:
    """One value an example."""
    rows = response.result.regressions
    if not rows:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    return '{\n    "results": [' + ", ".join(json_text.decimal_text(np.float32(row.value)) for row in rows) + "]\n}"


def error_reply(message: str) -> str:
    return '{\n    "error": ' + json_text.quote(message) + "\n}"
