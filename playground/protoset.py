"""The descriptors that grpcurl needs to call a stock server, which has no reflection.

They are made from the client's own messages, which have upstream's field numbers under a separate
package: here upstream's package, the service and the names of the dtypes are restored.
"""

from __future__ import annotations

from typing import Final

from google.protobuf import descriptor_pb2

from duoserve._wire import wire_pb2 as wire

__all__ = ["DTYPES", "PACKAGE", "protoset"]

PACKAGE: Final = "tensorflow.serving"
DTYPES: Final = {
    "DT_INVALID": 0,
    "DT_FLOAT": 1,
    "DT_DOUBLE": 2,
    "DT_INT32": 3,
    "DT_UINT8": 4,
    "DT_STRING": 7,
    "DT_INT64": 9,
    "DT_BOOL": 10,
}
"""Numbers of `tensorflow.DataType` that models of the contract use."""

_FIELD: Final = descriptor_pb2.FieldDescriptorProto


def protoset() -> bytes:
    """A serialised FileDescriptorSet with `tensorflow.serving.PredictionService`, for `grpcurl -protoset`."""
    found = descriptor_pb2.FileDescriptorSet()
    file = found.file.add()
    wire.DESCRIPTOR.CopyToProto(file)
    ours, file.package, file.name = file.package, PACKAGE, "tensorflow_serving/apis/prediction_service.proto"
    for message in file.message_type:
        _rename(message, f".{ours}.", f".{PACKAGE}.")
    dtypes = file.enum_type.add(name="DataType")
    for name, number in DTYPES.items():
        dtypes.value.add(name=name, number=number)
    (tensor,) = (message for message in file.message_type if message.name == "TensorProto")
    (dtype,) = (field for field in tensor.field if field.name == "dtype")
    dtype.type, dtype.type_name = _FIELD.TYPE_ENUM, f".{PACKAGE}.DataType"
    file.service.add(name="PredictionService").method.add(
        name="Predict", input_type=f".{PACKAGE}.PredictRequest", output_type=f".{PACKAGE}.PredictResponse"
    )
    return found.SerializeToString()


def _rename(message: descriptor_pb2.DescriptorProto, old: str, new: str) -> None:
    for field in message.field:
        if field.type_name.startswith(old):
            field.type_name = new + field.type_name[len(old) :]
    for nested in message.nested_type:
        _rename(nested, old, new)
