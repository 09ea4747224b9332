"""JSON values as the elements of tensors and examples: what fits, and the error when it does not."""

import base64
from typing import Any, Final

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.rest import json_text
from serving.local.tensors import NUMPY, WIRE, Array, object_array, type_name

# As in the stock server, and neither 16-bit types other than int16 nor complex ones.
_NUMBERS: Final = {
    types_pb2.DataType.Value(f"DT_{name}")
    for name in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT32", "UINT64", "FLOAT", "DOUBLE")
}
_TYPES: Final[dict[str, set[type]]] = {"i": {int}, "u": {int}, "f": {int, float}, "b": {bool}}


def is_object(value: Any) -> bool:
    """Whether a value is an object with members, and not bytes, written as {"b64": "..."}."""
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def bytes_of(value: Any) -> bytes:
    """The bytes of a string or of a {"b64": "..."} object, in which white space and missing padding are allowed."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not isinstance(value, dict) or is_object(value):
        raise invalid_argument(f"JSON Value: {json_text.dump(value)} is not a string or formatted as base64 data")
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4) if "=" not in text else text, validate=True)
    except ValueError as error:
        raise invalid_argument("Unable to base64 decode") from error


def flat_array(values: list[Any], dtype: int) -> Array:
    """JSON values as a flat array of a DataType; strings as an object array of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT for a value that does not fit, UNIMPLEMENTED for a dtype that JSON can't carry.
    """
    if dtype == types_pb2.DT_STRING:
        return object_array([bytes_of(value) for value in values], (len(values),))
    if dtype not in _NUMBERS:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value to type: {type_name(dtype)}")
    types = _TYPES[WIRE[dtype].kind]
    if set(map(type, values)) <= types:
        try:
            with np.errstate(over="ignore"):  # Of floats, to infinity; integers wrap around below 32 bits. As stock.
                return np.array(values, WIRE[dtype]).astype(NUMPY[dtype])
        except OverflowError:
            limits = np.iinfo(WIRE[dtype])
            bad = next(value for value in values if not limits.min <= value <= limits.max)
    else:
        bad = next(value for value in values if type(value) not in types)
    raise invalid_argument(f"JSON Value: {json_text.dump(bad)} is not of expected type: {type_name(dtype)}")


def signature_name(body: dict[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(f"Expected a string as 'signature_name'. Received: {json_text.dump(name)}")
    return json_text.readable(name)
