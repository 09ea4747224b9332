"""JSON values as the elements of tensors and examples: what fits, and what to say when it does not."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Final

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.rest import json_text
from serving.local.tensors import type_name

# dtype -> field, smallest and largest value that RapidJSON's Is...() lets through.
_INTEGERS: Final[dict[int, tuple[str, int, int]]] = {
    **dict.fromkeys(
        (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8),
        ("int_val", -(2**31), 2**31 - 1),
    ),
    types_pb2.DT_INT64: ("int64_val", -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: ("uint32_val", 0, 2**32 - 1),
    types_pb2.DT_UINT64: ("uint64_val", 0, 2**64 - 1),
}
_FLOATS: Final[dict[int, tuple[str, str, Any]]] = {
    types_pb2.DT_FLOAT: ("float_val", "float", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", "double", np.float64),
}


def is_b64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def decode_b64(value: Any) -> bytes:
    if not is_b64(value):
        raise invalid_argument(f"JSON Value: {json_text.dump(value)} not formatted correctly for base64 data")
    text = value["b64"].translate({ord(c): None for c in " \t\r\n"})
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4) if "=" not in text else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def lossless(value: float, kind: Any) -> bool:
    info = np.finfo(kind)
    if isinstance(value, int):
        return abs(value) <= (1 << (info.nmant + 1)) - 1
    return not math.isfinite(value) or abs(value) <= float(info.max)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _type_error(value: Any, dtype: int) -> ServingError:
    return invalid_argument(
        f"JSON Value: {json_text.dump(value)} Type: {json_text.type_name(value)} is not of expected type: "
        f"{type_name(dtype)}"
    )


def lossy(value: float, name: str) -> ServingError:
    return invalid_argument(f"Cannot convert JSON value: {json_text.dump(value)} to {name} without loss of precision.")


def checked(value: Any, dtype: int) -> Any:
    """One element, as the field of its dtype takes it."""
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        return decode_b64(value)
    if dtype == types_pb2.DT_STRING:
        if not isinstance(value, str):
            raise _type_error(value, dtype)
        return value.encode("utf-8", "surrogatepass")
    if dtype == types_pb2.DT_BOOL:
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    if dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _type_error(value, dtype)
        return value
    if dtype in _FLOATS:
        _, name, kind = _FLOATS[dtype]
        if not _is_number(value):
            raise _type_error(value, dtype)
        if not lossless(value, kind):
            raise invalid_argument(
                f"Cannot convert JSON value: {json_text.dump(value)} to {name} without loss of precision."
            )
        return float(value)
    raise ServingError(
        Code.UNIMPLEMENTED, f"Conversion of JSON Value: {json_text.dump(value)} to type: {type_name(dtype)}"
    )


def all_plain(values: list[Any], dtype: int) -> bool:
    """Whether a row of small numbers needs no look at each: what pictures are made of."""
    if dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        return set(map(type, values)) == {int} and low <= min(values) and max(values) <= high
    return dtype in _FLOATS and set(map(type, values)) == {float} and max(map(abs, values)) <= 3e38


def field(dtype: int) -> str:
    if dtype in _INTEGERS:
        return _INTEGERS[dtype][0]
    if dtype in _FLOATS:
        return _FLOATS[dtype][0]
    return "bool_val" if dtype == types_pb2.DT_BOOL else "string_val"


def signature_name(body: dict[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {json_text.dump(body)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name
