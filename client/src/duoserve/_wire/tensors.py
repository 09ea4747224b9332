"""numpy arrays to and from the bytes of TensorFlow's TensorProto. No I/O.

Requests are written by hand, with one copy of the arrays. Replies are read by hand where they are large (packed floats,
tensor_content), and by protobuf everywhere else. A short `*_val` is filled up with its last value, as by the server.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from duoserve._wire.protobuf import CodecError, length_delimited, read_varint, split, varint

_STRING, _BFLOAT16 = 7, 14

# TensorFlow's DataType number, and the field for values that are not in tensor_content, by numpy's name.
_TYPES: Final[dict[str, tuple[int, str]]] = {
    "float32": (1, "float_val"),
    "float64": (2, "double_val"),
    "int32": (3, "int_val"),
    "uint8": (4, "int_val"),
    "int16": (5, "int_val"),
    "int8": (6, "int_val"),
    "string": (_STRING, "string_val"),
    "complex64": (8, "scomplex_val"),
    "int64": (9, "int64_val"),
    "bool": (10, "bool_val"),
    "bfloat16": (_BFLOAT16, "half_val"),  # from the package ml_dtypes; decoded as float32
    "uint16": (17, "int_val"),
    "complex128": (18, "dcomplex_val"),
    "float16": (19, "half_val"),
    "uint32": (22, "uint32_val"),
    "uint64": (23, "uint64_val"),
}
_NAMES: Final = {number: name for name, (number, _) in _TYPES.items()}
_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    number: np.dtype(name).newbyteorder("<") for number, name in _NAMES.items() if name not in ("bfloat16", "string")
}
_MAX_BYTES: Final = 1 << 31  # protobuf's own limit; a reply of a few bytes must not claim more


def dtype_name(number: int) -> str:
    """numpy's name of a DataType number, "string", or "DataType N" where numpy has none."""
    return _NAMES.get(number, f"DataType {number}")


def encode_tensor(array: npt.NDArray[Any]) -> tuple[bytes, Any]:
    """The TensorProto of an array as two buffers to join.

    Numbers and booleans go into tensor_content, without a copy here. An object array holds
    strings: each item is `bytes`, or `str` that is sent as UTF-8.
    """
    dtype = array.dtype
    if dtype.kind in "OSU":
        values = b"".join(length_delimited(8, _utf8(item)) for item in array.ravel().tolist())
        return b"\x08\x07" + length_delimited(2, _encode_shape(array.shape)), values
    head = _head(dtype, array.shape)
    if dtype.byteorder == ">" or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array, dtype=dtype.newbyteorder("<"))
    # PEP 3118 has no name for bfloat16.
    return head, array.view(np.uint16) if dtype.kind == "V" else array


@functools.lru_cache(maxsize=512)  # a client sends few shapes
def _head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The part of a TensorProto before its content."""
    if dtype.name not in _TYPES:
        raise CodecError(f"Expected an array of a dtype that TensorFlow supports. Received: {dtype}")
    number, _ = _TYPES[dtype.name]
    size = dtype.itemsize * math.prod(shape)
    return b"\x08" + varint(number) + length_delimited(2, _encode_shape(shape)) + b"\x22" + varint(size)


def _encode_shape(shape: tuple[int, ...]) -> bytes:
    return b"".join(length_delimited(2, b"\x08" + varint(size)) if size else b"\x12\x00" for size in shape)


def _utf8(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        try:
            return item.encode("utf-8")
        except UnicodeEncodeError as error:
            raise CodecError(f"Expected str to be valid Unicode. Received: {error.reason}") from error
    raise CodecError(f"Expected bytes or str in an array of strings. Received: {type(item).__name__}")


def decode_tensor(data: bytes, start: int = 0, end: int | None = None) -> npt.NDArray[Any]:
    """The array of the TensorProto in data[start:end]: writable, in native byte order, strings as `bytes` objects."""
    end = len(data) if end is None else end
    number, content, floats = 0, None, None
    shape: tuple[int, ...] = ()
    for tag, first, last in split(data, start, end):
        if tag == 0x08:  # dtype
            number = first
        elif tag == 0x12:  # tensor_shape
            shape = _decode_shape(data[first:last])
        elif tag == 0x22:  # tensor_content
            content = first, last
        elif tag == 0x2A and floats is None:  # float_val, packed
            floats = first, last
        elif tag != 0x18:  # version_number
            return _decode_typed(data[start:end])  # protobuf reads all other forms
    size = math.prod(shape)
    if content is not None and floats is None and content[0] < content[1]:
        return _from_content(number, shape, size, data, *content)
    if number == 1 and floats is not None and content is None:
        count, rest = divmod(floats[1] - floats[0], 4)
        if rest:
            raise CodecError(f"Expected float_val of 4 bytes each. Received: {count} and {rest} bytes")
        if count == size:
            return _copied(data, *floats, _DTYPES[1], shape)
        return _fill(np.frombuffer(data, _DTYPES[1], count, floats[0]), shape, size)
    return _decode_typed(data[start:end])


@functools.lru_cache(maxsize=256)  # a server answers with few shapes
def _decode_shape(data: bytes) -> tuple[int, ...]:
    sizes = []
    for tag, first, last in split(data, 0, len(data)):
        if tag == 0x18 and first:
            raise CodecError("Expected a tensor of known shape. Received: unknown_rank")
        if tag == 0x12:
            size = next((value for item, value, _ in split(data, first, last) if item == 0x08), 0)
            if size >= 1 << 63:
                raise CodecError(f"Expected sizes of at least 0. Received: {size - (1 << 64)}")
            sizes.append(size)
    return tuple(sizes)


def _from_content(
    number: int, shape: tuple[int, ...], size: int, data: bytes, start: int, end: int
) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(number)
    if dtype is None:
        if number == _STRING:
            return _objects(_split_strings(data[start:end], size), shape, size)
        if number == _BFLOAT16:
            return _widened(_from_content(_TYPES["uint16"][0], shape, size, data, start, end))
        raise _unsupported(number)
    if end - start != size * dtype.itemsize:
        raise CodecError(f"Expected {size * dtype.itemsize} bytes for shape {shape}. Received: {end - start}")
    return _copied(data, start, end, dtype, shape)


def _copied(data: bytes, start: int, end: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Copies, which aligns the values, frees the reply and gives the caller its own array."""
    # One call of numpy's: `frombuffer`, `reshape` and `astype` take twice as long after the wait for a reply.
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, bytearray(memoryview(data)[start:end]))
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _widened(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """TensorFlow's EncodeStringList: all lengths as varints, then all bytes."""
    sizes, position = [], 0
    for _ in range(count):
        size, position = read_varint(content, position, len(content))
        sizes.append(size)
    if position + sum(sizes) != len(content):
        raise CodecError(f"Expected {sum(sizes)} bytes of strings. Received: {len(content) - position}")
    strings = []
    for size in sizes:
        strings.append(content[position : position + size])
        position += size
    return strings


def _decode_typed(data: bytes) -> npt.NDArray[Any]:
    from google.protobuf.message import DecodeError

    from duoserve._wire.wire_pb2 import TensorProto

    try:
        proto = TensorProto.FromString(data)
    except DecodeError as error:
        raise CodecError(f"Expected a TensorProto. Received: {error}") from error
    number = proto.dtype
    if proto.tensor_shape.unknown_rank:
        raise CodecError("Expected a tensor of known shape. Received: unknown_rank")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(dim < 0 for dim in shape):
        raise CodecError(f"Expected sizes of at least 0. Received: {shape}")
    size = math.prod(shape)
    if proto.tensor_content:
        return _from_content(number, shape, size, proto.tensor_content, 0, len(proto.tensor_content))
    if number not in _NAMES:
        raise _unsupported(number)
    name = _NAMES[number]
    _, field = _TYPES[name]
    values: Sequence[Any] = getattr(proto, field)
    if name == "string":
        return _objects(list(values), shape, size)
    if field == "half_val":
        bits = _fill(np.array(values, np.uint32).astype(np.uint16), shape, size)
        return bits.view(np.float16) if name == "float16" else _widened(bits)
    if name.startswith("complex"):
        return _fill(np.array(values, "<f4" if name == "complex64" else "<f8").view(_DTYPES[number]), shape, size)
    # int_val holds the small integers too; a value that does not fit wraps, as on the server.
    wide = np.array(values, np.uint64 if name == "uint64" else np.float64 if name.startswith("float") else np.int64)
    return _fill(wide.astype(_DTYPES[number]), shape, size)


def _unsupported(number: int) -> CodecError:
    return CodecError(f"Expected a tensor of a dtype that numpy supports. Received: {dtype_name(number)}")


def _fill(values: npt.NDArray[Any], shape: tuple[int, ...], size: int) -> npt.NDArray[Any]:
    count = len(values)
    if count > size:
        raise CodecError(f"Expected at most {size} values for shape {shape}. Received: {count}")
    if size * values.itemsize > _MAX_BYTES:
        raise CodecError(f"Expected a tensor of at most {_MAX_BYTES} bytes. Received: shape {shape}")
    if count == size:
        return values.reshape(shape).astype(values.dtype.newbyteorder("="))
    out = np.empty(size, values.dtype.newbyteorder("="))
    out[:count] = values
    out[count:] = values[-1] if count else b"" if values.dtype == object else 0
    return out.reshape(shape)


def _objects(strings: list[bytes], shape: tuple[int, ...], size: int) -> npt.NDArray[Any]:
    values = np.empty(len(strings), object)
    values[:] = strings
    return _fill(values, shape, size)


def tensor_map(field: int, tensors: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    """A `map<string, TensorProto>` field as buffers to join."""
    parts: list[Any] = []
    for name, array in tensors.items():
        head, content = encode_tensor(array)
        size = len(head) + (len(content) if isinstance(content, bytes) else content.nbytes)
        parts += (_entry(field, name, size), head, content)
    return parts


@functools.lru_cache(maxsize=512)
def _entry(field: int, name: str, size: int) -> bytes:
    """The part of an entry before its value of `size` bytes."""
    key = length_delimited(1, name.encode("utf-8")) + b"\x12" + varint(size)
    return varint(field << 3 | 2) + varint(len(key) + size) + key
