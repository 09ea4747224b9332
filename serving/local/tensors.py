"""TensorProto to numpy and back, by the rules of TensorFlow's `Tensor::FromProto`."""

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = np.ndarray[Any, np.dtype[Any]]

MAX_FILLED_BYTES: Final = 1 << 31
"""Largest tensor that repeated values may fill: the size of a message."""

# *_val field -> numpy's type of its elements, the DataTypes that use it.
_USES: Final = {
    "int_val": (np.int32, "INT32 INT16 INT8 UINT8 UINT16 QINT8 QUINT8 QINT16 QUINT16 QINT32"),
    "int64_val": (np.int64, "INT64"),
    "uint32_val": (np.uint32, "UINT32"),
    "uint64_val": (np.uint64, "UINT64"),
    "float_val": (np.float32, "FLOAT"),
    "double_val": (np.float64, "DOUBLE"),
    "half_val": (np.int32, "HALF BFLOAT16"),
    "bool_val": (np.bool_, "BOOL"),
    "scomplex_val": (np.float32, "COMPLEX64"),
    "dcomplex_val": (np.float64, "COMPLEX128"),
    "string_val": (np.object_, "STRING"),
}
_FIELDS: Final[dict[int, str]] = {
    types_pb2.DataType.Value(f"DT_{name}"): field for field, (_, names) in _USES.items() for name in names.split()
}
WIRE: Final[dict[int, np.dtype[Any]]] = {enum: np.dtype(_USES[field][0]) for enum, field in _FIELDS.items()}
"""DataType -> numpy's type of the elements of its *_val field."""

NUMPY: Final[dict[int, np.dtype[Any]]] = {enum: np.dtype(tf.as_dtype(enum).as_numpy_dtype) for enum in _FIELDS}
"""DataType -> numpy's type of a tensor."""

_ENUMS: Final[dict[np.dtype[Any], int]] = {dtype: enum for enum, dtype in NUMPY.items()}
# On the wire these packed fields are the array's own memory (little-endian).
_PACKED: Final = {
    enum: tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number
    for enum, field in _FIELDS.items()
    if field in ("float_val", "double_val", "bool_val", "scomplex_val", "dcomplex_val")
}


class TensorError(ValueError):
    """An invalid TensorProto: without a dtype, with an impossible shape or content of the wrong length."""


def type_name(enum: int) -> str:
    """TensorFlow's short name of a dtype: uint8, float, string."""
    name: str = types_pb2.DataType.Name(enum)
    return name.removeprefix("DT_").lower() if name != "DT_INVALID" else "INVALID"


def dtype_enum(array: Array) -> int:
    """TensorFlow's DataType of an array."""
    return _ENUMS[array.dtype]


def object_array(values: Iterable[Any], shape: tuple[int, ...]) -> Array:
    """Strings as an array. Never np.array(list of bytes): that makes an S dtype, which drops trailing NULs."""
    array = np.empty(math.prod(shape), dtype=object)
    array[:] = list(values)
    return array.reshape(shape)


def as_array(value: Any) -> Array:
    """A Session's output, which is a bare bytes object for a string scalar, as an array."""
    if isinstance(value, np.ndarray):
        return value
    return object_array([value], ()) if isinstance(value, bytes) else np.asarray(value)


def to_array(proto: tensor_pb2.TensorProto) -> Array:
    """The tensor as a numpy array; strings as an object array of bytes. May share the proto's memory.

    Raises:
        TensorError: No dtype, a dtype that no client can send, an impossible shape, or
            tensor_content whose length is not the shape's, few values for a tensor of gigabytes.
    """
    if proto.dtype not in _FIELDS:
        raise TensorError(f"Expected a dtype. Received: {proto.dtype}")
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])  # Faster than a generator, and this is every tensor.
    count = math.prod(shape)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0 or len(shape) > 254 or count >= 1 << 62:
        raise TensorError(f"Expected a shape with sizes of 0 or more. Received: {list(shape)}")
    dtype, content = NUMPY[proto.dtype], proto.tensor_content
    if not content or not count:
        return _repeated(proto, count, dtype).reshape(shape)
    if dtype.kind == "O":
        return object_array(_strings(content, count), shape)
    if len(content) != count * dtype.itemsize:
        raise TensorError(f"Expected {count * dtype.itemsize} bytes of content. Received: {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape)


def _strings(content: bytes, count: int) -> list[bytes]:
    """TensorFlow's string list: all lengths as varints, then all bytes."""
    lengths, value, shift, at = list[int](), 0, 0, 0
    while len(lengths) < count and at < len(content) and shift < 35:
        value |= (content[at] & 0x7F) << shift
        shift += 7
        if content[at] < 0x80:
            lengths.append(value)
            value = shift = 0
        at += 1
    if len(lengths) < count or at + sum(lengths) != len(content):
        raise TensorError(f"Expected the lengths and bytes of {count} strings. Received: {len(content)} bytes")
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings


def _repeated(proto: tensor_pb2.TensorProto, count: int, dtype: np.dtype[Any]) -> Array:
    """From a *_val field, as a flat array; too short is filled with its last value, empty with zeros."""
    name = _FIELDS[proto.dtype]
    field = getattr(proto, name)
    parts = 2 if dtype.kind == "c" else 1
    have = min(len(field) // parts, count)
    if (count - have) * dtype.itemsize > MAX_FILLED_BYTES:
        raise TensorError(f"Expected values for all but {MAX_FILLED_BYTES} bytes of a tensor. Received: {have} values")
    if not have:
        return np.full(count, b"", dtype) if dtype.kind == "O" else np.zeros(count, dtype)
    if dtype.kind == "O":
        values = object_array(field[:have], (have,))
    else:
        taken = field if len(field) == have * parts else field[: have * parts]
        values = np.fromiter(taken, WIRE[proto.dtype], have * parts)
        if name == "half_val":
            values = values.astype(np.uint16)
        values = values.astype(dtype) if dtype.kind in "iu" or dtype.names else values.view(dtype)
    if have == count:
        return values
    filled = np.empty(count, dtype)
    filled[:have], filled[have:] = values, values[-1]  # np.full would drop trailing NULs of bytes.
    return filled


def fill_proto(array: Array, proto: tensor_pb2.TensorProto, *, as_content: bool) -> None:
    """Writes `array` into an empty `proto`, as tensor_content or as its *_val field."""
    enum = dtype_enum(array)
    proto.dtype = enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if as_content:
        strings = array.reshape(-1).tolist() if array.dtype == object else [array.tobytes()]
        lengths = [_varint(len(text)) for text in strings] if array.dtype == object else []
        proto.tensor_content = b"".join([*lengths, *strings])
    elif enum in _PACKED and array.size:
        data = array.tobytes()
        proto.MergeFromString(bytes([_PACKED[enum] << 3 | 2]) + _varint(len(data)) + data)
    else:
        # Quantised numbers are structs of one integer.
        bits = np.uint16 if _FIELDS[enum] == "half_val" else array.dtype[0] if array.dtype.names else array.dtype
        getattr(proto, _FIELDS[enum]).extend(array.view(bits).reshape(-1).tolist())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
