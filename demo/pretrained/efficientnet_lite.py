"""EfficientNet-Lite0 in plain Keras: an EfficientNet of operations that any hardware has.

Tan and Le, "EfficientNet" (2019), without its squeeze-and-excitation and with ReLU6 for swish; the
weights are TensorFlow's of ImageNet, in the names of the PyTorch port.
"""

from typing import Any, Final

import keras
from keras import layers

from demo.pretrained.weights import Array, Named, Weights, assign

WIDTH: Final = 1280
# Repeats, kernel, stride of the first, expansion, channels.
STAGES: Final = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


def image_encoder(
    size: int,
    weights: Weights | None = None,
    *,
    stem: int = 32,
    stages: Any = STAGES,
    width: int = WIDTH,
    classes: int = 0,
) -> keras.Model:
    """Pixels to the mean of the last layer over the image, or to the logits of ImageNet's classes.

    Args:
        size: Height and width in pixels; the weights were trained on 224.
        weights: A state dict of `EfficientNet` as PyTorch's port names it. None: random ones.
        stem, stages, width: Channels of the first layer, the blocks, channels of the last layer.
        classes: Columns of the logits; 0 gives the mean.

    Returns:
        A model of pixels (batch, size, size, 3) from 0 to 255 to float32 (batch, width or classes).

    Raises:
        WeightsError: A weight is missing or has another shape.
    """
    pixels = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(pixels)
    x = _normed(layers.Conv2D(stem, 3, 2, "same", use_bias=False, name="conv_stem"), "bn0", x)
    number = 0
    for repeats, kernel, stride, expansion, channels in stages:
        for repeat in range(repeats):
            x = _block(x, f"blocks.{number}.", kernel, 1 if repeat else stride, expansion, channels)
            number += 1
    x = _normed(layers.Conv2D(width, 1, use_bias=False, name="conv_head"), "bn1", x)
    x = layers.GlobalAveragePooling2D()(x)
    if classes:
        x = layers.Dense(classes, name="fc")(x)
    model = keras.Model(pixels, x, name="efficientnet_lite0")
    if weights is not None:
        for layer in model.layers:
            if layer.weights:
                assign(layer, _arrays(layer, Named(weights)))
    return model


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    begin = x
    if expansion > 1:
        wide = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand_conv")
        x = _normed(wide, f"{name}_bn0", x)
    depthwise = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv")
    x = _normed(depthwise, f"{name}_bn1", x)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn2")(x)
    return x + begin if x.shape == begin.shape else x


def _normed(layer: layers.Layer, name: str, x: Any) -> Any:
    return layers.ReLU(6)(layers.BatchNormalization(epsilon=1e-3, name=name)(layer(x)))


def _arrays(layer: layers.Layer, weights: Weights) -> list[Array]:
    """The weights of a layer, as Keras orders and shapes them."""
    name = f"_{layer.name}"  # TensorFlow takes no name that begins so
    kernel = weights[f"{name}.weight"]
    if isinstance(layer, layers.BatchNormalization):
        return [kernel, *(weights[f"{name}.{each}"] for each in ("bias", "running_mean", "running_var"))]
    if isinstance(layer, layers.Dense):
        return [kernel.T, weights[f"{name}.bias"]]
    # Of a depthwise convolution PyTorch has (channels, 1, height, width).
    return [kernel.transpose((2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0))]
