"""Requests and replies of TensorFlow Serving as bytes. No I/O."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy.typing as npt

from duoserve._checks import Target
from duoserve._wire.protobuf import CodecError, length_delimited, split, varint
from duoserve._wire.tensors import decode_tensor, dtype_name, tensor_map
from duoserve.contract import SignatureSpec, TensorSpec

__all__ = ["Outputs", "VersionStatus"]

PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA: Final = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS: Final = "/tensorflow.serving.ModelService/GetModelStatus"


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """The reply to a Predict call.

    Attributes:
        tensors: Arrays by output name; strings are object arrays of `bytes`.
        version: The servable version that answered.
    """

    tensors: Mapping[str, npt.NDArray[Any]]
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class VersionStatus:
    """State of one version on the server that answered.

    Attributes:
        version: The servable version.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: Why it ended; empty if there was no error.
    """

    version: int
    state: str
    error: str = ""


@functools.lru_cache(maxsize=256)
def _model_spec(field: int, model: str, version: Target, signature: str) -> bytes:
    spec = length_delimited(1, model.encode("utf-8"))
    if isinstance(version, int):
        spec += length_delimited(2, b"\x08" + varint(version))
    if signature:
        spec += length_delimited(3, signature.encode("utf-8"))
    if isinstance(version, str):
        spec += length_delimited(4, version.encode("utf-8"))
    return length_delimited(field, spec)


def encode_predict(
    model: str, version: Target, signature: str, inputs: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str] = ()
) -> bytes:
    """A serialised PredictRequest; the arrays are copied once."""
    parts = [_model_spec(1, model, version, signature)]
    parts += tensor_map(2, inputs)
    parts += [length_delimited(3, name.encode("utf-8")) for name in outputs]
    return b"".join(parts)


def decode_predict(data: bytes) -> Outputs:
    """Reads a serialised PredictResponse."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    version = 0
    for tag, start, end in split(data, 0, len(data)):
        if tag == 0x0A:  # outputs
            name, first, last = b"", 0, 0
            for item, begin, stop in split(data, start, end):
                if item == 0x0A:
                    name = data[begin:stop]
                elif item == 0x12:
                    first, last = begin, stop
            tensors[name.decode("utf-8", "replace")] = decode_tensor(data, first, last)
        elif tag == 0x12:  # model_spec
            version = _version(data[start:end])
    if not tensors or version < 1:
        raise CodecError(f"Expected a PredictResponse with tensors and a version. Received: {len(data)} other bytes")
    return Outputs(tensors, version)


@functools.lru_cache(maxsize=256)
def _version(spec: bytes) -> int:
    for tag, start, end in split(spec, 0, len(spec)):
        if tag == 0x12:
            return next((value for item, value, _ in split(spec, start, end) if item == 0x08), 0)
    return 0


def encode_status(model: str, version: Target) -> bytes:
    """A serialised GetModelStatusRequest."""
    return _model_spec(1, model, version, "")


def decode_status(data: bytes) -> list[VersionStatus]:
    """Reads a serialised GetModelStatusResponse, newest version first."""
    from duoserve._wire.wire_pb2 import GetModelStatusResponse, ModelVersionStatus

    reply = _parse(GetModelStatusResponse, data)
    names = {value: name for name, value in ModelVersionStatus.State.items()}
    found = [
        VersionStatus(item.version, names.get(item.state, str(item.state)), item.status.error_message)
        for item in reply.model_version_status
    ]
    return sorted(found, key=lambda item: -item.version)


def encode_metadata(model: str, version: Target) -> bytes:
    """A serialised GetModelMetadataRequest for the signatures."""
    return _model_spec(1, model, version, "") + length_delimited(2, b"signature_def")


def decode_metadata(data: bytes) -> tuple[dict[str, SignatureSpec], int]:
    """Reads a serialised GetModelMetadataResponse: signatures by name, and their version."""
    from duoserve._wire.wire_pb2 import GetModelMetadataResponse, SignatureDefMap

    reply = _parse(GetModelMetadataResponse, data)
    found = _parse(SignatureDefMap, reply.metadata["signature_def"].value)
    signatures = {
        name: SignatureSpec(name, _tensor_specs(definition.inputs), _tensor_specs(definition.outputs))
        for name, definition in sorted(found.signature_def.items())
        if not name.startswith("__saved_model")
    }
    return signatures, reply.model_spec.version.value


def _tensor_specs(infos: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name, dtype_name(info.dtype), tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        )
        for name, info in sorted(infos.items())
    )


def _parse(kind: Any, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise CodecError(f"Expected a {kind.DESCRIPTOR.name}. Received: {error}") from error
