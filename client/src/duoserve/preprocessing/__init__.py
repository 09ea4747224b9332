"""From an image, a clip or a text to a model's input tensors. Its twin in TensorFlow is `export/graph`."""
