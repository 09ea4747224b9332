"""A compact two-input model of the contract's shapes, untrained: speed does not depend on the weights."""

from __future__ import annotations

import os
import pathlib
import sys

SIZE, TOKENS, CLASSES = 64, 32, 10


def build(folder: pathlib.Path) -> None:
    """Write one SavedModel version with the contract's `serving_default`."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    image = keras.Input((SIZE, SIZE, 3), dtype="float32", name="image")
    pixels = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(image)
    pixels = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(pixels)
    pixels = keras.layers.Conv2D(64, 3, activation="relu")(pixels)
    pixels = keras.layers.GlobalAveragePooling2D()(pixels)
    tokens = keras.Input((TOKENS,), dtype="int32", name="tokens")
    words = keras.layers.Embedding(4000, 64)(tokens)
    words = keras.layers.LSTM(64, use_cudnn=False)(words)
    fused = keras.layers.Dense(64, activation="relu")(keras.layers.Concatenate()([pixels, words]))
    model = keras.Model([image, tokens], keras.layers.Dense(CLASSES, activation="softmax")(fused))

    module = tf.Module()
    module.variables_ = [variable.value for variable in model.weights]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, "image"),
            tf.TensorSpec([None, TOKENS], tf.int32, "tokens"),
        ]
    )
    def serve(image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model([tf.cast(image, tf.float32) / 255.0, tokens])}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    build(pathlib.Path(sys.argv[1]))
