"""A batch normalisation folded into the convolution or dense layer before it: one layer, with scaled weights."""

from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_LAST: Final = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
"""Their kernel ends with the output channels."""

_DEPTHWISE: Final = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
"""Their kernel ends with input channels and outputs of each."""

_SEPARABLE: Final = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
"""Their second kernel ends with the output channels."""

_FOR_TRAINING: Final = ("_initializer", "_regularizer", "_constraint")


def fold(layer: Any, norm: Any) -> keras.Layer | None:
    """One layer that computes `norm` of `layer`; None if they do not fit."""
    if not _fits(layer, norm):
        return None
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
    shift = (norm.beta.numpy() if norm.center else 0) - mean * scale
    weights = {each.name: each.numpy() for each in layer.weights}
    kernel = "pointwise_kernel" if type(layer) in _SEPARABLE else "kernel"
    each_channel = scale.reshape(layer.kernel.shape[-2:]) if type(layer) in _DEPTHWISE else scale
    with np.errstate(over="ignore", invalid="ignore"):
        weights[kernel] = weights[kernel] * each_channel
        weights["bias"] = weights.get("bias", 0) * scale + shift
    if not all(np.isfinite(each).all() for each in weights.values()):
        return None
    config = {name: value for name, value in layer.get_config().items() if not name.endswith(_FOR_TRAINING)}
    made = type(layer).from_config({**config, "use_bias": True})
    made.build(layer.get_build_config()["input_shape"])
    for variable in made.weights:
        variable.assign(weights[variable.name])
    return made


def _fits(layer: Any, norm: Any) -> bool:
    return (
        type(norm) is keras.layers.BatchNormalization
        and type(layer) in (*_LAST, *_DEPTHWISE, *_SEPARABLE)
        and layer.activation is keras.activations.linear
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and norm.axis in (-1, len(norm.get_build_config()["input_shape"]) - 1)
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
        and {layer.compute_dtype, norm.compute_dtype, *(each.dtype for each in (*layer.weights, *norm.weights))}
        == {"float32"}
    )
