"""How an image branch and a text branch become one vector.

A fusion takes what the branches made of a batch: the image as `regions`, an array of shape
(batch, height, width, channels), and as `image`, one vector; the text as one vector.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import keras
from keras import layers

FUSED: Final = "fused"
"""The layer whose output vector contains both inputs."""

Tensor = Any  # keras.KerasTensor: keras has no types to check against
Fusion = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def concat(regions: Tensor, image: Tensor, text: Tensor, width: int) -> Tensor:
    """Both vectors, concatenated."""
    return layers.Concatenate(name=FUSED)([image, text])


def weighted_sum(regions: Tensor, image: Tensor, text: Tensor, width: int) -> Tensor:
    """Both vectors projected to one width and added with learned weights that sum to 1."""
    image, text = layers.Dense(width, name="image_in_sum")(image), layers.Dense(width, name="text_in_sum")(text)
    return WeightedSum(name=FUSED)([image, text])


def attention(regions: Tensor, image: Tensor, text: Tensor, width: int) -> Tensor:
    """Attention of the text over the regions of the image; the result is concatenated with both vectors.

    `image` is included, so that regions without attention still count.
    """
    regions = layers.Reshape((-1, regions.shape[-1]), name="regions")(regions)
    query = layers.Reshape((1, width), name="query")(layers.Dense(width, name="query_of_text")(text))
    keys = layers.Dense(width, name="keys")(regions)
    values = layers.Dense(width, name="values")(regions)
    # Scaled by a learned factor that starts at 1/sqrt(width): without it softmax saturates.
    query = layers.Rescaling(width**-0.5, name="scaled_query")(query)
    seen = layers.Attention(use_scale=True, name="attention")([query, values, keys])
    return layers.Concatenate(name=FUSED)([layers.Reshape((width,), name="seen")(seen), image, text])


@keras.saving.register_keras_serializable(package="duoserve")
class WeightedSum(layers.Layer):  # type: ignore[misc]
    """Adds vectors of one width: softmax(weights)[i] * vector[i]. The weights start equal."""

    def build(self, input_shape: Any) -> None:
        self.importance = self.add_weight(name="importance", shape=(len(input_shape),), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        shares = keras.ops.softmax(self.importance)
        return sum(shares[position] * vector for position, vector in enumerate(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="duoserve")
class Alone(layers.Layer):  # type: ignore[misc]
    """The first of its inputs. It takes the others too because a saved model has to use every input."""

    def call(self, inputs: Any) -> Any:
        return inputs[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


FUSE: Final[Mapping[str, Fusion]] = MappingProxyType(
    {
        "concat": concat,
        "weighted_sum": weighted_sum,
        "attention": attention,
        # The baselines: the other branch is left out.
        "image_only": lambda regions, image, text, width: image,
        "text_only": lambda regions, image, text, width: text,
    }
)
"""By name."""
