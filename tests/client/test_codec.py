"""Any array survives the way to the server and back, in every form that a server may choose."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from duoserve._wire import messages as _messages
from duoserve._wire import wire_pb2 as wire
from duoserve._wire.protobuf import varint
from duoserve._wire.tensors import CodecError, decode_tensor, encode_tensor

NUMERIC = ["float16", "float32", "float64", "int8", "int16", "int32", "int64"]
NUMERIC += ["uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(NUMERIC).flatmap(lambda name: hnp.arrays(np.dtype(name), SHAPES))
STRINGS = SHAPES.flatmap(lambda shape: hnp.arrays(object, shape, elements=st.binary(max_size=40)))

# Which repeated field holds a dtype's values.
FIELDS = {
    "float16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int_val"),
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
}


def to_bytes(array: np.ndarray) -> bytes:
    return b"".join(encode_tensor(array))


def same(left: np.ndarray, right: np.ndarray) -> None:
    assert left.dtype == right.dtype and left.shape == right.shape
    assert left.tobytes() == right.tobytes() if left.dtype != object else left.tolist() == right.tolist()


def by_values(array: np.ndarray, keep: int | None = None) -> bytes:
    """The array as repeated values, as a server without the tensor_content flag writes it."""
    proto = wire.TensorProto.FromString(to_bytes(array))
    proto.tensor_content = b""
    flat = np.ascontiguousarray(array).reshape(-1)[:keep]
    if array.dtype == np.float16:
        flat = flat.view(np.uint16)
    elif array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    getattr(proto, FIELDS[array.dtype.name]).extend(flat.tolist())
    return proto.SerializeToString()


@given(ARRAYS)
def test_numbers_come_back_bit_for_bit(array: np.ndarray) -> None:
    same(decode_tensor(to_bytes(array)), array)


@given(STRINGS)
def test_strings_come_back_in_both_forms(array: np.ndarray) -> None:
    same(decode_tensor(to_bytes(array)), array)
    proto = wire.TensorProto.FromString(to_bytes(array))
    values = list(proto.string_val)
    del proto.string_val[:]
    # TensorFlow's EncodeStringList: all lengths as varints, then the bytes.
    proto.tensor_content = b"".join(varint(len(value)) for value in values) + b"".join(values)
    same(decode_tensor(proto.SerializeToString()), array)


@given(ARRAYS)
def test_repeated_values_are_read_like_tensor_content(array: np.ndarray) -> None:
    found = decode_tensor(by_values(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6))), st.data())
def test_values_that_are_short_of_the_shape_are_filled_with_the_last(array: np.ndarray, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, array.size))
    expected = array.reshape(-1).copy()
    expected[keep:] = expected[keep - 1]
    same(decode_tensor(by_values(array, keep)), expected.reshape(array.shape))


@given(ARRAYS, st.randoms(use_true_random=False))
def test_views_of_any_layout_are_sent_as_what_they_show(array: np.ndarray, random: object) -> None:
    for view in (array.T, array[::-1] if array.ndim else array, array.astype(array.dtype.newbyteorder(">"))):
        np.testing.assert_array_equal(decode_tensor(to_bytes(view)), view)


@given(st.binary(max_size=200))
@settings(max_examples=400)
def test_bytes_that_are_not_a_tensor_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    for decode in (decode_tensor, _messages.decode_predict):
        with contextlib.suppress(CodecError):
            decode(data)


@given(ARRAYS, st.data())
def test_a_cut_or_flipped_reply_never_crashes(array: np.ndarray, data: st.DataObject) -> None:
    whole = bytearray(_messages.encode_predict("m", 1, "s", {"x": array}))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(whole), bytes(whole[:position])):
        with contextlib.suppress(CodecError):
            _messages.decode_predict(broken)


@given(ARRAYS)
def test_a_request_is_what_protobuf_reads(array: np.ndarray) -> None:
    strings = np.array([b"\xff", "ü"], object)
    request = wire.PredictRequest.FromString(
        _messages.encode_predict("pairs", "stable", "serving", {"a": array, "b": strings}, ["out"])
    )
    assert request.model_spec.name == "pairs" and request.model_spec.version_label == "stable"
    assert request.model_spec.signature_name == "serving" and list(request.output_filter) == ["out"]
    same(decode_tensor(request.inputs["a"].SerializeToString()), array)
    assert list(request.inputs["b"].string_val) == [b"\xff", "ü".encode()]
    assert (
        wire.PredictRequest.FromString(_messages.encode_predict("m", 2**40, "s", {"a": array})).model_spec.version.value
        == 2**40
    )


def test_decoded_arrays_belong_to_the_caller() -> None:
    for data in (to_bytes(np.ones((2, 3), np.float32)), by_values(np.ones((2, 3), np.float32))):
        found = decode_tensor(data)
        found[0, 0] = 5
        assert found.flags.aligned and found.flags.writeable and found.flags.c_contiguous


def test_packed_and_unpacked_values_are_both_read() -> None:
    # Old writers put one tag before each value; tag 5, wire type 5 is a single float.
    head = b"\x08\x01\x12\x04\x12\x02\x08\x02"
    unpacked = head + b"\x2d" + np.float32(1.5).tobytes() + b"\x2d" + np.float32(2.5).tobytes()
    twice = head + b"\x2a\x04" + np.float32(1.5).tobytes() + b"\x2a\x04" + np.float32(2.5).tobytes()
    for data in (unpacked, twice):
        assert decode_tensor(data).tolist() == [1.5, 2.5]


def test_a_reply_of_a_few_bytes_can_not_claim_gigabytes() -> None:
    proto = wire.TensorProto(dtype=1, float_val=[1.0])
    for _ in range(3):
        proto.tensor_shape.dim.add(size=100_000)
    with pytest.raises(CodecError, match="at most"):
        decode_tensor(proto.SerializeToString())


def test_invalid_shapes_are_refused() -> None:
    negative = wire.TensorProto(dtype=1, float_val=[1.0])
    negative.tensor_shape.dim.add(size=-1)
    unknown = wire.TensorProto(dtype=1, float_val=[1.0])
    unknown.tensor_shape.unknown_rank = True
    for proto in (negative, unknown):
        with pytest.raises(CodecError, match="Expected"):
            decode_tensor(proto.SerializeToString())


def test_unsupported_dtypes_are_refused() -> None:
    with pytest.raises(CodecError, match="datetime64"):
        encode_tensor(np.array(["2026-01-01"], "datetime64[D]"))
    with pytest.raises(CodecError, match="DataType 20"):
        decode_tensor(wire.TensorProto(dtype=20).SerializeToString())
