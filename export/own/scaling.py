"""How a model takes its pixels: the scaling inside the model, and the scaling before it."""

from typing import Any, Final

import keras
import numpy as np

from export.own.graph import Place, Tensor, consumers

_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)
_CAFFE_MEAN: Final = (103.939, 116.779, 123.68)
"""Of ImageNet, from `keras.applications.imagenet_utils`."""

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
IMAGE_DTYPES: Final = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", *FLOATS)
"""Dtypes that hold 0 to 255."""


def scale(image: Tensor, name: str) -> Tensor:
    """uint8 pixels, RGB, as float32 of one of `SCALES`."""
    pixels = keras.ops.cast(image, "float32")
    if name == "0..255":
        return pixels
    if name == "caffe":
        pixels = keras.ops.flip(pixels, axis=-1)
    factors, offsets = {
        "0..1": (1 / 255, 0.0),
        "tf": (1 / 127.5, -1),
        "torch": (
            [1 / (255 * deviation) for deviation in _DEVIATION],
            [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
        ),
        "caffe": (1.0, [-mean for mean in _CAFFE_MEAN]),
    }[name]
    return keras.layers.Rescaling(factors, offset=offsets, dtype="float32")(pixels)


def find_scaling(place: Place) -> str | None:
    """Name of the operation that scales pixels of 0 to 255, on every path from the image input to the first
    weights; None if a path has none."""
    names = []
    for operation, arguments, outputs in consumers(place):
        if _scales(operation, arguments):
            names.append(operation.name)
        elif not getattr(operation, "weights", None) and outputs:
            names += [find_scaling(output) for output in outputs]
        else:
            names.append(None)
    return names[0] if names and all(names) else None


def _scales(operation: Any, arguments: list[Any]) -> bool:
    """Whether an operation's constants fit pixels of 0 to 255."""
    kind = type(operation).__name__
    if kind == "Rescaling":
        return bool(np.max(np.abs(operation.scale)) <= 0.1)
    if kind == "Normalization":
        return operation.mean is not None and bool(np.max(np.asarray(operation.mean)) > 2)
    if kind not in ("Add", "Divide", "Multiply", "Subtract", "TrueDivide"):
        return False
    constants = [float(np.max(np.abs(value))) for value in arguments if not isinstance(value, keras.KerasTensor)]
    if len(constants) != 1:
        return False
    return constants[0] <= 0.1 if kind == "Multiply" else constants[0] >= 10
