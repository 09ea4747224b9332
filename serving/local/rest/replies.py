"""Replies to REST calls as JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from serving.local.errors import invalid_argument
from serving.local.tensors import Array, dtype_enum, to_array, type_name

_WRITABLE = "?bBhiIlLqQfd"
"""The stock server writes these numbers (of numpy's type codes); it has no text for uint16, half or complex."""


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False) + "\n"


def _short(array: Array) -> Array:
    """Each float32 as the double with the fewest digits that reads back as the same float32."""
    return array.astype(str).astype(np.float64)


def _values(name: str, array: Array) -> Any:
    """The elements as JSON values, in nested lists. Strings of outputs named *_bytes are base64."""
    if array.dtype == object:
        out = np.empty(array.size, object)
        if name.endswith("_bytes"):
            out[:] = [{"b64": base64.b64encode(text).decode()} for text in array.reshape(-1)]
        else:
            out[:] = [text.decode("utf-8", "surrogateescape") for text in array.reshape(-1)]
        return out.reshape(array.shape).tolist()
    if array.dtype.char not in _WRITABLE:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {type_name(dtype_enum(array))}")
    return (_short(array) if array.dtype == np.float32 else array).tolist()


def predict_reply(response: predict_pb2.PredictResponse, *, by_rows: bool) -> str:
    """The body of an answered predict, in the form of its request."""
    arrays = {name: to_array(proto) for name, proto in sorted(response.outputs.items())}
    if not arrays:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if by_rows:
        _check_rows(arrays)
    columns = {name: _values(name, array) for name, array in arrays.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if not by_rows:
        return _json({"outputs": columns if only is None else only})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _json({"predictions": rows if only is None else only})


def _check_rows(arrays: dict[str, Array]) -> None:
    count = None
    for name, array in arrays.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if count is not None and len(array) != count:
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)


def classify_reply(response: classification_pb2.ClassificationResponse) -> str:
    """Each example as a list of [label, score]."""
    rows = response.result.classifications
    if not rows:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    return _json({"results": [[[each.label, _score(each.score)] for each in row.classes] for row in rows]})


def regress_reply(response: regression_pb2.RegressionResponse) -> str:
    """One value for each example."""
    rows = response.result.regressions
    if not rows:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    return _json({"results": [_score(row.value) for row in rows]})


def _score(value: float) -> float:
    return float(str(np.float32(value)))


def error_reply(message: str) -> str:
    return _json({"error": message})
