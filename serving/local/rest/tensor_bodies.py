"""Predict bodies to requests, by rows ("instances") or by columns ("inputs")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.local.errors import ServingError, invalid_argument
from serving.local.rest import json_text
from serving.local.rest.values import all_plain, checked, field, is_object, signature_name

Infos = Mapping[str, meta_graph_pb2.TensorInfo]


def _dense_shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _flatten(value: Any, level: int, shape: list[int], dtype: int, out: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {json_text.dump(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        out.append(checked(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level + 1 == len(shape) and all_plain(value, dtype):
        out.extend(value)
        return
    for item in value:
        _flatten(item, level + 1, shape, dtype, out)


def _write(proto: tensor_pb2.TensorProto, dtype: int, shape: Iterable[int], values: list[Any]) -> None:
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    if values:
        getattr(proto, field(dtype)).extend(values)


class _Column:
    """One input, collected row by row."""

    def __init__(self, dtype: int) -> None:
        self.dtype = dtype
        self.values: list[Any] = []
        self.shape: list[int] | None = None
        self._size = 0

    def add(self, item: Any) -> None:
        shape, before = _dense_shape(item), len(self.values)
        _flatten(item, 0, shape, self.dtype, self.values)
        size = len(self.values) - before
        if self.shape is None:
            self.shape, self._size = shape, size
        elif self._size != size:
            raise invalid_argument(f"Expecting tensor size: {self._size} but got: {size}")
        elif self.shape != shape:
            raise invalid_argument(f"Expecting shape {_shape_text(self.shape)} but got: {_shape_text(shape)}")


def _shape_text(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _fill_rows(rows: list[Any], infos: Infos, request: predict_pb2.PredictRequest) -> None:
    if not isinstance(rows[0], dict) and len(infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns = {name: _Column(info.dtype) for name, info in infos.items()}
    objects = is_object(rows[0])
    for index, row in enumerate(rows):
        if objects:
            _add_object(row, index, columns)
        else:
            _add_value(row, index, next(iter(columns.values())))
    for name, column in columns.items():
        _write(request.inputs[name], column.dtype, [len(rows), *(column.shape or [])], column.values)


def _add_object(row: Any, index: int, columns: dict[str, _Column]) -> None:
    if not is_object(row):
        raise invalid_argument(f"Expecting object but got list at item {index} of input list")
    for name, item in json_text.members(row):
        try:
            if name not in columns:
                raise invalid_argument(f"JSON object: does not have named input: {name}")
            columns[name].add(item)
        except ServingError as error:
            raise invalid_argument(
                f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error}"
            ) from error
    if row.keys() != columns.keys():
        raise invalid_argument(
            f"Failed to process element: {index} of 'instances' list. JSON object: {json_text.dump(row)} keys must be "
            f"equal to: {','.join(sorted(columns))}"
        )


def _add_value(row: Any, index: int, column: _Column) -> None:
    if is_object(row):
        raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
    try:
        column.add(row)
    except ServingError as error:
        raise invalid_argument(f"Failed to process element: {index} of 'instances' list. Error: {error}") from error


def _fill_columns(value: Any, infos: Infos, request: predict_pb2.PredictRequest) -> None:
    if is_object(value):
        for name in sorted(infos):
            if name not in value:
                raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        items = [(name, value[name]) for name in sorted(infos)]
    elif len(infos) > 1:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        )
    else:
        items = [(next(iter(infos)), value)]
    for name, item in items:
        shape, values = _dense_shape(item), list[Any]()
        _flatten(item, 0, shape, infos[name].dtype, values)
        _write(request.inputs[name], infos[name].dtype, shape, values)


def fill(data: bytes, infos_of: Callable[[str], Infos], request: predict_pb2.PredictRequest) -> bool:
    """Fill a request from a body; True when it came by rows ("instances"), False by columns ("inputs")."""
    body = json_text.parse(data)
    name = request.model_spec.signature_name = signature_name(body)
    infos = infos_of(name)
    if not infos:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if "instances" in body and "inputs" in body:
        raise invalid_argument(
            f"JSON Value: {json_text.dump(body)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in body:
        rows = body["instances"]
        if not isinstance(rows, list):
            raise invalid_argument(f"JSON Value: {json_text.dump(body)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid_argument(f"JSON Value: {json_text.dump(body)} No values in 'instances' array")
        _fill_rows(rows, infos, request)
        return True
    if "inputs" in body:
        _fill_columns(body["inputs"], infos, request)
        return False
    raise invalid_argument("Missing 'inputs' or 'instances' key")
