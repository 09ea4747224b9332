"""Write the tiny two-input models that the recorded cases were run against.

    python pair_model.py OUT_DIR

writes OUT_DIR/pair/{1,2,3}. Needs tensorflow only. The arithmetic is fixed, so any
TensorFlow gives the recorded numbers (compare floats to 1e-4).
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

CLASSES = np.array(["cat", "dog", "owl"])


class Pair(tf.Module):
    """probabilities = softmax(3 * mean_rgb(image) + mean(embedding[tokens]) + bias(version))."""

    def __init__(self, version: int):
        super().__init__()
        self.embedding = tf.Variable(np.linspace(-1, 1, 30).reshape(10, 3).astype("f4"))
        self.bias = tf.Variable(np.array([0.0, 0.5, -0.5], "f4") * version)
        self.version = version

    def _probabilities(self, image, tokens):
        visual = 3.0 * tf.reduce_mean(tf.cast(image, tf.float32) / 255.0, axis=[1, 2])
        textual = tf.reduce_mean(tf.gather(self.embedding, tokens), axis=1)
        return tf.nn.softmax(visual + textual + self.bias)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4, 4, 3], tf.uint8, "image"),
            tf.TensorSpec([None, None], tf.int32, "tokens"),
        ]
    )
    def tensors(self, image, tokens):
        return {"probabilities": self._probabilities(image, tokens)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "image_bytes"), tf.TensorSpec([None], tf.string, "text")]
    )
    def encoded(self, image_bytes, text):
        def decode(data):
            pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
            return tf.cast(tf.round(tf.image.resize(pixels, (4, 4), antialias=True)), tf.uint8)

        image = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([4, 4, 3], tf.uint8))
        tokens = tf.strings.to_hash_bucket_fast(tf.strings.split(text).to_tensor(""), 10)
        return {"probabilities": self._probabilities(image, tf.cast(tokens, tf.int32))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"]
        scores = tf.nn.softmax(x + self.bias)
        classes = tf.tile(tf.constant(CLASSES)[None], [tf.shape(x)[0], 1])
        return {"classes": classes, "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"]
        return {"outputs": tf.reduce_sum(x, 1, keepdims=True) * float(self.version)}

    @tf.function(input_signature=[])
    def describe(self):
        return {"spec": tf.constant(json.dumps({"version": self.version}))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "key")])
    def describe_rows(self, key):
        return {"spec": tf.fill(tf.shape(key), json.dumps({"version": self.version}))}


def write(out: pathlib.Path, version: int) -> None:
    model = Pair(version)
    tf.saved_model.save(
        model,
        str(out / "pair" / str(version)),
        signatures={
            "serving_default": model.tensors,
            "encoded": model.encoded,
            "classify": model.classify,
            "regress": model.regress,
            "describe": model.describe,
            "describe_rows": model.describe_rows,
        },
    )


if __name__ == "__main__":
    for number in (1, 2, 3):
        write(pathlib.Path(sys.argv[1]), number)
