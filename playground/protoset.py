"""The descriptors that grpcurl needs to call a server without reflection, as the embedded one.

They are made from the client's own messages, which have upstream's field numbers under a separate
package: here upstream's package, the service and the names of the dtypes are restored.
"""

from typing import Final

from google.protobuf import descriptor_pb2, text_format

from duoserve._wire import wire_pb2 as wire

PACKAGE: Final = "tensorflow.serving"
DTYPES: Final = {
    "DT_INVALID": 0, "DT_FLOAT": 1, "DT_DOUBLE": 2, "DT_INT32": 3, "DT_UINT8": 4, "DT_STRING": 7, "DT_INT64": 9,
    "DT_BOOL": 10,
}  # fmt: skip
"""Numbers of `tensorflow.DataType` that models of the contract use."""


def protoset() -> bytes:
    """A serialised FileDescriptorSet with `tensorflow.serving.PredictionService`, for `grpcurl -protoset`."""
    found = descriptor_pb2.FileDescriptorSet()
    given = descriptor_pb2.FileDescriptorProto.FromString(wire.DESCRIPTOR.serialized_pb)
    text = text_format.MessageToString(given).replace(f".{given.package}.", f".{PACKAGE}.")
    file = text_format.Parse(text, found.file.add())
    file.package, file.name = PACKAGE, "tensorflow_serving/apis/prediction_service.proto"
    dtypes = file.enum_type.add(name="DataType")
    for name, number in DTYPES.items():
        dtypes.value.add(name=name, number=number)
    (tensor,) = (message for message in file.message_type if message.name == "TensorProto")
    (dtype,) = (field for field in tensor.field if field.name == "dtype")
    dtype.type, dtype.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_ENUM, f".{PACKAGE}.DataType"
    file.service.add(name="PredictionService").method.add(
        name="Predict", input_type=f".{PACKAGE}.PredictRequest", output_type=f".{PACKAGE}.PredictResponse"
    )
    return found.SerializeToString()
