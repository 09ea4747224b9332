"""TensorProto to array and back: the server reads TensorFlow's tensors, and TensorFlow the server's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.local.tensors import TensorError, fill_proto, to_array

DTYPES = [
    np.float32, np.float64, np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32,
    np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


def proto_of(array: Any, *, as_content: bool) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    fill_proto(array, proto, as_content=as_content)
    return proto


@given(ARRAYS, st.booleans())
def test_numbers_survive_a_round_trip(array: np.ndarray, as_content: bool) -> None:
    proto = proto_of(array, as_content=as_content)
    for read in (to_array(proto), tf.make_ndarray(proto)):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_strings_survive_a_round_trip(texts: list[bytes], as_content: bool) -> None:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    proto = proto_of(array, as_content=as_content)
    assert to_array(proto).tolist() == texts
    if not as_content:
        assert tf.make_ndarray(proto).tolist() == texts


@given(ARRAYS)
def test_tensors_written_by_tensorflow_are_read(array: np.ndarray) -> None:
    np.testing.assert_array_equal(to_array(tf.make_tensor_proto(array)), array)


@pytest.mark.parametrize("name", ["qint8", "quint8", "qint16", "quint16", "qint32"])
def test_quantised_numbers_survive_a_round_trip(name: str) -> None:
    array = np.array([3, 4, 5], np.int32).astype(tf.as_dtype(name).as_numpy_dtype)
    for as_content in (True, False):
        read = to_array(proto_of(array, as_content=as_content))
        assert (read.dtype, read.tolist()) == (array.dtype, array.tolist())


def test_bfloat16_and_half_go_as_bits() -> None:
    for dtype in (ml_dtypes.bfloat16, np.float16):
        array = np.array([1.5, -2.0], dtype)
        for as_content in (True, False):
            np.testing.assert_array_equal(to_array(proto_of(array, as_content=as_content)), array)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_short_field_is_filled_with_its_last_value_and_a_long_one_cut(have: int, size: int) -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT32, int_val=range(have))
    proto.tensor_shape.dim.add(size=size)
    expected = [min(index, have - 1) for index in range(size)]
    assert to_array(proto).tolist() == expected


def test_a_string_that_fills_a_tensor_keeps_its_trailing_nul() -> None:
    proto = tensor_pb2.TensorProto(dtype="DT_STRING", tensor_shape={"dim": [{"size": 3}]}, string_val=[b"x\0"])
    assert to_array(proto).tolist() == [b"x\0"] * 3


def test_no_values_at_all_are_zeros() -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    proto.tensor_shape.dim.add(size=2)
    assert to_array(proto).tolist() == [b"", b""]


@pytest.mark.parametrize(
    "proto",
    [
        tensor_pb2.TensorProto(),
        tensor_pb2.TensorProto(dtype="DT_RESOURCE"),
        tensor_pb2.TensorProto(dtype="DT_FLOAT", tensor_shape={"unknown_rank": True}),
        tensor_pb2.TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": -1}]}),
        tensor_pb2.TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": 1 << 40}, {"size": 1 << 40}]}),
        tensor_pb2.TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"abc"),
        tensor_pb2.TensorProto(dtype="DT_STRING", tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"\xff\xff"),
        tensor_pb2.TensorProto(dtype="DT_STRING", tensor_shape={"dim": [{"size": 1}]}, tensor_content=b"\x05ab"),
        tensor_pb2.TensorProto(dtype="DT_STRING", tensor_shape={"dim": [{"size": 1 << 50}]}, tensor_content=b"\x01"),
    ],
)
def test_invalid_tensors_are_refused(proto: tensor_pb2.TensorProto) -> None:
    with pytest.raises(TensorError):
        to_array(proto)


def test_one_value_is_not_stretched_to_a_terabyte() -> None:
    for dtype, field in (("DT_FLOAT", "float_val"), ("DT_STRING", "string_val")):
        proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": 1 << 38}]})
        getattr(proto, field).append(1.0 if field == "float_val" else b"x")
        with pytest.raises(TensorError, match="Expected values for all but"):
            to_array(proto)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        proto = tensor_pb2.TensorProto.FromString(data)
    except Exception:
        return
    try:
        array = to_array(proto)
    except TensorError:
        return
    assert list(array.shape) == [dim.size for dim in proto.tensor_shape.dim]
