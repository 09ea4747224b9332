"""Replies to REST calls as JSON."""

import base64
import json
from typing import Any

import numpy as np
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from serving.local.errors import invalid_argument
from serving.local.tensors import Array, dtype_enum, object_array, to_array, type_name

_WRITABLE = "?bBhiIlLqQfd"
"""The stock server writes these numbers (of numpy's type codes); it has no text for uint16, half or complex."""


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False) + "\n"


def _values(name: str, array: Array) -> Any:
    """The elements as JSON values, in nested lists. Strings of outputs named *_bytes are base64."""
    if array.dtype == object:
        if name.endswith("_bytes"):
            texts: list[Any] = [{"b64": base64.b64encode(text).decode()} for text in array.reshape(-1)]
        else:
            texts = [text.decode("utf-8", "surrogateescape") for text in array.reshape(-1)]
        return object_array(texts, array.shape).tolist()
    if array.dtype.char not in _WRITABLE:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {type_name(dtype_enum(array))}")
    # A float32 as the double with the fewest digits that reads back as the same float32.
    return (array.astype(str).astype(np.float64) if array.dtype == np.float32 else array).tolist()


def predict_reply(response: predict_pb2.PredictResponse, *, by_rows: bool) -> str:
    """The body of an answered predict, in the form of its request."""
    arrays = {name: to_array(proto) for name, proto in sorted(response.outputs.items())}
    rows = {array.shape[:1] for array in arrays.values()}
    if by_rows and (len(rows) > 1 or () in rows):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise invalid_argument(f"Expected a row for each instance in every output. Received: shapes {shapes}")
    columns = {name: _values(name, array) for name, array in arrays.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if not by_rows:
        return _json({"outputs": columns if only is None else only})
    objects = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _json({"predictions": objects if only is None else only})


def classify_reply(response: classification_pb2.ClassificationResponse) -> str:
    """Each example as a list of [label, score]."""
    rows = response.result.classifications
    return _json({"results": [[[each.label, _score(each.score)] for each in row.classes] for row in rows]})


def regress_reply(response: regression_pb2.RegressionResponse) -> str:
    """One value for each example."""
    return _json({"results": [_score(row.value) for row in response.result.regressions]})


def _score(value: float) -> float:
    return float(str(np.float32(value)))


def error_reply(message: str) -> str:
    return _json({"error": message})
