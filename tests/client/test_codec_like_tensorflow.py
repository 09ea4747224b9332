"""TensorFlow reads our tensors, and we read TensorFlow's."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from duoserve._wire.tensors import decode_tensor, encode_tensor
from tests.client.test_codec import NUMERIC


def arrays() -> list[np.ndarray]:
    values = np.arange(-6, 18).reshape(2, 3, 4)
    return [*(values.astype(name) for name in NUMERIC), np.zeros((0, 3), np.float32), np.float32(2.5).reshape(())]


@pytest.mark.parametrize("array", arrays(), ids=lambda array: f"{array.dtype}{array.shape}")
def test_both_ways(array: np.ndarray) -> None:
    data = b"".join(encode_tensor(array))
    np.testing.assert_array_equal(tf.make_ndarray(tensor_pb2.TensorProto.FromString(data)), array)
    tensor = tf.constant(array)
    ours = decode_tensor(tf.make_tensor_proto(array).SerializeToString())
    graph = decode_tensor(tf.io.serialize_tensor(tensor).numpy())
    for found in (ours, graph):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_strings_both_ways() -> None:
    array = np.array([[b"", b"\x00\xff"], ["手".encode(), b"a" * 300]], object)
    data = b"".join(encode_tensor(array))
    np.testing.assert_array_equal(tf.make_ndarray(tensor_pb2.TensorProto.FromString(data)), array)
    np.testing.assert_array_equal(decode_tensor(tf.make_tensor_proto(array).SerializeToString()), array)


def test_bfloat16_is_sent_as_it_is_and_read_as_float32() -> None:
    array = np.array([1.5, -2.0, 3.25], ml_dtypes.bfloat16)
    data = b"".join(encode_tensor(array))
    np.testing.assert_array_equal(tf.make_ndarray(tensor_pb2.TensorProto.FromString(data)), array)
    for form in (tf.make_tensor_proto(tf.constant(array)).SerializeToString(), data):
        assert decode_tensor(form).dtype == np.float32
        np.testing.assert_array_equal(decode_tensor(form), array.astype(np.float32))
