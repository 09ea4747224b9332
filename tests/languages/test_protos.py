"""`client/proto` equals `tensorflow-serving-api`: the same bytes, message by message, and the same gRPC paths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

ROOT = Path(__file__).parents[2]
PROTOS = ["tensorflow/tensor.proto", "tensorflow/serving.proto", "grpc/health/v1/health.proto"]
UPSTREAM = {
    message.DESCRIPTOR.full_name: message
    for message in (
        model_pb2.ModelSpec,
        predict_pb2.PredictRequest,
        predict_pb2.PredictResponse,
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
        get_model_metadata_pb2.SignatureDefMap,
        tensor_pb2.TensorProto,
        meta_graph_pb2.SignatureDef,
    )
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pool.DescriptorPool:
    """What protoc makes of `client/proto`, in a pool beside TensorFlow's."""
    out = tmp_path_factory.mktemp("protos") / "all.pb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "client/proto", "--include_imports", *PROTOS]
    subprocess.run([*command, f"--descriptor_set_out={out}"], cwd=ROOT, check=True, timeout=60)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field that is not a message."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    bits = {FieldDescriptor.CPPTYPE_INT32: 31, FieldDescriptor.CPPTYPE_INT64: 63}
    if kind in bits:
        return st.integers(-(1 << bits[kind]), (1 << bits[kind]) - 1)
    unsigned = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}
    if kind in unsigned:
        return st.integers(0, (1 << unsigned[kind]) - 1)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=5) if field.type == FieldDescriptor.TYPE_BYTES else st.text(max_size=5)
    return st.floats(width=32, allow_nan=False)


def fill(draw: st.DrawFn, message: Any) -> Any:
    """Random content for every field, entered to the last level."""
    oneofs: set[str] = set()
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if draw(st.booleans()) or (oneof is not None and oneof.name in oneofs):
            continue
        if oneof is not None:
            oneofs.add(oneof.name)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            fill(draw, getattr(message, field.name)[draw(scalars(field.message_type.fields_by_name["key"]))])
        elif field.is_repeated and field.message_type is not None:
            fill(draw, getattr(message, field.name).add())
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(draw, getattr(message, field.name))
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


@pytest.mark.parametrize("name", UPSTREAM)
@settings(max_examples=40)
@given(data=st.data())
def test_messages_are_the_same_bytes(ours: descriptor_pool.DescriptorPool, name: str, data: st.DataObject) -> None:
    message = fill(data.draw, message_factory.GetMessageClass(ours.FindMessageTypeByName(name))())
    read = UPSTREAM[name].FromString(message.SerializeToString())
    assert type(message).FromString(read.SerializeToString()) == message
    # Field by field under the same names, nothing of it unknown.
    assert str(read) == str(UPSTREAM[name].FromString(read.SerializeToString()))
    assert sorted(known(read)) == sorted(known(message))


def known(message: Any) -> list[str]:
    return [field.name for field, _ in message.ListFields()]


@pytest.mark.parametrize("name", UPSTREAM)
def test_every_field_has_upstreams_name_number_and_type(ours: descriptor_pool.DescriptorPool, name: str) -> None:
    same(ours.FindMessageTypeByName(name), UPSTREAM[name].DESCRIPTOR, set())


def same(mine: Descriptor, theirs: Descriptor, seen: set[str]) -> None:
    if mine.full_name in seen:
        return
    seen.add(mine.full_name)
    for field in mine.fields:
        twin = theirs.fields_by_name[field.name]
        is_code = field.full_name == "tensorflow.serving.StatusProto.error_code"  # an int32 in place of the enum
        assert (field.number, field.is_repeated) == (twin.number, twin.is_repeated)
        assert field.type == twin.type or is_code
        if field.message_type is not None:
            same(field.message_type, twin.message_type, seen)
        if field.enum_type is not None:
            assert {v.name: v.number for v in field.enum_type.values}.items() <= {
                v.name: v.number for v in twin.enum_type.values
            }.items()


def test_the_paths_are_those_that_the_servers_answer(ours: descriptor_pool.DescriptorPool) -> None:
    from duoserve._wire import messages

    services = ["tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"]
    paths = {f"/{name}/{method.name}" for name in services for method in ours.FindServiceByName(name).methods}
    assert paths == {messages.PREDICT, messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS}
    assert {method.name for method in ours.FindServiceByName("grpc.health.v1.Health").methods} == {"Check", "Watch"}
