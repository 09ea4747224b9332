"""Write y = x / 2 + n the way TensorFlow 1 exporters did: reference variables, classify and regress methods.

    python half_plus_model.py OUT_DIR N

The models of TensorFlow Serving's own test suite, made again: `saved_model_half_plus_two`
and `saved_model_half_plus_three`, version 123.
"""

import sys

import tensorflow as tf

v1 = tf.compat.v1
sm = v1.saved_model


def write(path: str, plus: float) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=0.5, use_resource=False)
        b = v1.get_variable("b", initializer=plus, use_resource=False)
        serialised = v1.placeholder(tf.string, name="tf_example")
        feature = tf.io.FixedLenFeature([1], tf.float32)
        parsed = v1.parse_example(serialised, {"x": feature})
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        session.run(v1.global_variables_initializer())
        examples = sm.build_tensor_info(serialised)
        result = sm.build_tensor_info(y)

        def signature(inputs: dict, outputs: dict, method: str) -> object:
            return sm.build_signature_def(inputs, outputs, f"tensorflow/serving/{method}")

        builder = sm.Builder(path)
        builder.add_meta_graph_and_variables(
            session,
            [sm.tag_constants.SERVING],
            signature_def_map={
                "serving_default": signature({"x": sm.build_tensor_info(x)}, {"y": result}, "predict"),
                "classify_x_to_y": signature({"inputs": examples}, {"scores": result}, "classify"),
                "regress_x_to_y": signature({"inputs": examples}, {"outputs": result}, "regress"),
            },
        )
        builder.save()


if __name__ == "__main__":
    write(sys.argv[1], float(sys.argv[2]))
