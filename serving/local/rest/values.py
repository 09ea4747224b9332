"""JSON values as the elements of tensors and examples: what fits, and the error when it does not."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from tensorflow.core.framework import types_pb2

from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.rest import json_text
from serving.local.tensors import type_name

# dtype -> field, smallest and largest value.
_INTEGERS: Final[dict[int, tuple[str, int, int]]] = {
    **dict.fromkeys(
        (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8),
        ("int_val", -(2**31), 2**31 - 1),
    ),
    types_pb2.DT_INT64: ("int64_val", -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: ("uint32_val", 0, 2**32 - 1),
    types_pb2.DT_UINT64: ("uint64_val", 0, 2**64 - 1),
}
_FLOATS: Final = {types_pb2.DT_FLOAT: "float_val", types_pb2.DT_DOUBLE: "double_val"}


def is_b64(value: Any) -> bool:
    """Whether a value is bytes, written as {"b64": "..."}."""
    return isinstance(value, dict) and len(json_text.members(value)) == 1 and isinstance(value.get("b64"), str)


def is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def decode_b64(value: Any) -> bytes:
    """The bytes of a {"b64": "..."} object; white space and missing padding are allowed."""
    if not is_b64(value):
        raise invalid_argument(f"JSON Value: {json_text.dump(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4) if "=" not in text else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def checked(value: Any, dtype: int) -> Any:
    """One element, as the field of its dtype takes it."""
    if dtype == types_pb2.DT_STRING and isinstance(value, dict):
        return decode_b64(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype == types_pb2.DT_STRING:
        fits = isinstance(value, str)
    elif dtype == types_pb2.DT_BOOL:
        fits = isinstance(value, bool)
    elif dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        fits = number and isinstance(value, int) and low <= value <= high
    elif dtype in _FLOATS:
        fits = number
    else:
        message = f"Conversion of JSON Value: {json_text.dump(value)} to type: {type_name(dtype)}"
        raise ServingError(Code.UNIMPLEMENTED, message)
    if not fits:
        raise invalid_argument(
            f"JSON Value: {json_text.dump(value)} Type: {json_text.type_name(value)} is not of expected type: "
            f"{type_name(dtype)}"
        )
    return value.encode("utf-8", "surrogateescape") if dtype == types_pb2.DT_STRING else value


def all_plain(values: list[Any], dtype: int) -> bool:
    """Whether a list of numbers needs no check of each, as in images."""
    if dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        return set(map(type, values)) == {int} and low <= min(values) and max(values) <= high
    return dtype in _FLOATS and set(map(type, values)) <= {int, float}


def field(dtype: int) -> str:
    """The field of a TensorProto that holds values of a dtype."""
    if dtype in _INTEGERS:
        return _INTEGERS[dtype][0]
    return _FLOATS.get(dtype) or ("bool_val" if dtype == types_pb2.DT_BOOL else "string_val")


def signature_name(body: dict[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {json_text.dump(body)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return json_text.readable(name)
