"""The bytes of TensorFlow Serving's protocol: tensors, requests and replies. No I/O."""
