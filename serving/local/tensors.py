"""TensorProto to numpy and back, by the rules of TensorFlow's `Tensor::FromProto`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = np.ndarray[Any, np.dtype[Any]]

MAX_FILLED_BYTES: Final = 1 << 31
"""Largest tensor that repeated values may fill: the size of a message."""

_INT_VAL = ("DT_INT32", "DT_INT16", "DT_INT8", "DT_UINT8", "DT_UINT16", "DT_QINT8", "DT_QUINT8", "DT_QINT16",
            "DT_QUINT16", "DT_QINT32")  # fmt: skip
_FIELDS: Final[dict[int, str]] = {
    **{types_pb2.DataType.Value(name): "int_val" for name in _INT_VAL},
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_STRING: "string_val",
}
_NUMPY: Final[dict[int, np.dtype[Any]]] = {enum: np.dtype(tf.as_dtype(enum).as_numpy_dtype) for enum in _FIELDS}
_ENUMS: Final[dict[np.dtype[Any], int]] = {
    dtype: enum for enum, dtype in reversed(_NUMPY.items()) if not tf.as_dtype(enum).is_quantized
}
# Quantised types share int_val but have their own numpy struct dtypes.
_ENUMS.update({_NUMPY[enum]: enum for enum in _NUMPY if tf.as_dtype(enum).is_quantized})
# On the wire a packed float, double or complex field is the array's own memory (little-endian).
_PACKED: Final = {
    types_pb2.DT_FLOAT: 5,
    types_pb2.DT_DOUBLE: 6,
    types_pb2.DT_COMPLEX64: 9,
    types_pb2.DT_COMPLEX128: 12,
    types_pb2.DT_BOOL: 11,
}
_BITS: Final = {types_pb2.DT_HALF, types_pb2.DT_BFLOAT16}


class TensorError(ValueError):
    """An invalid TensorProto: without a dtype, with an impossible shape or content of the wrong length."""


def type_name(enum: int) -> str:
    """TensorFlow's short name of a dtype: uint8, float, string."""
    name: str = types_pb2.DataType.Name(enum)
    return name.removeprefix("DT_").lower() if name != "DT_INVALID" else "INVALID"


def _shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    shape = proto.tensor_shape
    dims = tuple([dim.size for dim in shape.dim])  # Faster than a generator, and this is every tensor.
    if shape.unknown_rank or min(dims, default=0) < 0 or len(dims) > 254 or math.prod(dims) >= 1 << 62:
        raise TensorError(f"Expected a shape with sizes of 0 or more. Received {list(dims)}")
    return dims


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise TensorError("Expected a length. Received the end of tensor_content")


def _strings_from_content(content: bytes, count: int) -> list[bytes]:
    """TensorFlow's string list: all lengths as varints, then all bytes."""
    if count > len(content):
        raise TensorError(f"Expected {count} strings. Received {len(content)} bytes of tensor_content")
    data, at, lengths = memoryview(content), 0, []
    for _ in range(count):
        length, at = _varint(data, at)
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise TensorError(f"Expected {sum(lengths)} bytes of strings. Received {len(content) - at}")
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings


def _object_array(values: Iterable[bytes], shape: tuple[int, ...]) -> Array:
    # Never np.array(list of bytes): that makes an S dtype, which drops trailing NULs.
    array = np.empty(math.prod(shape), dtype=object)
    array[:] = list(values)
    return array.reshape(shape)


def _repeated(proto: tensor_pb2.TensorProto, count: int, shape: tuple[int, ...]) -> Array:
    """From a *_val field; too short is filled with its last value, empty with zeros."""
    dtype = _NUMPY[proto.dtype]
    field = getattr(proto, _FIELDS[proto.dtype])
    if proto.dtype == types_pb2.DT_STRING:
        strings = list(field[:count])
        missing = count - len(strings)
        _check_fill(missing * 8)
        return _object_array(strings + [strings[-1] if strings else b""] * missing, shape)
    pairs = 2 if dtype.kind == "c" else 1
    have = min(len(field) // pairs, count)
    _check_fill((count - have) * dtype.itemsize)
    if have == 0:
        return np.zeros(shape, dtype)
    taken = field if len(field) == have * pairs else field[: have * pairs]
    if proto.dtype in _BITS:
        values = np.fromiter(taken, np.int32, have).astype(np.uint16).view(dtype)
    elif pairs == 2:
        part = np.float32 if dtype == np.complex64 else np.float64
        values = np.fromiter(taken, part, have * 2).view(dtype)
    elif dtype.kind == "V":
        values = np.fromiter(taken, np.int64, have).astype(dtype[0]).view(dtype)
    elif dtype.kind in "iu":
        values = np.fromiter(taken, np.uint64 if dtype == np.uint64 else np.int64, have).astype(dtype)
    else:
        values = np.fromiter(taken, dtype, have)
    if have < count:
        values = np.concatenate([values, np.full(count - have, values[-1], dtype)])
    return values.reshape(shape)


def _check_fill(size: int) -> None:
    if size > MAX_FILLED_BYTES:
        raise TensorError(f"Expected values for all but {MAX_FILLED_BYTES} bytes of the tensor. Received {size} less")


def to_array(proto: tensor_pb2.TensorProto) -> Array:
    """The tensor as a numpy array; strings as an object array of bytes. May share the proto's memory.

    Raises:
        TensorError: No dtype, a dtype that no client can send, an impossible shape, or
            tensor_content whose length is not the shape's, few values for a tensor of gigabytes.
    """
    if proto.dtype not in _FIELDS:
        raise TensorError(f"Expected a dtype. Received {proto.dtype}")
    shape = _shape(proto)
    count = math.prod(shape)
    dtype = _NUMPY[proto.dtype]
    content = proto.tensor_content
    if content and count:
        if proto.dtype == types_pb2.DT_STRING:
            return _object_array(_strings_from_content(content, count), shape)
        if len(content) != count * dtype.itemsize:
            raise TensorError(f"Expected {count * dtype.itemsize} bytes of content. Received {len(content)}")
        return np.frombuffer(content, dtype).reshape(shape)
    return _repeated(proto, count, shape)


def dtype_enum(array: Array) -> int:
    """TensorFlow's DataType of an array."""
    return types_pb2.DT_STRING if array.dtype == object else _ENUMS[array.dtype]


def as_array(value: Any) -> Array:
    """A Session's output, which is a bare bytes object for a string scalar, as an array."""
    if isinstance(value, np.ndarray):
        return value
    return _object_array([value], ()) if isinstance(value, bytes) else np.asarray(value)


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fill_proto(array: Array, proto: tensor_pb2.TensorProto, *, as_content: bool) -> None:
    """Write `array` into an empty `proto`, as tensor_content or as its *_val field."""
    enum = dtype_enum(array)
    proto.dtype = enum
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    proto.tensor_shape.SetInParent()
    if enum == types_pb2.DT_STRING:
        flat = array.reshape(-1).tolist()
        if as_content:
            proto.tensor_content = b"".join([*(_varint_bytes(len(text)) for text in flat), *flat])
        else:
            proto.string_val.extend(flat)
    elif as_content:
        proto.tensor_content = array.tobytes()
    elif array.size == 0:
        return
    elif enum in _PACKED:
        data = array.tobytes()
        proto.MergeFromString(bytes([_PACKED[enum] << 3 | 2]) + _varint_bytes(len(data)) + data)
    else:
        flat_array: Array = array.reshape(-1)
        if enum in _BITS:
            flat_array = flat_array.view(np.uint16)
        elif array.dtype.kind == "V":
            flat_array = flat_array.view(array.dtype[0])
        getattr(proto, _FIELDS[enum]).extend(flat_array.tolist())
