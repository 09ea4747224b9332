"""From an image, a clip or a text to the numbers that a model takes. Its twin in TensorFlow is `export/graph`."""
