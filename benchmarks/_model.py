"""Two-input models of the contract's shapes, untrained: speed does not depend on the weights.

    python -m benchmarks._model compact|reference OUT_DIR

"compact" is about what the demo trains; "reference" is the architecture at 224 pixels that
the project is named after in its issues: two convolutions, max-pooling, an LSTM of 128.
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

TOKENS, CLASSES = 32, 10
SIZES = {"compact": 64, "reference": 224}


def _pixels(preset: str, image: Any) -> Any:
    import keras

    layers = keras.layers
    if preset == "reference":
        made = layers.Conv2D(32, 3, activation="relu")(image)
        made = layers.Conv2D(64, 3, activation="relu")(made)
        return layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(made))
    made = layers.Conv2D(16, 3, strides=2, activation="relu")(image)
    made = layers.Conv2D(32, 3, strides=2, activation="relu")(made)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(64, 3, activation="relu")(made))


def build(preset: str, folder: pathlib.Path) -> None:
    """Write one SavedModel version with the contract's `serving_default`."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    size, vocabulary, units = SIZES[preset], *((10_000, 128) if preset == "reference" else (4_000, 64))
    image = keras.Input((size, size, 3), dtype="float32", name="image")
    tokens = keras.Input((TOKENS,), dtype="int32", name="tokens")
    words = keras.layers.Embedding(vocabulary, units)(tokens)
    words = keras.layers.LSTM(units, use_cudnn=False)(words)
    fused = keras.layers.Concatenate()([_pixels(preset, image), words])
    model = keras.Model([image, tokens], keras.layers.Dense(CLASSES, activation="softmax")(fused))

    module = tf.Module()
    module.variables_ = [variable.value for variable in model.weights]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, size, size, 3], tf.uint8, "image"),
            tf.TensorSpec([None, TOKENS], tf.int32, "tokens"),
        ]
    )
    def serve(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model([tf.cast(image, tf.float32) / 255.0, tokens])}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    build(sys.argv[1], pathlib.Path(sys.argv[2]))
