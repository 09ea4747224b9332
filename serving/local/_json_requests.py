"""REST bodies to requests, with the stock server's rules and words."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, predict_pb2, regression_pb2

from serving.local import _json
from serving.local._errors import Code, ServingError, invalid_argument
from serving.local._tensors import type_name

Infos = Mapping[str, meta_graph_pb2.TensorInfo]

# dtype -> field, smallest and largest value that RapidJSON's Is...() lets through.
_INTEGERS: Final[dict[int, tuple[str, int, int]]] = {
    **dict.fromkeys(
        (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8),
        ("int_val", -(2**31), 2**31 - 1),
    ),
    types_pb2.DT_INT64: ("int64_val", -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: ("uint32_val", 0, 2**32 - 1),
    types_pb2.DT_UINT64: ("uint64_val", 0, 2**64 - 1),
}
_FLOATS: Final[dict[int, tuple[str, str, Any]]] = {
    types_pb2.DT_FLOAT: ("float_val", "float", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", "double", np.float64),
}


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_b64(value)


def _decode_b64(value: Any) -> bytes:
    if not _is_b64(value):
        raise invalid_argument(f"JSON Value: {_json.dump(value)} not formatted correctly for base64 data")
    text = value["b64"].translate({ord(c): None for c in " \t\r\n"})
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4) if "=" not in text else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _lossless(value: float, kind: Any) -> bool:
    info = np.finfo(kind)
    if isinstance(value, int):
        return abs(value) <= (1 << (info.nmant + 1)) - 1
    return not math.isfinite(value) or abs(value) <= float(info.max)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _type_error(value: Any, dtype: int) -> ServingError:
    return invalid_argument(
        f"JSON Value: {_json.dump(value)} Type: {_json.type_name(value)} is not of expected type: {type_name(dtype)}"
    )


def _lossy(value: float, name: str) -> ServingError:
    return invalid_argument(f"Cannot convert JSON value: {_json.dump(value)} to {name} without loss of precision.")


def _checked(value: Any, dtype: int) -> Any:
    """One element, as the field of its dtype takes it."""
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        return _decode_b64(value)
    if dtype == types_pb2.DT_STRING:
        if not isinstance(value, str):
            raise _type_error(value, dtype)
        return value.encode("utf-8", "surrogatepass")
    if dtype == types_pb2.DT_BOOL:
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    if dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _type_error(value, dtype)
        return value
    if dtype in _FLOATS:
        _, name, kind = _FLOATS[dtype]
        if not _is_number(value):
            raise _type_error(value, dtype)
        if not _lossless(value, kind):
            raise invalid_argument(
                f"Cannot convert JSON value: {_json.dump(value)} to {name} without loss of precision."
            )
        return float(value)
    raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {_json.dump(value)} to type: {type_name(dtype)}")


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
                f"JSON Value: {_json.dump(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        out.append(_checked(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level + 1 == len(shape) and _all_plain(value, dtype):
        out.extend(value)
        return
    for item in value:
        _flatten(item, level + 1, shape, dtype, out)


def _all_plain(values: list[Any], dtype: int) -> bool:
    """Whether a row of small numbers needs no look at each: what pictures are made of."""
    if dtype in _INTEGERS:
        _, low, high = _INTEGERS[dtype]
        return set(map(type, values)) == {int} and low <= min(values) and max(values) <= high
    return dtype in _FLOATS and set(map(type, values)) == {float} and max(map(abs, values)) <= 3e38


def _field(dtype: int) -> str:
    if dtype in _INTEGERS:
        return _INTEGERS[dtype][0]
    if dtype in _FLOATS:
        return _FLOATS[dtype][0]
    return "bool_val" if dtype == types_pb2.DT_BOOL else "string_val"


def _write(proto: tensor_pb2.TensorProto, dtype: int, shape: Iterable[int], values: list[Any]) -> None:
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    if values:
        getattr(proto, _field(dtype)).extend(values)


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
    objects = _is_object(rows[0])
    for index, row in enumerate(rows):
        if objects:
            _add_object(row, index, columns)
        else:
            _add_value(row, index, next(iter(columns.values())))
    for name, column in columns.items():
        _write(request.inputs[name], column.dtype, [len(rows), *(column.shape or [])], column.values)


def _add_object(row: Any, index: int, columns: dict[str, _Column]) -> None:
    if not _is_object(row):
        raise invalid_argument(f"Expecting object but got list at item {index} of input list")
    for name, item in row.items():
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
            f"Failed to process element: {index} of 'instances' list. JSON object: {_json.dump(row)} keys must be "
            f"equal to: {','.join(sorted(columns))}"
        )


def _add_value(row: Any, index: int, column: _Column) -> None:
    if _is_object(row):
        raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
    try:
        column.add(row)
    except ServingError as error:
        raise invalid_argument(f"Failed to process element: {index} of 'instances' list. Error: {error}") from error


def _fill_columns(value: Any, infos: Infos, request: predict_pb2.PredictRequest) -> None:
    if _is_object(value):
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


def _signature_name(body: dict[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {_json.dump(body)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def fill_predict(data: bytes, infos_of: Callable[[str], Infos], request: predict_pb2.PredictRequest) -> bool:
    """Fill a request from a body; True when it came by rows ("instances"), False by columns ("inputs")."""
    body = _json.parse(data)
    name = request.model_spec.signature_name = _signature_name(body)
    infos = infos_of(name)
    if not infos:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if "instances" in body and "inputs" in body:
        raise invalid_argument(
            f"JSON Value: {_json.dump(body)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in body:
        rows = body["instances"]
        if not isinstance(rows, list):
            raise invalid_argument(f"JSON Value: {_json.dump(body)} Excepting 'instances' to be an list/array")
        if not rows:
            raise invalid_argument(f"JSON Value: {_json.dump(body)} No values in 'instances' array")
        _fill_rows(rows, infos, request)
        return True
    if "inputs" in body:
        _fill_columns(body["inputs"], infos, request)
        return False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def fill_examples(
    data: bytes, request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest
) -> None:
    """Fill a classify or regress request from a body with "examples" and maybe a "context"."""
    body = _json.parse(data)
    request.model_spec.signature_name = _signature_name(body)
    source: input_pb2.Input = request.input
    target: Any = source.example_list
    if "context" in body:
        _fill_example(body["context"], source.example_list_with_context.context)
        target = source.example_list_with_context
    if "examples" not in body:
        raise invalid_argument(
            f"JSON Value: {_json.dump(body)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = body["examples"]
    if not isinstance(examples, list):
        raise invalid_argument(f"JSON Value: {_json.dump(body)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid_argument(f"JSON Value: {_json.dump(body)} 'examples' value is an empty array")
    for example in examples:
        _fill_example(example, target.examples.add())


def _fill_example(value: Any, example: example_pb2.Example) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {_json.type_name(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)


def _add_to_feature(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if value is None or isinstance(value, list) or _is_object(value):
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {_json.type_name(value)}")
    converted: Any = value
    if isinstance(value, (dict, str)):
        kind, converted = "bytes", _decode_b64(value) if isinstance(value, dict) else value.encode()
    elif isinstance(value, float):
        kind = "float"
        if not _lossless(value, np.float32):
            raise invalid_argument(
                f"Cannot convert JSON value: {_json.dump(value)} to float without loss of precision."
            )
    else:
        kind, converted = "int64", int(value)
    has = feature.WhichOneof("kind")
    if has not in (None, f"{kind}_list"):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {str(has).removesuffix('_list')}"
        )
    if kind == "int64" and not -(1 << 63) <= converted < 1 << 63:
        raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
    getattr(feature, f"{kind}_list").value.append(converted)
